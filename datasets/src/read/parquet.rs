//! Parquet, row by row.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Seek};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use super::cell::Place;
use super::csv::find_columns;
use super::files::Opened;
use super::json::Scalar;
use super::pages;
use crate::Error;
use crate::error::Found;
use crate::report::Tally;

/// The parquet crate panics on some damaged files. To the user that is a damaged file like others.
pub(crate) fn guarded(file: &Path, read: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    // What is half filled when it panics is dropped by the caller, who gets an error.
    panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let source = "the Parquet decoder gave up".into();
        Err(Error::Damaged {
            file: file.to_path_buf(),
            source,
        })
    })
}

#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    pub(crate) index: usize,
    pub(crate) name: &'a str,
}

pub(crate) struct Table<'a> {
    file: &'a Path,
    reader: SerializedFileReader<File>,
    pub(crate) names: Vec<String>,
}

impl<'a> Table<'a> {
    /// Parquet is read from its end, which a stream out of a zip cannot do: so by way of a
    /// temporary file, which the system removes.
    pub(crate) fn open(file: &mut Opened<'a>) -> Result<Self, Error> {
        let path = file.path;
        let write_error = |source| Error::Write {
            path: std::env::temp_dir(),
            source,
        };
        let mut copy = tempfile::tempfile().map_err(write_error)?;
        io::copy(file, &mut copy).map_err(|source| file.error(source))?;
        copy.rewind().map_err(write_error)?;
        let pages = copy.try_clone().map_err(write_error)?;
        let reader = SerializedFileReader::new(copy).map_err(|source| damaged(path, source))?;
        pages::check(&pages, reader.metadata()).map_err(|source| damaged(path, source.into()))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let fields = schema.root_schema().get_fields();
        let names = fields
            .iter()
            .map(|field| field.name().to_string())
            .collect();
        Ok(Self {
            file: path,
            reader,
            names,
        })
    }

    pub(crate) fn columns<'n, const N: usize>(
        &self,
        wanted: [&'n str; N],
    ) -> Result<[Column<'n>; N], Error> {
        let found = find_columns(self.file, &self.names, &wanted)?;
        let mut columns = [Column { index: 0, name: "" }; N];
        for ((column, name), index) in columns.iter_mut().zip(wanted).zip(found) {
            *column = Column { index, name };
        }
        Ok(columns)
    }

    pub(crate) fn for_each_row(
        &self,
        tally: &mut Tally,
        mut read: impl FnMut(&mut Tally, TableRow<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let rows = self
            .reader
            .get_row_iter(None)
            .map_err(|source| damaged(self.file, source))?;
        for (row, line) in rows.zip(1..) {
            let row = row.map_err(|source| damaged(self.file, source))?;
            let row = TableRow {
                file: self.file,
                line,
                row: &row,
            };
            if let Err(error) = read(tally, row) {
                tally.tolerate(error)?;
            }
        }
        Ok(())
    }
}

pub(crate) struct TableRow<'a> {
    file: &'a Path,
    line: u64,
    row: &'a Row,
}

impl<'a> TableRow<'a> {
    pub(crate) fn place<'n>(&self, column: Column<'n>) -> Place<'n>
    where
        'a: 'n,
    {
        Place {
            file: self.file,
            line: self.line,
            column: column.index + 1,
            name: column.name,
        }
    }

    /// A whole number or a text, as text.
    pub(crate) fn text(&self, column: Column<'_>) -> Result<String, Error> {
        let field = self.field(column);
        whole_or_text(field).ok_or_else(|| {
            self.place(column)
                .error(Found::value(&field.to_string()), "a whole number or a text")
        })
    }

    /// As [`text`](Self::text), without quoting what was found.
    pub(crate) fn user_text(&self, column: Column<'_>) -> Result<String, Error> {
        whole_or_text(self.field(column)).ok_or_else(|| {
            self.place(column)
                .error("something else", "a whole number or a text")
        })
    }

    pub(crate) fn rating(&self, column: Column<'_>) -> Result<f32, Error> {
        let field = self.field(column);
        let rating = match field {
            Field::Float(value) => Some(*value),
            Field::Double(value) => Some(*value as f32),
            _ => whole_or_text(field).and_then(|text| text.parse().ok()),
        };
        self.place(column)
            .checked_rating(rating, || Found::value(&field.to_string()))
    }

    /// A cell, whatever it is.
    pub(crate) fn scalar(&self, index: usize) -> Scalar<'a> {
        scalar(self.field(Column { index, name: "" }))
    }

    fn field(&self, column: Column<'_>) -> &'a Field {
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

fn scalar(field: &Field) -> Scalar<'_> {
    match field {
        Field::Null => Scalar::Missing,
        Field::Str(text) if text.trim().is_empty() => Scalar::Missing,
        Field::Str(text) => Scalar::Text(Cow::Borrowed(text)),
        Field::Float(number) => Scalar::Real(f64::from(*number)),
        Field::Double(number) => Scalar::Real(*number),
        Field::Date(days) => Scalar::Seconds(i64::from(*days) * 86_400),
        Field::TimestampMillis(time) => Scalar::Seconds(time.div_euclid(1_000)),
        Field::TimestampMicros(time) => Scalar::Seconds(time.div_euclid(1_000_000)),
        Field::ListInternal(list) => {
            let names = list.elements().iter().filter_map(|element| match element {
                Field::Str(name) => Some(name.clone()),
                _ => None,
            });
            Scalar::List(names.collect())
        }
        _ => match whole_or_text(field) {
            Some(number) => Scalar::Text(Cow::Owned(number)),
            None => Scalar::Other,
        },
    }
}

fn damaged(file: &Path, source: ParquetError) -> Error {
    Error::Damaged {
        file: file.to_path_buf(),
        source: Box::new(source),
    }
}
