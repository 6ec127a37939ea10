//! CSV; columns are found by the names in the first line.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder, Terminator};

use super::cell::{MAX_LINE, Place, decode};
use super::files::Opened;
use crate::Error;
use crate::error::quote;
use crate::report::Tally;

/// How a CSV file is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Format {
    /// A comma if nothing is said.
    pub(crate) separator: Option<u8>,
    /// Names of the columns of a file whose first line does not tell them.
    pub(crate) names: Option<Vec<String>>,
}

/// The wanted columns of one record.
pub(crate) struct CsvRow<'a> {
    start: Place<'a>,
    wanted: &'a [&'a str],
    pub(crate) columns: &'a [usize],
    record: &'a ByteRecord,
}

impl<'a> CsvRow<'a> {
    pub(crate) fn place(&self, index: usize) -> Place<'a> {
        Place {
            column: self.columns[index] + 1,
            name: self.wanted[index],
            ..self.start
        }
    }

    pub(crate) fn text(&self, index: usize) -> Result<Cow<'a, str>, Error> {
        let cell = self.record.get(self.columns[index]).ok_or_else(|| {
            let found = format!("a line of {} fields", self.record.len());
            self.place(index).error(found, "a field here too")
        })?;
        Ok(decode(cell.strip_suffix(b"\r").unwrap_or(cell)))
    }
}

/// Call `read` with every record. It must not keep anything of one that it refuses, since that may
/// be skipped.
pub(crate) fn for_each_record(
    file: &mut Opened<'_>,
    format: &Format,
    wanted: &[&str],
    mut read: impl FnMut(&mut Tally, CsvRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let path = file.path;
    let limit = Cell::new(0);
    let (reader, tally) = file.split();
    // A line feed behind the last record, so that every record ends one line before the next.
    let bounded = Bounded {
        inner: reader,
        n_read: 0,
        limit: &limit,
    }
    .chain(&b"\n"[..]);
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(format.separator.unwrap_or(b','))
        // CRLF by hand: the csv crate would count its lines one too low.
        .terminator(Terminator::Any(b'\n'))
        .from_reader(bounded);
    let mut record = ByteRecord::new();
    let mut columns = match &format.names {
        Some(names) => Some(find_columns(path, names, wanted)?),
        None => None,
    };
    loop {
        // As much as a record may have, beyond what has been parsed.
        limit.set(reader.position().byte() + MAX_LINE as u64);
        let start = Place {
            file: path,
            line: reader.position().line(),
            column: 1,
            name: wanted[0],
        };
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                drop(reader);
                return Err(record_error(error, start, file));
            }
        }
        if record.len() == 1 && record[0].trim_ascii().is_empty() {
            continue;
        }
        let start = Place {
            line: first_line(&record, reader.position().line()),
            ..start
        };
        let Some(columns) = &columns else {
            let name = |cell| {
                decode(cell)
                    .trim_matches(['\u{feff}', ' ', '\r'])
                    .to_string()
            };
            let names: Vec<String> = record.iter().map(name).collect();
            columns = Some(find_columns(path, &names, wanted)?);
            continue;
        };
        let row = CsvRow {
            start,
            wanted,
            columns,
            record: &record,
        };
        if let Err(error) = read(tally, row) {
            tally.tolerate(error)?;
        }
    }
}

/// The line that a record starts on, from the one after its end: the reader's own idea of the
/// start lies before any blank lines.
fn first_line(record: &ByteRecord, line_after: u64) -> u64 {
    let n_inside = record
        .as_slice()
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count();
    line_after.saturating_sub(1 + n_inside as u64)
}

fn record_error(error: csv::Error, place: Place<'_>, file: &Opened<'_>) -> Error {
    match error.into_kind() {
        ErrorKind::Io(source) if source.kind() == TOO_LONG => place.error(
            format!("more than {MAX_LINE} bytes without an end"),
            "a record of a CSV file (is a quote left open?)",
        ),
        ErrorKind::Io(source) => file.error(source),
        other => {
            let source = format!("{other:?}").into();
            Error::Damaged {
                file: file.path.to_path_buf(),
                source,
            }
        }
    }
}

/// The positions of the wanted columns.
pub(crate) fn find_columns(
    file: &Path,
    names: &[String],
    wanted: &[&str],
) -> Result<Vec<usize>, Error> {
    let find = |wanted: &&str| {
        let place = names.iter().position(|name| name == wanted);
        place.ok_or_else(|| no_column(file, wanted, names))
    };
    wanted.iter().map(find).collect()
}

/// The error for a column that is not there, with those that are.
pub(crate) fn no_column(file: &Path, wanted: &str, names: &[String]) -> Error {
    let distance = |name: &&String| edit_distance(&name.to_lowercase(), &wanted.to_lowercase());
    let closest = names.iter().min_by_key(distance);
    let closest = closest.filter(|name| distance(name) <= 1 + wanted.chars().count() / 2);
    Error::NoColumn {
        file: file.to_path_buf(),
        name: wanted.to_string(),
        closest: closest.map(|name| quote(name)),
        known: names
            .iter()
            .take(MAX_NAMES)
            .map(|name| quote(name))
            .collect(),
    }
}

/// Most names of columns that a message lists.
const MAX_NAMES: usize = 50;

/// Characters to insert, delete or replace (Levenshtein), in the first of a long name.
fn edit_distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The kind of error by which [`Bounded`] says that a record is too long.
const TOO_LONG: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// Stops reading at a limit that moves on with every record, so that a quote left open, or a file
/// without line ends, cannot fill memory.
struct Bounded<'a, R> {
    inner: R,
    n_read: u64,
    limit: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.n_read >= self.limit.get() {
            return Err(TOO_LONG.into());
        }
        let n_read = self.inner.read(buffer)?;
        self.n_read += n_read as u64;
        Ok(n_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_an_insertion_a_deletion_or_a_replacement() {
        for (a, b, distance) in [("", "", 0), ("user", "usr", 1), ("kitten", "sitting", 3)] {
            assert_eq!(
                (edit_distance(a, b), edit_distance(b, a)),
                (distance, distance)
            );
        }
    }

    #[test]
    fn a_missing_column_says_which_there_are_and_the_closest() {
        let names = ["member_id", "sku", "ts"].map(String::from);
        let message = no_column(Path::new("x.csv"), "memberid", &names).to_string();
        let expected = r#"x.csv has no column "memberid", did you mean "member_id"?; it has "member_id", "sku", "ts""#;
        assert_eq!(message, expected);
        let message = no_column(Path::new("x.csv"), "zzzzz", &names).to_string();
        assert!(!message.contains("did you mean"), "{message}");
    }
}
