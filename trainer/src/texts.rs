//! Vectors of texts by a frozen text encoder, computed once and kept.
//!
//! Those of items are a table in memory, [`TextVectors`]; those of what people wrote, which may be
//! many, stay where they are, and a batch has those of its events: [`MappedVectors`].
//!
//! ```text
//! <cache>/<fingerprint of the encoder>/<SHA-256 of the texts>.safetensors    512 texts each
//! ```
//!
//! Whoever asks again, or goes on after an interruption, finds what is done; texts that came later
//! cost what they are. The files hold vectors and no text. A prepared store has the same files in its
//! folder `text-vectors`.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};
use text_encoder::TextEncoder;

use crate::checkpoint::hex;
use crate::files::write_whole;
use crate::{Error, Monitor};

/// Texts of one file. Files of texts that are not items' are mapped side by side, of which Linux
/// allows 65,530: 33 million texts.
const CHUNK: usize = 512;

const TENSOR: &str = "vectors";

/// A text encoder and what it has read already.
#[derive(Debug)]
pub struct TextReader {
    /// None where all that is known of the encoder is what it has read.
    model: Option<PathBuf>,
    fingerprint: String,
    cache: PathBuf,
    /// Of a prepared store, whose vectors are read and not written.
    store: Option<PathBuf>,
    device: Device,
    /// Loaded when there is something to read.
    encoder: OnceCell<TextEncoder>,
}

/// Vectors of texts, one a row, and whose they are.
#[derive(Clone, Debug)]
pub struct TextVectors {
    /// Width of a vector.
    pub width: usize,
    /// One vector after the other.
    pub values: Vec<f32>,
    /// The fingerprint of the text encoder.
    pub fingerprint: String,
}

impl TextReader {
    /// A reader with the text encoder of a folder, which keeps vectors in the folder `cache`.
    ///
    /// # Errors
    ///
    /// If the encoder's files or the cache cannot be read.
    pub fn new(model: &Path, cache: &Path, device: &Device) -> Result<Self, Error> {
        let fingerprint = text_encoder::fingerprint(model)?;
        let reader = Self::of_kept(fingerprint, cache, device)?;
        Ok(Self {
            model: Some(model.to_path_buf()),
            ..reader
        })
    }

    /// A reader of vectors alone, by the fingerprint of an encoder that is not at hand.
    ///
    /// # Errors
    ///
    /// If the cache cannot be made.
    ///
    /// # Panics
    ///
    /// Panics if it is no fingerprint.
    pub fn of_kept(fingerprint: String, cache: &Path, device: &Device) -> Result<Self, Error> {
        let cache = cache.join(&fingerprint[..16]);
        fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
        Ok(Self {
            model: None,
            fingerprint,
            cache,
            store: None,
            device: device.clone(),
            encoder: OnceCell::new(),
        })
    }

    /// The same, which finds the vectors that [`keep`](Self::keep) has put into a folder, too.
    pub fn with_store(mut self, folder: &Path) -> Self {
        self.store = Some(folder.join(&self.fingerprint[..16]));
        self
    }

    /// The fingerprint of the encoder.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Put the vectors of texts that were read into a folder, for whoever has no encoder at hand.
    ///
    /// # Errors
    ///
    /// If they cannot be copied.
    pub fn keep(&self, texts: &[&str], folder: &Path) -> Result<(), Error> {
        let chunks = known(texts);
        let mut chunks = chunks.chunks(CHUNK);
        chunks.try_for_each(|chunk| self.copy(&file_name(chunk), folder))
    }

    /// The same with vectors that were [mapped](Self::map).
    ///
    /// # Errors
    ///
    /// If they cannot be copied.
    pub fn keep_mapped(&self, vectors: &MappedVectors, folder: &Path) -> Result<(), Error> {
        let mut chunks = vectors.chunks.iter();
        chunks.try_for_each(|chunk| self.copy(&chunk.name, folder))
    }

    fn copy(&self, name: &str, folder: &Path) -> Result<(), Error> {
        let folder = folder.join(&self.fingerprint[..16]);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let (from, to) = (self.cache.join(name), folder.join(name));
        if to.exists() {
            return Ok(());
        }
        let bytes = fs::read(&from).map_err(Error::io("read", from))?;
        write_whole(&to, &bytes).map_err(Error::io("write", to))
    }

