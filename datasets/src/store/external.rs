//! Sorting an event log that does not fit into memory.
//!
//! People are numbered while the log is read, so an event is 20 bytes, and how many events each
//! person has is known at its end. Then nothing needs to be compared: people who follow one another
//! are put into a group whose events fit into memory, every event goes into the file of its group,
//! and every group is read and laid out by person. Each event is written twice and read twice,
//! however many there are.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::behind::Behind;
use super::rows::{ROW, row};
use crate::{Error, Event};

/// Bytes of a person's number and an event in a temporary file.
const RECORD: usize = 4 + ROW;

/// Most groups, because each has an open file.
const MAX_GROUPS: usize = 500;

/// Events in the order of the log.
pub(super) struct Staged {
    /// Where temporary files are, for messages.
    folder: PathBuf,
    file: Behind<File>,
    /// Events of every person.
    counts: Vec<usize>,
}

impl Staged {
    /// Stage events in a folder, in files that the system removes.
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            folder: folder.to_path_buf(),
            file: Behind::new(temporary(folder)?),
            counts: Vec::new(),
        })
    }

    /// Add the next event of the log. People are numbered in the order in which they appear.
    pub(super) fn add(&mut self, person: u32, event: Event) -> Result<(), Error> {
        if person as usize == self.counts.len() {
            self.counts.push(0);
        }
        self.counts[person as usize] += 1;
        let written = self.file.write_all(&record(person, event));
        written.map_err(|source| write_error(&self.folder, source))
    }

    /// Call this with everybody's events, in the order of the log, person by person in this order.
    /// Of events there are never more in memory than `memory` bytes have room for, unless one
    /// person has more.
    pub(super) fn for_each(
        self,
        order: &[usize],
        memory: usize,
        mut visit: impl FnMut(usize, &mut Vec<Event>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Self {
            folder,
            file,
            counts,
        } = self;
        let n_events: usize = counts.iter().sum();
        let least = n_events.div_ceil(MAX_GROUPS);
        let groups = groups(order, &counts, (memory / size_of::<Event>()).max(least));
        let file = file
            .finish()
            .map_err(|source| write_error(&folder, source))?;
        let files = match groups.len() {
            1 => vec![file],
            _ => scatter(&folder, file, order, &groups, counts.len())?,
        };
        let mut next = vec![0; counts.len()];
        let mut events = Vec::new();
        for (group, file) in groups.into_iter().zip(files) {
            let mut all = 0;
            for &person in &order[group.clone()] {
                next[person] = all;
                all += counts[person];
            }
            events.clear();
            events.resize(all, NOTHING);
            for_each_record(&folder, file, |person, event| {
                events[next[person]] = event;
                next[person] += 1;
                Ok(())
            })?;
            for &person in &order[group] {
                let mut history = events[next[person] - counts[person]..next[person]].to_vec();
                visit(person, &mut history)?;
            }
        }
        Ok(())
    }
}

const NOTHING: Event = Event {
    item: 0,
    rating: 0.0,
    timestamp: 0,
};

/// Parts of the order, each with at most so many events, or with one person.
fn groups(order: &[usize], counts: &[usize], most: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut n_events) = (0, 0);
    for (at, &person) in order.iter().enumerate() {
        if at > start && n_events + counts[person] > most {
            groups.push(start..at);
            (start, n_events) = (at, 0);
        }
        n_events += counts[person];
    }
    groups.push(start..order.len());
    groups
}

/// Put every event into the file of its person's group.
fn scatter(
    folder: &Path,
    staged: File,
    order: &[usize],
    groups: &[Range<usize>],
    n_people: usize,
) -> Result<Vec<File>, Error> {
    let mut group_of = vec![0_u16; n_people];
    for (number, group) in groups.iter().enumerate() {
        for &person in &order[group.clone()] {
            group_of[person] = number as u16;
        }
    }
    let files = groups
        .iter()
        .map(|_| Ok(BufWriter::with_capacity(1 << 16, temporary(folder)?)));
    let mut files: Vec<_> = files.collect::<Result<_, Error>>()?;
    for_each_record(folder, staged, |person, event| {
        let file = &mut files[usize::from(group_of[person])];
        let written = file.write_all(&record(person as u32, event));
        written.map_err(|source| write_error(folder, source))
    })?;
    let written = files.into_iter().map(BufWriter::into_inner);
    let written = written.collect::<Result<_, _>>();
    written.map_err(|error| write_error(folder, error.into_error()))
}

fn for_each_record(
    folder: &Path,
    mut file: File,
    mut visit: impl FnMut(usize, Event) -> Result<(), Error>,
) -> Result<(), Error> {
    file.rewind()
        .map_err(|source| write_error(folder, source))?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut bytes = [0; RECORD];
    loop {
        match reader.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(source) => {
                return Err(Error::Read {
                    path: folder.to_path_buf(),
                    source,
                });
            }
        }
        let [person, item, rating, low, high] = std::array::from_fn(|at| {
            let four = bytes[4 * at..4 * at + 4].try_into();
            u32::from_le_bytes(four.expect("four bytes are four bytes"))
        });
        let event = Event {
            item,
            rating: f32::from_bits(rating),
            timestamp: (u64::from(high) << 32 | u64::from(low)) as i64,
        };
        visit(person as usize, event)?;
    }
}

fn record(person: u32, event: Event) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..4].copy_from_slice(&person.to_le_bytes());
    bytes[4..].copy_from_slice(&row(&event));
    bytes
}

fn temporary(folder: &Path) -> Result<File, Error> {
    tempfile::tempfile_in(folder).map_err(|source| write_error(folder, source))
}

fn write_error(folder: &Path, source: io::Error) -> Error {
    Error::Write {
        path: folder.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_s_events_come_in_the_order_of_the_log_however_little_memory_there_is() {
        let people = [0_u32, 1, 0, 2, 3, 1, 0, 3, 2, 0];
        let order = [3, 0, 2, 1];
        for memory in [0, 3 * size_of::<Event>(), 1 << 20] {
            let mut staged = Staged::new(&std::env::temp_dir()).unwrap();
            for (at, &person) in people.iter().enumerate() {
                let event = Event {
                    item: at as u32,
                    rating: 0.5,
                    timestamp: -(at as i64),
                };
                staged.add(person, event).unwrap();
            }
            let mut read = Vec::new();
            let visit = |person, events: &mut Vec<Event>| {
                assert!(
                    events
                        .iter()
                        .all(|e| e.rating == 0.5 && e.timestamp == -i64::from(e.item))
                );
                read.push((
                    person,
                    events.iter().map(|event| event.item).collect::<Vec<_>>(),
                ));
                Ok(())
            };
            staged.for_each(&order, memory, visit).unwrap();
            let expected = [
                (3, vec![4, 7]),
                (0, vec![0, 2, 6, 9]),
                (2, vec![3, 8]),
                (1, vec![1, 5]),
            ];
            assert_eq!(read, expected, "{memory} bytes");
        }
    }
}
