//! Rows of a table in any of the formats.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::Error;
use crate::error::Found;
use crate::read::cell::Place;
use crate::read::csv::{self, Format, find_columns};
use crate::read::files::{Opened, for_each_line};
use crate::read::json::Scalar;
use crate::read::parquet::{Column, Table, guarded};
use crate::report::Tally;

/// The wanted cells of one row.
pub(super) struct Row<'a> {
    start: Place<'a>,
    wanted: &'a [&'a str],
    /// Where the wanted columns are in the file; nothing where columns have no order.
    columns: &'a [usize],
    cells: Vec<Scalar<'a>>,
}

impl<'a> Row<'a> {
    pub(super) fn cell(&self, index: usize) -> &Scalar<'a> {
        &self.cells[index]
    }

    /// A cell's text; empty where it has none.
    pub(super) fn str(&self, index: usize) -> &str {
        match &self.cells[index] {
            Scalar::Text(text) => text,
            _ => "",
        }
    }

    pub(super) fn place(&self, index: usize) -> Place<'a> {
        Place {
            column: self.columns.get(index).map_or(1, |column| column + 1),
            name: self.wanted[index],
            ..self.start
        }
    }
}

/// Call `read` with every row of a table, whose name tells its format. It must not keep anything
/// of a row that it refuses, since that may be skipped.
pub(super) fn for_each_row(
    file: &mut Opened<'_>,
    format: &Format,
    wanted: &[&str],
    read: impl FnMut(&mut Tally, Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let name = file.path.to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit('.').next() {
        Some("parquet") => of_parquet(file, wanted, read),
        Some("jsonl" | "ndjson" | "json") => of_json_lines(file, wanted, read),
        Some("tsv") if format.separator.is_none() => {
            let separator = Some(b'\t');
            of_csv(
                file,
                &Format {
                    separator,
                    ..format.clone()
                },
                wanted,
                read,
            )
        }
        _ => of_csv(file, format, wanted, read),
    }
}

fn of_csv(
    file: &mut Opened<'_>,
    format: &Format,
    wanted: &[&str],
    mut read: impl FnMut(&mut Tally, Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    csv::for_each_record(file, format, wanted, |tally, row| {
        let mut cells = Vec::with_capacity(wanted.len());
        for index in 0..wanted.len() {
            let text = row.text(index)?;
            cells.push(match text.trim().is_empty() {
                true => Scalar::Missing,
                false => Scalar::Text(text),
            });
        }
        let row = Row {
            start: row.place(0),
            wanted,
            columns: row.columns,
            cells,
        };
        read(tally, row)
    })
}

fn of_parquet(
    file: &mut Opened<'_>,
    wanted: &[&str],
    mut read: impl FnMut(&mut Tally, Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    guarded(file.path, || {
        let table = Table::open(file)?;
        let columns = find_columns(file.path, &table.names, wanted)?;
        table.for_each_row(file.tally, |tally, row| {
            let cells = columns.iter().map(|&index| row.scalar(index)).collect();
            let row = Row {
                start: row.place(Column {
                    index: columns[0],
                    name: wanted[0],
                }),
                wanted,
                columns: &columns,
                cells,
            };
            read(tally, row)
        })
    })
}

fn of_json_lines(
    file: &mut Opened<'_>,
    wanted: &[&str],
    mut read: impl FnMut(&mut Tally, Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut is_first = true;
    for_each_line(file, |tally, start, line| {
        if !line.trim_start().starts_with('{') {
            return Err(start.error("something else", "an object in JSON"));
        }
        let mut json = serde_json::Deserializer::from_str(line);
        let keys = is_first.then(Vec::new);
        let parsed = Cells { wanted, keys }
            .deserialize(&mut json)
            .and_then(|parsed| json.end().map(|()| parsed));
        let (cells, keys) = parsed.map_err(|error| {
            let column = error.column();
            let found = error.to_string();
            let found = found.split(" at line ").next().unwrap_or_default();
            Place { column, ..start }.error(Found::detail(found), "an object in JSON")
        })?;
        is_first = false;
        if let Some(keys) = keys {
            find_columns(start.file, &keys, wanted)?;
        }
        let row = Row {
            start,
            wanted,
            columns: &[],
            cells,
        };
        read(tally, row)
    })
}

/// Reads the wanted values of an object, and all its keys if they are to be known.
struct Cells<'w> {
    wanted: &'w [&'w str],
    keys: Option<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Cells<'_> {
    type Value = (Vec<Scalar<'de>>, Option<Vec<String>>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Cells<'_> {
    type Value = (Vec<Scalar<'de>>, Option<Vec<String>>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = vec![Scalar::Missing; self.wanted.len()];
        while let Some(Scalar::Text(key)) = map.next_key::<Scalar<'de>>()? {
            if let Some(keys) = &mut self.keys {
                keys.push(key.clone().into_owned());
            }
            let mut places = (0..cells.len()).filter(|&at| self.wanted[at] == key);
            match places.next() {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(first) => {
                    let value = match map.next_value()? {
                        Scalar::Text(text) if text.trim().is_empty() => Scalar::Missing,
                        value => value,
                    };
                    // One column may be wanted twice.
                    for at in places {
                        cells[at] = value.clone();
                    }
                    cells[first] = value;
                }
            }
        }
        Ok((cells, self.keys))
    }
}
