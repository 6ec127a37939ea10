//! Events as they are in memory, one row behind the other: what training reads.

use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(unix)]
use memmap2::Advice;
use memmap2::Mmap;

use super::behind::Behind;
use super::lock::{Hashing, LockedFile};
use super::{ROWS, mapped, no_store};
use crate::{Error, Event};

/// Bytes of an event: its item, its rating and its timestamp, little-endian.
pub(super) const ROW: usize = 16;

const _: () = assert!(
    size_of::<Event>() == ROW && cfg!(target_endian = "little"),
    "rows are read as they are in the file"
);

pub(super) fn row(event: &Event) -> [u8; ROW] {
    let mut bytes = [0; ROW];
    bytes[..4].copy_from_slice(&event.item.to_le_bytes());
    bytes[4..8].copy_from_slice(&event.rating.to_le_bytes());
    bytes[8..].copy_from_slice(&event.timestamp.to_le_bytes());
    bytes
}

/// Writes the rows of a store.
pub(super) struct RowsWriter {
    path: PathBuf,
    file: Behind<Hashing<File>>,
}

impl RowsWriter {
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(ROWS);
        // Who has mapped rows that were here before keeps them.
        let _ = fs::remove_file(&path);
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path,
                file: Behind::new(Hashing::new(file)),
            }),
            Err(source) => Err(Error::Write { path, source }),
        }
    }

    pub(super) fn write(&mut self, events: &[Event]) -> Result<(), Error> {
        let mut events = events.iter();
        let written = events.try_for_each(|event| self.file.write_all(&row(event)));
        written.map_err(|source| self.write_error(source))
    }

    pub(super) fn finish(self) -> Result<LockedFile, Error> {
        let Self { path, file } = self;
        match file.finish() {
            Ok(hashing) => Ok(hashing.finish()),
            Err(source) => Err(Error::Write { path, source }),
        }
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// What is read as it is in a file.
///
/// # Safety
///
/// Any bytes are one of these, none of them is padding, and it is aligned wherever a page begins.
#[expect(
    unsafe_code,
    reason = "what the compiler cannot check, a type promises"
)]
pub(crate) unsafe trait Plain {}

#[expect(unsafe_code, reason = "three plain numbers, laid out as in C")]
// SAFETY: and as many bytes as these have together, which is checked above.
unsafe impl Plain for Event {}

#[expect(unsafe_code, reason = "a plain number")]
// SAFETY: as it says.
unsafe impl Plain for u32 {}

/// Rows that follow one another, where they are in a file of the store.
pub(crate) struct Mapped<T> {
    map: Arc<Mmap>,
    rows: Range<usize>,
    of: PhantomData<T>,
}

impl<T> Clone for Mapped<T> {
    fn clone(&self) -> Self {
        self.part(0..self.rows.len())
    }
}

impl<T> Mapped<T> {
    /// Some of them.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows.len(),
            "rows beyond the file's"
        );
        Self {
            map: self.map.clone(),
            rows: self.rows.start + rows.start..self.rows.start + rows.end,
            of: PhantomData,
        }
    }

    /// Have the system read them while other things are done. It may do as it likes.
    pub(crate) fn read_ahead(&self) {
        #[cfg(unix)]
        if !self.rows.is_empty() {
            let (start, length) = (self.rows.start, self.rows.len());
            let (start, length) = (start * size_of::<T>(), length * size_of::<T>());
            let _ = self.map.advise_range(Advice::WillNeed, start, length);
        }
    }

    #[expect(
        unsafe_code,
        reason = "a row's bytes are read where they are, which is the purpose of the file"
    )]
    pub(crate) fn as_slice(&self) -> &[T] {
        let first = self.map.as_ptr().cast::<T>();
        // SAFETY: `of`, which makes all of them, asks for a `Plain` type, and a mapping begins at a
        // page, so rows are aligned; `of` and `part` see to it that they are within the mapping,
        // which lives as long as `self`.
        unsafe { std::slice::from_raw_parts(first.add(self.rows.start), self.rows.len()) }
    }
}

impl<T: Plain> Mapped<T> {
    /// All rows of a file of a store.
    pub(super) fn of(folder: &Path, name: &str) -> Result<Self, Error> {
        let path = folder.join(name);
        let map = File::open(&path).and_then(|file| mapped::map_file(&file));
        match map {
            Err(source) => Err(Error::Read { path, source }),
            Ok(map) if map.len() % size_of::<T>() != 0 => {
                Err(no_store(&path, "its last row is cut short"))
            }
            Ok(map) => Ok(Self {
                rows: 0..map.len() / size_of::<T>(),
                map: Arc::new(map),
                of: PhantomData,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let events: Vec<Event> = (0..1000)
            .map(|n| Event {
                item: n,
                rating: n as f32 / 3.0,
                timestamp: -i64::from(n) << 33,
            })
            .collect();
        let mut writer = RowsWriter::new(folder.path()).unwrap();
        events
            .chunks(7)
            .for_each(|some| writer.write(some).unwrap());
        let locked = writer.finish().unwrap();
        let path = folder.path().join(ROWS);
        assert_eq!(locked, LockedFile::of(&path).unwrap());

        let mapped = Mapped::<Event>::of(folder.path(), ROWS).unwrap();
        assert!(mapped.as_slice() == events);
        let part = mapped.part(10..90);
        assert!(part.part(5..6).as_slice() == &events[15..16]);
        assert!(part.part(80..80).as_slice().is_empty());
        part.read_ahead();
        part.part(80..80).read_ahead();

        fs::write(&path, [0; ROW + 1]).unwrap();
        let error = Mapped::<Event>::of(folder.path(), ROWS).err().unwrap();
        assert!(error.to_string().contains("cut short"), "{error}");
    }

    #[test]
    #[should_panic(expected = "rows beyond the file's")]
    fn a_part_never_reaches_beyond_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ROWS), [0; 3 * ROW]).unwrap();
        let mapped = Mapped::<Event>::of(folder.path(), ROWS).unwrap();
        mapped.part(1..2).part(0..2);
    }
}
