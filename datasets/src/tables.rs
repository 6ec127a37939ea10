//! Reader for your own tables: an event log and, beside it, a list of items.
//!
//! Each is CSV (`.csv`, `.tsv`), JSON lines (`.jsonl`, `.ndjson`, `.json`) or Parquet (`.parquet`),
//! plain or with `.gz` behind, in one file or in a folder of them, which is read in the order of
//! the names. A [`TableConfig`] says which column is what. The first record of JSON lines is to
//! have every column that is asked for, if only as `null`.
//!
//! Without a list of items, or where it lacks one, items go by their ids. Without times the order
//! of the file counts ([`Dataset::time_is_rank`]). What is missing or merged is handled as in
//! [`reviews`](crate::reviews) and counted in [`Dataset::report`].

mod config;
mod rows;
mod time;

use std::path::Path;
use std::time::Instant;

use crate::descriptions::Descriptions;
use crate::error::Found;
use crate::read::cell::whole;
use crate::read::files::{Files, Opened};
use crate::read::json::{Names, Scalar};
use crate::read::log::{Log, Times};
use crate::read::markup::plain;
use crate::read::tables::{CatalogueTable, People, Sink};
use crate::report::{Finding, Tally};
use crate::reviews::{ReviewTexts, TextsWriter};
use crate::{Catalogue, Dataset, Error, Event, NO_RATING, ReadOptions};

pub use config::{CatalogueConfig, CategoryColumn, TableConfig, TimeColumn, TimeUnit};
use rows::{Row, for_each_row};

/// Read an event log, and its list of items if the config has one. Paths that are not absolute
/// start at `folder`.
///
/// # Errors
///
/// [`Error::NoColumn`] for a column that is not there, with those that are; [`Error::Row`] with
/// file and line for a record that is not what it must be; [`Error::NoTable`], [`Error::Read`],
/// [`Error::Empty`] or [`Error::Damaged`] for a file.
///
/// # Example
///
/// ```
/// use datasets::tables::{TableConfig, TimeColumn, TimeUnit};
/// use datasets::{ReadOptions, tables};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// std::fs::write(folder.join("log.csv"), "member_id,sku,ts\nada,7,1000\nada,8,2000\n")?;
/// let time = TimeColumn::InUnit { column: "ts".into(), unit: TimeUnit::Milliseconds };
/// let config = TableConfig { time: Some(time), ..TableConfig::new("log.csv", "member_id", "sku") };
///
/// let dataset = tables::load(&config, folder, &ReadOptions::default())?;
/// let last = dataset.histories[0].events[1];
/// assert_eq!((dataset.catalogue.display_title(last.item).as_str(), last.timestamp), ("8", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(config: &TableConfig, folder: &Path, options: &ReadOptions) -> Result<Dataset, Error> {
    Log::into_dataset(|sink| read(config, folder, options, sink))
}

pub(crate) fn read<'s>(
    config: &TableConfig,
    folder: &Path,
    options: &ReadOptions,
    sink: &'s mut Sink<'s>,
) -> Result<Log, Error> {
    let started = Instant::now();
    let mut catalogue = CatalogueTable::default();
    let events_path = folder.join(&config.events);
    let mut files = Files::tables(&events_path, options)?;
    if let Some(items) = &config.catalogue {
        let mut item_files = Files::tables(&folder.join(&items.path), options)?;
        for member in item_files.all(|_| true) {
            item_files.read(&member, |file| read_items(file, items, &mut catalogue))?;
        }
        files = files.continuing(item_files);
    }
    let n_listed = catalogue.len();
    let mut people = People::new(sink);
    for member in files.all(|_| true) {
        files.read(&member, |file| {
            for_each_event(file, config, |tally, event| {
                if config.time.is_some() && event.timestamp.is_none() {
                    tally.add(Finding::MissingTime);
                    return Ok(());
                }
                if config.rating.is_some() && event.rating == NO_RATING {
                    tally.add(Finding::MissingRating);
                }
                if config.text.is_some() && event.text.is_empty() {
                    tally.add(Finding::MissingText);
                }
                let item = catalogue.find_or_add(event.item);
                let kept = Event {
                    item,
                    rating: event.rating,
                    timestamp: event.timestamp.unwrap_or(0),
                };
                people.add_event(event.user, kept)
            })
        })?;
    }
    catalogue.fill_gaps(n_listed, &mut files.tally);
    let people = people.finish(&events_path)?;
    let catalogue = catalogue.finish(&events_path, &mut files.tally)?;
    let name = events_path.file_stem().unwrap_or_default();
    Ok(Log {
        name: name.to_string_lossy().into_owned(),
        catalogue,
        people,
        repeats: options.repeats,
        times: match config.time {
            Some(_) => Times::Seconds,
            None => Times::Absent,
        },
        files,
        started,
    })
}

/// Read the texts of a dataset that [`load`] read; all are empty if the config has no column of
/// texts.
///
/// # Errors
///
/// As [`load`]; and [`Error::Write`] where there is no space for temporary files.
pub fn load_texts(
    config: &TableConfig,
    folder: &Path,
    dataset: &Dataset,
    options: &ReadOptions,
) -> Result<ReviewTexts, Error> {
    let mut texts = TextsWriter::new(dataset)?;
    let mut files = Files::tables(&folder.join(&config.events), options)?;
    for member in files.all(|_| true) {
        files.read(&member, |file| {
            for_each_event(file, config, |_, event| {
                if config.time.is_some() && event.timestamp.is_none() {
                    return Ok(());
                }
                let key = (event.user, event.item, event.timestamp);
                texts.add(key, event.text, event.summary)
            })
        })?;
    }
    texts.finish()
}

