//! One field of a text file, and what may stand in it.

use std::borrow::Cow;
use std::path::Path;

use crate::Error;
use crate::dataset::RATINGS;
use crate::error::Found;
use crate::report::{Finding, Tally};

/// Longest line or CSV record that is read, in bytes, so that a broken file cannot fill memory.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// Longest id of a person or an item, in bytes.
const MAX_ID: usize = 256;

/// The last second of the year 9999.
const MAX_TIMESTAMP: i64 = 253_402_300_799;

/// Where in which file something stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a Path,
    /// From 1.
    pub(crate) line: u64,
    /// From 1.
    pub(crate) column: usize,
    pub(crate) name: &'a str,
}

impl Place<'_> {
    pub(crate) fn error(&self, found: impl Into<Found>, expected: impl Into<String>) -> Error {
        Error::Row {
            file: self.file.to_path_buf(),
            line: self.line,
            column: self.column,
            name: self.name.to_string(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// A person's id. What is wrong with it is told without quoting it.
    pub(crate) fn user<'t>(&self, text: &'t str) -> Result<&'t str, Error> {
        self.id(text, |text| format!("{} bytes", text.len()).into())
    }

    /// An item's id.
    pub(crate) fn item<'t>(&self, text: &'t str) -> Result<&'t str, Error> {
        self.id(text, Found::value)
    }

    pub(crate) fn rating(&self, text: &str) -> Result<f32, Error> {
        self.checked_rating(text.trim().parse().ok(), || Found::value(text))
    }

    pub(crate) fn checked_rating(
        &self,
        rating: Option<f32>,
        found: impl FnOnce() -> Found,
    ) -> Result<f32, Error> {
        rating
            .filter(|rating| RATINGS.contains(rating))
            .ok_or_else(|| self.error(found(), "a number from 0.5 to 5"))
    }

    pub(crate) fn timestamp(&self, text: &str) -> Result<i64, Error> {
        self.checked_timestamp(text.trim().parse().ok(), || Found::value(text))
    }

    pub(crate) fn checked_timestamp(
        &self,
        timestamp: Option<i64>,
        found: impl FnOnce() -> Found,
    ) -> Result<i64, Error> {
        timestamp
            .filter(|timestamp| (0..=MAX_TIMESTAMP).contains(timestamp))
            .ok_or_else(|| self.error(found(), "whole seconds since 1970, up to the year 9999"))
    }

    /// A time in seconds or, where it is too large for that, in milliseconds.
    pub(crate) fn any_timestamp(&self, text: &str, tally: &mut Tally) -> Result<i64, Error> {
        /// In seconds the year 5138, in milliseconds 1973.
        const FIRST_MILLISECONDS: i64 = 100_000_000_000;
        let number = whole(text.trim());
        let seconds = match number {
            Some(number) if number >= FIRST_MILLISECONDS => Some(number / 1000),
            _ => number,
        };
        let seconds = self.checked_timestamp(seconds, || Found::value(text))?;
        if Some(seconds) != number {
            tally.add(Finding::MillisecondTime);
        }
        Ok(seconds)
    }

    fn id<'t>(&self, text: &'t str, show: impl FnOnce(&str) -> Found) -> Result<&'t str, Error> {
        let id = text.trim();
        if id.is_empty() || id.len() > MAX_ID {
            return Err(self.error(show(id), format!("an id of 1 to {MAX_ID} bytes")));
        }
        Ok(id)
    }
}

/// A whole number, which may have a fraction: `1348272000.0`.
pub(crate) fn whole(text: &str) -> Option<i64> {
    let real = || {
        let real: f64 = text.parse().ok()?;
        // Beyond this neighbours are no longer told apart.
        (real.abs() < 9e15).then_some(real.floor() as i64)
    };
    text.parse().ok().or_else(real)
}

/// Text as UTF-8, or as latin-1 if it is not UTF-8. Latin-1 with an accent is never UTF-8 in
/// practice: it would need two special characters side by side in just the right ranges.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => encoding_rs::mem::decode_latin1(bytes),
    }
}
