//! A file of vectors with the ids of the people they are of: Parquet or safetensors.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use safetensors::{Dtype, tensor::TensorView};
use trainer::embed::Embedded;

use crate::files::WholeFile;
use crate::parquet_file::{properties, write_column};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A row a vector: user, position (from 0), embedding; written as it comes
    Parquet,
    /// The tensor `embeddings`, ids as a JSON list in the metadata's `users`; kept in memory until
    /// the end. Where people differ in their number of vectors, all of them in one row after the
    /// other, and the tensor `lengths`
    Safetensors,
}

impl Format {
    /// The format that was asked for, or that the file's name ends with.
    pub(crate) fn of(asked: Option<Self>, path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match (asked, extension.as_deref()) {
            (Some(format), _) => Ok(format),
            (None, Some("parquet")) => Ok(Self::Parquet),
            (None, Some("safetensors")) => Ok(Self::Safetensors),
            (None, _) => bail!(
                "which format is {}? end its name in .parquet or .safetensors, or name one with --format",
                path.display()
            ),
        }
    }
}

/// Takes vectors and writes them, whole or not at all.
pub(crate) enum Vectors {
    Parquet {
        file: WholeFile,
        writer: Box<SerializedFileWriter<BufWriter<File>>>,
        waiting: Group,
    },
    Safetensors {
        path: PathBuf,
        users: Vec<String>,
        lengths: Vec<usize>,
        width: usize,
        /// All values, little-endian.
        bytes: Vec<u8>,
    },
}

/// Rows that wait to become a row group.
#[derive(Default)]
pub(crate) struct Group {
    users: Vec<ByteArray>,
    positions: Vec<i32>,
    values: Vec<f32>,
    /// 0 where a vector begins, 1 inside.
    repetition: Vec<i16>,
}

const VALUES_PER_GROUP: usize = 1 << 22;

const SCHEMA: &str = "message embeddings {
    required binary user (STRING);
    required int32 position;
    required group embedding (LIST) { repeated group list { required float element; } }
}";

impl Vectors {
    pub(crate) fn begin(format: Format, path: &Path) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Parquet => {
                let file = WholeFile::begin(path)?;
                let schema = Arc::new(parse_message_type(SCHEMA).expect("the schema is constant"));
                let to = BufWriter::new(file.writer()?);
                Self::Parquet {
                    writer: Box::new(SerializedFileWriter::new(
                        to,
                        schema,
                        Arc::new(properties()),
                    )?),
                    waiting: Group::default(),
                    file,
                }
            }
            Format::Safetensors => Self::Safetensors {
                path: path.to_path_buf(),
                users: Vec::new(),
                lengths: Vec::new(),
                width: 0,
                bytes: Vec::new(),
            },
        })
    }

    /// Take the vectors of some more people.
    pub(crate) fn write<'u>(
        &mut self,
        people: impl Iterator<Item = &'u str>,
        embedded: &Embedded,
    ) -> anyhow::Result<()> {
        match self {
            Self::Parquet {
                writer, waiting, ..
            } => {
                for (user, vectors) in people.zip(&embedded.people) {
                    waiting.push(user, vectors, embedded.width);
                }
                if waiting.values.len() >= VALUES_PER_GROUP {
                    waiting.write(writer)?;
                }
            }
            Self::Safetensors {
                users,
                lengths,
                width,
                bytes,
                ..
            } => {
                *width = embedded.width;
                users.extend(people.map(str::to_string));
                for vectors in &embedded.people {
                    lengths.push(vectors.len() / embedded.width);
                    bytes.extend(vectors.iter().flat_map(|value| value.to_le_bytes()));
                }
            }
        }
        Ok(())
    }

    /// All is there: let the file appear. `what` the vectors are is noted in it, if it has a place
    /// for that; `is_one` if it is one vector a person.
    pub(crate) fn finish(self, what: &str, is_one: bool) -> anyhow::Result<()> {
        match self {
            Self::Parquet {
                file,
                mut writer,
                mut waiting,
            } => {
                if !waiting.users.is_empty() {
                    waiting.write(&mut writer)?;
                }
                writer.close()?;
                file.keep()
            }
            Self::Safetensors {
                path,
                users,
                lengths,
                width,
                bytes,
            } => {
                let is_even = lengths.iter().all(|n| *n == lengths[0]);
                let shape = match (is_one, is_even) {
                    (true, _) => vec![users.len(), width],
                    (false, true) => vec![users.len(), lengths[0], width],
                    (false, false) => vec![lengths.iter().sum(), width],
                };
                let mut tensors = vec![(
                    "embeddings",
                    TensorView::new(Dtype::F32, shape, &bytes).expect("as many values"),
                )];
                let to_i64 = |n: &usize| (*n as i64).to_le_bytes();
                let length_bytes: Vec<u8> = lengths.iter().flat_map(to_i64).collect();
                if !is_even {
                    let lengths = TensorView::new(Dtype::I64, vec![users.len()], &length_bytes);
                    tensors.push(("lengths", lengths.expect("as many values")));
                }
                let metadata = HashMap::from([
                    ("what".to_string(), what.to_string()),
                    ("users".to_string(), serde_json::to_string(&users)?),
                ]);
                let contents = safetensors::serialize(tensors, Some(metadata))?;
                let whole = WholeFile::begin(&path)?;
                let written = whole.writer()?.write_all(&contents);
                written.with_context(|| format!("cannot write {}", path.display()))?;
                whole.keep()
            }
        }
    }
}

impl Group {
    fn push(&mut self, user: &str, vectors: &[f32], width: usize) {
        for (position, vector) in (0..).zip(vectors.chunks(width)) {
            self.users.push(user.into());
            self.positions.push(position);
            self.values.extend_from_slice(vector);
            self.repetition
                .extend((0..width).map(|at| i16::from(at > 0)));
        }
    }

    fn write(&mut self, writer: &mut SerializedFileWriter<BufWriter<File>>) -> anyhow::Result<()> {
        let mut group = writer.next_row_group()?;
        write_column::<ByteArrayType>(&mut group, &self.users, None)?;
        write_column::<Int32Type>(&mut group, &self.positions, None)?;
        // No vector is empty, so every value is there.
        let definition = vec![1; self.values.len()];
        let levels = Some((&definition[..], &self.repetition[..]));
        write_column::<FloatType>(&mut group, &self.values, levels)?;
        group.close()?;
        *self = Self::default();
        Ok(())
    }
}
