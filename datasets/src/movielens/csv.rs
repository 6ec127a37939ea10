//! `ratings.csv` and `movies.csv`; columns are found by the names in the first line.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder, Terminator};

use crate::error::quote;
use crate::read::cell::{MAX_LINE, Place, decode};
use crate::read::files::Opened;
use crate::read::tables::{CatalogueTable, HistoriesTable};
use crate::{Error, Event};

/// `userId,movieId,rating,timestamp`.
pub(super) fn read_ratings(
    file: &mut Opened<'_>,
    histories: &mut HistoriesTable<'_>,
) -> Result<(), Error> {
    const NAMES: [&str; 4] = ["userId", "movieId", "rating", "timestamp"];
    for_each_record(file, NAMES, |places, [user, item, rating, timestamp]| {
        let event = Event {
            item: histories.find_item(places[1], &decode(item))?,
            rating: places[2].rating(&decode(rating))?,
            timestamp: places[3].timestamp(&decode(timestamp))?,
        };
        histories.add_event(places[0].user(&decode(user))?, event);
        Ok(())
    })
}

/// `movieId,title,genres`.
pub(super) fn read_movies(
    file: &mut Opened<'_>,
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    for_each_record(
        file,
        ["movieId", "title", "genres"],
        |places, [id, title, genres]| {
            catalogue.add_item(
                places[0],
                &decode(id),
                &decode(title),
                decode(genres).split('|'),
            )
        },
    )
}

/// Call `read` with the places and texts of the wanted columns of every record.
fn for_each_record<const N: usize>(
    file: &mut Opened<'_>,
    names: [&'static str; N],
    mut read: impl FnMut([Place<'_>; N], [&[u8]; N]) -> Result<(), Error>,
) -> Result<(), Error> {
    let path = file.path;
    let limit = Cell::new(0);
    // A line feed behind the last record, so that every record ends one line before the next.
    let bounded = Bounded {
        inner: &mut *file,
        n_read: 0,
        limit: &limit,
    }
    .chain(&b"\n"[..]);
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        // CRLF by hand: the csv crate would count its lines one too low.
        .terminator(Terminator::Any(b'\n'))
        .from_reader(bounded);
    let mut record = ByteRecord::new();
    let mut columns: Option<[usize; N]> = None;
    loop {
        // As much as a record may have, beyond what has been parsed.
        limit.set(reader.position().byte() + MAX_LINE as u64);
        let start = Place {
            file: path,
            line: reader.position().line(),
            column: 1,
            name: names[0],
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
        let place = Place {
            line: first_line(&record, reader.position().line()),
            ..start
        };
        let Some(columns) = columns else {
            columns = Some(find_columns(path, &record, names)?);
            continue;
        };
        let mut places = [place; N];
        let mut texts: [&[u8]; N] = [b""; N];
        for index in 0..N {
            let column = columns[index];
            places[index] = Place {
                column: column + 1,
                name: names[index],
                ..place
            };
            texts[index] = record.get(column).ok_or_else(|| {
                let found = format!("a line of {} fields", record.len());
                places[index].error(found, "a field here too")
            })?;
        }
        read(
            places,
            texts.map(|text| text.strip_suffix(b"\r").unwrap_or(text)),
        )?;
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

fn find_columns<const N: usize>(
    file: &Path,
    header: &ByteRecord,
    names: [&'static str; N],
) -> Result<[usize; N], Error> {
    let mut columns = [0; N];
    for (index, name) in names.into_iter().enumerate() {
        let is_wanted = |cell: &[u8]| decode(cell).trim_matches(['\u{feff}', ' ', '\r']) == name;
        columns[index] = header.iter().position(is_wanted).ok_or_else(|| {
            let found: Vec<String> = header
                .iter()
                .map(|cell| decode(cell).into_owned())
                .collect();
            let place = Place {
                file,
                line: 1,
                column: index + 1,
                name,
            };
            let expected = format!("a first line that names the columns {}", names.join(","));
            place.error(quote(&found.join(",")), expected)
        })?;
    }
    Ok(columns)
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