    /// The vectors of texts, in their order, with zeros for a text that is empty; `monitor` watches
    /// the reading of those that are new, `what` says what they are.
    ///
    /// # Errors
    ///
    /// If the encoder does not load or fails, or vectors cannot be written.
    ///
    /// # Panics
    ///
    /// Panics if there is no text.
    pub fn read(
        &self,
        what: &str,
        texts: &[&str],
        monitor: &mut dyn Monitor,
    ) -> Result<TextVectors, Error> {
        let known = known(texts);
        assert!(!known.is_empty(), "no text to read");
        let chunks: Vec<&[&str]> = known.chunks(CHUNK).collect();
        let kept = chunks.iter().map(|chunk| self.kept(chunk));
        let mut kept: Vec<Option<Chunk>> = kept.collect::<Result<_, _>>()?;
        let mut n_done = (kept.iter().zip(&chunks))
            .filter_map(|(kept, chunk)| kept.as_ref().map(|_| chunk.len()))
            .sum();
        if n_done < known.len() {
            monitor.begin(&format!("reading {what}"), n_done, known.len());
            for (kept, chunk) in kept.iter_mut().zip(&chunks) {
                if kept.is_none() {
                    *kept = Some(self.encode(chunk)?);
                    n_done += chunk.len();
                    monitor.step(n_done, &[]);
                }
            }
            monitor.end(&format!("{} texts read", known.len()));
        }
        let kept: Vec<Chunk> = kept.into_iter().flatten().collect();
        let width = kept[0].width;
        let mut rows = kept
            .iter()
            .flat_map(|chunk| (0..chunk.n).map(|row| chunk.row(row)));
        let mut values = Vec::with_capacity(texts.len() * width);
        for text in texts {
            match text.is_empty() {
                true => values.resize(values.len() + width, 0.0),
                false => values.extend(rows.next().expect("a row a text")),
            }
        }
        Ok(TextVectors {
            width,
            values,
            fingerprint: self.fingerprint.clone(),
        })
    }

    /// The vectors of so many texts, none of which is empty, where they are on disk; texts are
    /// asked for a few hundred at a time, by their numbers. What is new is read as by
    /// [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); or if a text is not to be had.
    pub fn map(
        &self,
        what: &str,
        n_texts: usize,
        texts: impl Fn(Range<usize>) -> Result<Vec<String>, Error>,
        monitor: &mut dyn Monitor,
    ) -> Result<MappedVectors, Error> {
        let mut chunks = Vec::new();
        let mut is_reading = false;
        for start in (0..n_texts).step_by(CHUNK) {
            let end = n_texts.min(start + CHUNK);
            let texts = texts(start..end)?;
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            chunks.push(match self.kept(&texts)? {
                Some(chunk) => chunk,
                None => {
                    if !is_reading {
                        monitor.begin(&format!("reading {what}"), start, n_texts);
                        is_reading = true;
                    }
                    self.encode(&texts)?
                }
            });
            if is_reading {
                monitor.step(end, &[]);
            }
        }
        if is_reading {
            monitor.end(&format!("{n_texts} texts read"));
        }
        Ok(MappedVectors {
            chunks,
            fingerprint: self.fingerprint.clone(),
        })
    }

