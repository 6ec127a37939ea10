use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{PrepareConfig, no_store};
use crate::Error;
use crate::hash::hex;

const NAME: &str = "data.lock";

/// The version of the store's schema that is written here: `docs/store.md`.
pub const VERSION: u32 = 3;

/// The oldest version that is read, too.
const OLDEST: u32 = 2;

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// What a prepared store holds and what it was made of: `data.lock`, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`] of the schema.
    pub version: u32,
    /// The dataset's name.
    pub name: String,
    /// Fingerprint of the files that were read, [`Dataset::sha256`](crate::Dataset::sha256); empty
    /// where another program wrote the store.
    pub inputs: String,
    /// Whether `timestamp` is the rank within the history.
    pub time_is_rank: bool,
    /// How it was prepared; nothing where another program wrote it.
    pub settings: Option<PrepareConfig>,
    /// Number of histories.
    pub users: usize,
    /// Number of items.
    pub items: usize,
    /// Number of events.
    pub events: usize,
    /// The files beside it.
    pub files: BTreeMap<String, LockedFile>,
}

/// A file that must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Lock {
    /// Read the lock of a store.
    ///
    /// # Errors
    ///
    /// [`Error::NoStore`] if there is none, or it is of another version; [`Error::Read`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let path = path(folder);
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => no_store(folder, format!("it has no {NAME}")),
            _ => Error::Read {
                path: path.clone(),
                source,
            },
        })?;
        let broken = |error: serde_json::Error| no_store(&path, error.to_string());
        // Before the rest, which another version may have otherwise.
        let Version { version } = serde_json::from_slice(&text).map_err(broken)?;
        if !(OLDEST..=VERSION).contains(&version) {
            let reason =
                format!("its version is {version}, and this program reads {OLDEST} to {VERSION}");
            return Err(no_store(&path, reason));
        }
        serde_json::from_slice(&text).map_err(broken)
    }

    /// Whether the files are those that were locked.
    ///
    /// # Errors
    ///
    /// [`Error::Checksum`] for the first that is not; [`Error::Read`].
    pub fn verify(&self, folder: &Path) -> Result<(), Error> {
        for (name, expected) in &self.files {
            let path = folder.join(name);
            let differs = |found: String, expected: String| Error::Checksum {
                origin: path.display().to_string(),
                found,
                expected,
            };
            let size = |bytes: u64| format!("{bytes} bytes");
            let bytes = fs::metadata(&path)
                .map_err(|source| Error::Read {
                    path: path.clone(),
                    source,
                })?
                .len();
            if bytes != expected.bytes {
                return Err(differs(size(bytes), size(expected.bytes)));
            }
            let found = LockedFile::of(&path)?;
            if found != *expected {
                return Err(differs(found.sha256, expected.sha256.clone()));
            }
        }
        Ok(())
    }

    /// Write it: the last file of a store.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        write_json(&path(folder), self).map(drop)
    }
}

impl LockedFile {
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let read_error = |source| Error::Read {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(read_error)?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut reader.by_ref(), &mut hashing).map_err(read_error)?;
        Ok(hashing.finish())
    }
}

/// Hashes what is written.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    pub(super) fn finish(self) -> LockedFile {
        LockedFile {
            bytes: self.bytes,
            sha256: hex(&self.hash.finalize()),
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Write a file of JSON.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<LockedFile, Error> {
    let mut text = serde_json::to_vec_pretty(value).expect("maps have texts for keys");
    text.push(b'\n');
    fs::write(path, &text).map_err(|source| Error::Write {
        path: path.to_path_buf(),
        source,
    })?;
    let mut hashing = Hashing::new(io::sink());
    hashing.write_all(&text).expect("a sink takes everything");
    Ok(hashing.finish())
}