/// What the catalogue's table says of each item of a catalogue, in its order.
pub(crate) fn descriptions(
    config: &TableConfig,
    folder: &Path,
    catalogue: &Catalogue,
    options: &ReadOptions,
) -> Result<Vec<String>, Error> {
    let mut descriptions = Descriptions::new(catalogue);
    let table = config.catalogue.as_ref();
    let column = table.and_then(|table| Some((table, table.description.as_deref()?)));
    if let Some((table, column)) = column {
        let mut files = Files::tables(&folder.join(&table.path), options)?;
        for member in files.all(|_| true) {
            files.read(&member, |file| {
                for_each_row(file, &table.format(), &[&table.id, column], |_, row| {
                    let id = row.cell(0).id().unwrap_or_default();
                    descriptions.add(id.trim(), row.cell(1));
                    Ok(())
                })
            })?;
        }
    }
    Ok(descriptions.finish())
}

/// A record of the event log whose columns are what they must be.
struct ParsedEvent<'a> {
    user: &'a str,
    item: &'a str,
    rating: f32,
    timestamp: Option<i64>,
    text: &'a str,
    summary: &'a str,
}

/// Column names to ask for, some of which the config may lack.
#[derive(Default)]
struct Wanted<'a>(Vec<&'a str>);

impl<'a> Wanted<'a> {
    /// The position of a column among those to ask for.
    fn add(&mut self, name: &'a str) -> usize {
        self.0.push(name);
        self.0.len() - 1
    }
}

fn for_each_event(
    file: &mut Opened<'_>,
    config: &TableConfig,
    mut read: impl FnMut(&mut Tally, ParsedEvent<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut wanted = Wanted::default();
    let user = wanted.add(&config.user);
    let item = wanted.add(&config.item);
    let rating = config.rating.as_deref().map(|name| wanted.add(name));
    let time = config
        .time
        .as_ref()
        .map(|time| (wanted.add(time.column()), time.unit()));
    let text = config.text.as_deref().map(|name| wanted.add(name));
    let summary = config.summary.as_deref().map(|name| wanted.add(name));
    for_each_row(file, &config.format(), &wanted.0, |tally, row| {
        let user_id = row.cell(user).id().unwrap_or_default();
        let item_id = row.cell(item).id().unwrap_or_default();
        let rating = rating.and_then(|column| Some((column, row.cell(column).text()?)));
        let event = ParsedEvent {
            user: row.place(user).user(&user_id)?,
            item: row.place(item).item(&item_id)?,
            rating: match rating {
                Some((column, text)) => row.place(column).rating(&text)?,
                None => NO_RATING,
            },
            timestamp: match time {
                Some((column, unit)) => timestamp(&row, column, unit)?,
                None => None,
            },
            text: text.map_or("", |column| row.str(column)),
            summary: summary.map_or("", |column| row.str(column)),
        };
        read(tally, event)
    })
}

fn timestamp(row: &Row<'_>, column: usize, unit: TimeUnit) -> Result<Option<i64>, Error> {
    let cell = row.cell(column);
    let Some(text) = cell.text() else {
        return Ok(None);
    };
    let seconds = match (cell, unit) {
        // A Parquet file may know better.
        (Scalar::Seconds(seconds), _) => Some(*seconds),
        (_, TimeUnit::Iso8601) => time::parse(text.trim()),
        _ => whole(text.trim()).map(|number| number.div_euclid(unit.per_second())),
    };
    let place = row.place(column);
    if unit == TimeUnit::Iso8601 && seconds.is_none() {
        return Err(place.error(Found::value(&text), "a time like 2024-02-29T13:45:00Z"));
    }
    place
        .checked_timestamp(seconds, || Found::value(&text))
        .map(Some)
}

fn read_items(
    file: &mut Opened<'_>,
    config: &CatalogueConfig,
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    let mut wanted = Wanted::default();
    let id = wanted.add(&config.id);
    let title = config.title.as_deref().map(|name| wanted.add(name));
    let year = config.year.as_deref().map(|name| wanted.add(name));
    let categories = config.categories.as_ref();
    let categories = categories.map(|column| (wanted.add(column.column()), column.separator()));
    for_each_row(file, &config.format(), &wanted.0, |tally, row| {
        let id_text = row.cell(id).id().unwrap_or_default();
        let id = row.place(id).item(&id_text)?;
        let raw = title
            .and_then(|column| row.cell(column).text())
            .unwrap_or_default();
        let title = plain(&raw);
        if title != raw.trim() {
            tally.add(Finding::CleanedTitle);
        }
        let year = match year.and_then(|column| Some((column, row.cell(column).text()?))) {
            None => None,
            Some((column, text)) => {
                let year = whole(text.trim()).and_then(|year| u16::try_from(year).ok());
                let bad = || row.place(column).error(Found::value(&text), "a year");
                Some(year.ok_or_else(bad)?)
            }
        };
        let names = match categories {
            None => Names::default(),
            Some((column, separator)) => names(row.cell(column), separator),
        };
        if names.was_text {
            tally.add(Finding::ListAsText);
        }
        let genres = names.names.iter().map(String::as_str);
        if catalogue.describe(id, Some(&title), year, genres) {
            tally.add(Finding::RepeatedItem);
        }
        Ok(())
    })
}

fn names(cell: &Scalar<'_>, separator: Option<&str>) -> Names {
    match (cell, separator) {
        (Scalar::Text(text), Some(separator)) => Names {
            names: text.split(separator).map(str::to_string).collect(),
            was_text: false,
        },
        _ => cell.names(),
    }
}
