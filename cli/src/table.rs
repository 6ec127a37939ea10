//! A table of recommendations, row by row: CSV, JSON lines or Parquet.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use parquet::data_type::{ByteArrayType, FloatType, Int32Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde::Serialize;

use crate::parquet_file::write_column;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, compressed; what other programs read fastest
    Parquet,
    /// With a header
    Csv,
    /// One JSON object a line
    Jsonl,
}

impl Format {
    /// The format that was asked for, or that the file's name ends with.
    pub(crate) fn of(asked: Option<Self>, path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match (asked, extension.as_deref()) {
            (Some(format), _) => Ok(format),
            (None, Some("parquet")) => Ok(Self::Parquet),
            (None, Some("csv")) => Ok(Self::Csv),
            (None, Some("jsonl" | "ndjson")) => Ok(Self::Jsonl),
            (None, _) => bail!(
                "which format is {}? end its name in .parquet, .csv or .jsonl, or name one with --format",
                path.display()
            ),
        }
    }
}

/// One recommendation.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) user: String,
    /// From 1.
    pub(crate) rank: i32,
    /// The item's id in the data files.
    pub(crate) item: String,
    pub(crate) title: String,
    pub(crate) score: f32,
}

/// Takes rows and writes them.
pub(crate) enum Table<W: Write + Send> {
    Csv(csv::Writer<W>),
    JsonLines(W),
    Parquet {
        writer: SerializedFileWriter<W>,
        /// Rows that wait to become a group: small groups are slow to read.
        waiting: Vec<Row>,
    },
}

const ROWS_PER_GROUP: usize = 1 << 16;

const SCHEMA: &str = "message recommendations {
    required binary user (STRING);
    required int32 rank;
    required binary item (STRING);
    required binary title (STRING);
    required float score;
}";

impl<W: Write + Send> Table<W> {
    pub(crate) fn new(format: Format, to: W) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Csv => Self::Csv(csv::Writer::from_writer(to)),
            Format::Jsonl => Self::JsonLines(to),
            Format::Parquet => {
                let schema = Arc::new(parse_message_type(SCHEMA).expect("the schema is constant"));
                let properties = Arc::new(crate::parquet_file::properties());
                Self::Parquet {
                    writer: SerializedFileWriter::new(to, schema, properties)?,
                    waiting: Vec::new(),
                }
            }
        })
    }

    /// Write some more rows.
    pub(crate) fn write(&mut self, rows: Vec<Row>) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => {
                for row in rows {
                    writer.serialize(row).context("cannot write the table")?;
                }
            }
            Self::JsonLines(writer) => {
                let mut text = Vec::new();
                for row in rows {
                    serde_json::to_writer(&mut text, &row)?;
                    text.push(b'\n');
                }
                writer.write_all(&text).context("cannot write the table")?;
            }
            Self::Parquet { writer, waiting } => {
                waiting.extend(rows);
                if waiting.len() >= ROWS_PER_GROUP {
                    write_group(writer, waiting)?;
                }
            }
        }
        Ok(())
    }

    /// Write what is left.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(mut writer) => writer.flush()?,
            Self::JsonLines(mut writer) => writer.flush()?,
            Self::Parquet {
                mut writer,
                mut waiting,
            } => {
                if !waiting.is_empty() {
                    write_group(&mut writer, &mut waiting)?;
                }
                writer.close()?;
            }
        }
        Ok(())
    }
}

fn write_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    waiting: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let mut group = writer.next_row_group()?;
    let text = |of: fn(&Row) -> &str| waiting.iter().map(|row| of(row).into()).collect::<Vec<_>>();
    let ranks: Vec<i32> = waiting.iter().map(|row| row.rank).collect();
    let scores: Vec<f32> = waiting.iter().map(|row| row.score).collect();
    write_column::<ByteArrayType>(&mut group, &text(|row| &row.user), None)?;
    write_column::<Int32Type>(&mut group, &ranks, None)?;
    write_column::<ByteArrayType>(&mut group, &text(|row| &row.item), None)?;
    write_column::<ByteArrayType>(&mut group, &text(|row| &row.title), None)?;
    write_column::<FloatType>(&mut group, &scores, None)?;
    group.close()?;
    waiting.clear();
    Ok(())
}