    /// The vectors of a chunk, if they are there and whole.
    fn kept(&self, texts: &[&str]) -> Result<Option<Chunk>, Error> {
        let name = file_name(texts);
        for folder in std::iter::once(&self.cache).chain(&self.store) {
            if let Some(chunk) = Chunk::open(folder, &name, texts.len())? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    fn encode(&self, texts: &[&str]) -> Result<Chunk, Error> {
        let encoder = match self.encoder.get() {
            Some(encoder) => encoder,
            None => {
                let model = self.model.as_ref().ok_or_else(|| {
                    let found =
                        format!("an encoder that is not here ({})", &self.fingerprint[..16]);
                    let expected = "one that is at hand (`user-llm data fetch` gets it): this run \
                                    reads texts of which the store has no vectors";
                    Error::value("text_encoder.model", found, expected)
                })?;
                let encoder = TextEncoder::load(model, &self.device)?;
                self.encoder.get_or_init(|| encoder)
            }
        };
        let vectors = encoder.encode(texts)?.into_data().convert::<f32>();
        let values: Vec<f32> = vectors.iter().collect();
        let name = file_name(texts);
        let path = self.cache.join(&name);
        write(&path, texts.len(), &values)?;
        Chunk::open(&self.cache, &name, texts.len())?
            .ok_or_else(|| Error::io("read", path)(io::ErrorKind::InvalidData.into()))
    }
}

/// Vectors of texts where they are on disk, one a row, and whose they are.
#[derive(Debug)]
pub struct MappedVectors {
    chunks: Vec<Chunk>,
    /// The fingerprint of the text encoder.
    pub fingerprint: String,
}

impl MappedVectors {
    /// Width of a vector.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn width(&self) -> usize {
        self.chunks[0].width
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// Panics if there is no such row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = f32> {
        self.chunks[row / CHUNK].row(row % CHUNK)
    }

    /// Some of them as a table of a modality: rows of zeros for padding and unknown, then theirs.
    ///
    /// # Shapes
    ///
    /// - output: `[2 + rows, width]`
    ///
    /// # Panics
    ///
    /// Panics if there is no such row.
    pub(crate) fn table(&self, rows: &[usize], device: &Device) -> Tensor<2> {
        let (n_special, width) = (crate::EventBatcher::first_item(), self.width());
        let mut values = Vec::with_capacity((n_special + rows.len()) * width);
        values.resize(n_special * width, 0.0);
        rows.iter().for_each(|&row| values.extend(self.row(row)));
        Tensor::from_data(
            TensorData::new(values, [n_special + rows.len(), width]),
            device,
        )
    }
}

/// The vectors of a file, mapped.
#[derive(Debug)]
struct Chunk {
    name: String,
    map: Mmap,
    /// Where the vectors begin.
    start: usize,
    n: usize,
    width: usize,
}

impl Chunk {
    /// The `n` vectors of a file, if it is there and whole.
    fn open(folder: &Path, name: &str, n: usize) -> Result<Option<Self>, Error> {
        use io::ErrorKind::{NotADirectory, NotFound};
        let path = folder.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            // A store's folder may be "in" a file of data, where there is no store.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let map = map_file(&file).map_err(Error::io("map", &path))?;
        let vectors = SafeTensors::deserialize(&map).ok();
        let vectors = vectors.as_ref().and_then(|file| file.tensor(TENSOR).ok());
        let width = vectors.and_then(|view| match *view.shape() {
            [rows, width] if rows == n && view.dtype() == Dtype::F32 => Some(width),
            _ => None,
        });
        let Some(width) = width else {
            tracing::warn!(path = %path.display(), "damaged vectors are computed again");
            return Ok(None);
        };
        Ok(Some(Self {
            name: name.to_string(),
            // The file has no other tensor.
            start: map.len() - n * width * size_of::<f32>(),
            map,
            n,
            width,
        }))
    }

    fn row(&self, row: usize) -> impl Iterator<Item = f32> {
        let size = self.width * size_of::<f32>();
        let bytes = self.map[self.start + row * size..][..size].chunks_exact(4);
        bytes.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes")))
    }
}

#[expect(
    unsafe_code,
    reason = "a mapping is only sound while nobody writes to the file: these are written once, \
              under another name, and never changed"
)]
fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: as above.
    unsafe { Mmap::map(file) }
}

impl TextVectors {
    /// As a table of a modality: rows of zeros for padding and unknown, then the texts'.
    ///
    /// # Shapes
    ///
    /// - output: `[2 + texts, width]`
    pub(crate) fn table(&self, device: &Device) -> Tensor<2> {
        let rows = Tensor::<2>::from_data(
            TensorData::new(self.values.clone(), [self.len(), self.width]),
            device,
        );
        let special = Tensor::zeros([crate::EventBatcher::first_item(), self.width], device);
        Tensor::cat(vec![special, rows], 0)
    }

    /// Write them to a file of safetensors, whole or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        write(path, self.len(), &self.values)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The texts that are not empty.
fn known<'t>(texts: &[&'t str]) -> Vec<&'t str> {
    let texts = texts.iter().copied();
    texts.filter(|text| !text.is_empty()).collect()
}

fn file_name(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    format!("{}.safetensors", hex(&hash.finalize()))
}

fn write(path: &Path, n: usize, values: &[f32]) -> Result<(), Error> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view = TensorView::new(Dtype::F32, vec![n, values.len() / n], &bytes);
    let tensors = [(TENSOR, view.expect("these sizes"))];
    let bytes = safetensors::serialize(tensors, None).expect("plain numbers");
    write_whole(path, &bytes).map_err(Error::io("write", path))
}
