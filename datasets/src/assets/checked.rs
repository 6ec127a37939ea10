//! Files that were compared with their SHA-256, and a note beside them that says so, because
//! hashing a language model at every start would take longer than loading it.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::hash::hex;

/// What a file must be. What is not known is not checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected<'a> {
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<&'a str>,
}

impl From<super::AssetFile> for Expected<'static> {
    fn from(file: super::AssetFile) -> Self {
        Self {
            size: Some(file.size),
            sha256: Some(file.sha256),
        }
    }
}

impl Expected<'_> {
    /// Compare with what is there.
    pub(super) fn check(&self, origin: &str, size: u64, sha256: &str) -> Result<(), Error> {
        let mismatch = |found: String, expected: String| Error::Checksum {
            origin: origin.to_string(),
            found,
            expected,
        };
        match (self.size, self.sha256) {
            (Some(expected), _) if expected != size => Err(mismatch(
                format!("{size} bytes"),
                format!("{expected} bytes"),
            )),
            (_, Some(expected)) if expected != sha256 => Err(mismatch(
                format!("SHA-256 {sha256}"),
                format!("SHA-256 {expected}"),
            )),
            _ => Ok(()),
        }
    }
}

/// What is known of a file since it was last hashed.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Note {
    sha256: String,
    size: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

/// Whether this file is there and is the right one. The size is looked at every time, the content
/// once, and again if the file has changed since.
pub(super) fn is_checked(path: &Path, expected: Expected<'_>) -> Result<bool, Error> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(false);
    };
    let origin = path.display().to_string();
    let size = metadata.len();
    if expected.size.is_some_and(|expected| expected != size) {
        expected.check(&origin, size, "")?;
    }
    let note = read_note(path);
    let now = (size, modified(&metadata));
    let sha256 = match note {
        Some(note) if (note.size, note.modified) == now => note.sha256,
        // A file that was put here by hand, or that has changed.
        _ => hash_file(path)?,
    };
    expected.check(&origin, size, &sha256)?;
    write_note(path, sha256);
    Ok(true)
}

/// Whether the file was here, whole, at the end of an earlier download, and has not changed since.
pub(super) fn has_note(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else {
        return false;
    };
    read_note(path)
        .is_some_and(|note| (note.size, note.modified) == (metadata.len(), modified(&metadata)))
}

/// Note that the file has this hash. The note saves time and nothing else, so a cache folder that
/// may not be written to is no error.
pub(super) fn write_note(path: &Path, sha256: String) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let note = Note {
        sha256,
        size: metadata.len(),
        modified: modified(&metadata),
    };
    if read_note(path).as_ref() == Some(&note) {
        return;
    }
    let written = serde_json::to_string(&note)
        .map_err(io::Error::from)
        .and_then(|text| fs::write(note_path(path), text));
    if let Err(error) = written {
        tracing::debug!(%error, "the note beside a checked file was not written");
    }
}

fn read_note(path: &Path) -> Option<Note> {
    serde_json::from_str(&fs::read_to_string(note_path(path)).ok()?).ok()
}

fn note_path(path: &Path) -> PathBuf {
    with_ending(path, ".ok")
}

/// The path with something behind its name: `a.zip` and `.part` give `a.zip.part`.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    PathBuf::from(name)
}

fn modified(metadata: &fs::Metadata) -> u64 {
    let time = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    time.and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

fn hash_file(path: &Path) -> Result<String, Error> {
    let read_error = |source| Error::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(read_error)?);
    let mut hash = Sha256::new();
    io::copy(&mut reader, &mut HashWriter(&mut hash)).map_err(read_error)?;
    Ok(hex(&hash.finalize()))
}

/// Bytes written to it go into a hash.
pub(super) struct HashWriter<'a>(pub(super) &'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `hello`.
    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn expected() -> Expected<'static> {
        Expected {
            size: Some(5),
            sha256: Some(HELLO),
        }
    }

    #[test]
    fn a_file_put_there_by_hand_is_hashed_once_and_then_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(!is_checked(&path, expected()).unwrap());
        fs::write(&path, "hello").unwrap();
        assert!(!has_note(&path));
        assert!(is_checked(&path, expected()).unwrap());
        assert!(has_note(&path));
    }

    #[test]
    fn a_file_that_changed_after_it_was_checked_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "hello").unwrap();
        assert!(is_checked(&path, expected()).unwrap());

        fs::write(&path, "jello").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(UNIX_EPOCH)
            .unwrap();
        assert!(!has_note(&path));
        let message = is_checked(&path, expected()).unwrap_err().to_string();
        assert!(
            message.contains(HELLO) && message.contains("was not used"),
            "{message}"
        );

        fs::write(&path, "hell").unwrap();
        let message = is_checked(&path, expected()).unwrap_err().to_string();
        assert!(
            message.contains("found 4 bytes, expected 5 bytes"),
            "{message}"
        );
    }
}
