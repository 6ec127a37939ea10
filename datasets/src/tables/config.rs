use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::read::csv::Format;

/// Which table holds the events, and which of its columns is what. A key that does not exist is
/// refused.
///
/// # Example
///
/// ```
/// use datasets::tables::{TableConfig, TimeUnit};
///
/// let config: TableConfig = serde_json::from_str(r#"{
///     "events": "log/",
///     "user": "member_id",
///     "item": "sku",
///     "time": { "column": "ts", "unit": "ms" },
///     "catalogue": {
///         "path": "items.csv",
///         "id": "sku",
///         "title": "name",
///         "categories": { "column": "tags", "separator": "|" }
///     }
/// }"#)?;
/// assert_eq!(config.time.unwrap().unit(), TimeUnit::Milliseconds);
/// assert!(serde_json::from_str::<TableConfig>(r#"{"evnts": "log"}"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// The event log: a file, or a folder of files that have the same columns.
    pub events: PathBuf,
    /// The column of people's ids.
    pub user: String,
    /// The column of items' ids.
    pub item: String,
    /// The column of ratings, 0.5 to 5.
    pub rating: Option<String>,
    /// The column of times. Without one the order of the file counts.
    pub time: Option<TimeColumn>,
    /// The column of texts that people wrote.
    pub text: Option<String>,
    /// The column of their headlines.
    pub summary: Option<String>,
    /// What stands between the columns of CSV; `,` if nothing is said, and a tab in `.tsv`.
    pub separator: Option<char>,
    /// Names for the columns of CSV files that do not name them in their first line.
    pub columns: Option<Vec<String>>,
    /// The table of items.
    pub catalogue: Option<CatalogueConfig>,
}

impl TableConfig {
    /// An event log of people and items alone.
    pub fn new(
        events: impl Into<PathBuf>,
        user: impl Into<String>,
        item: impl Into<String>,
    ) -> Self {
        Self {
            events: events.into(),
            user: user.into(),
            item: item.into(),
            rating: None,
            time: None,
            text: None,
            summary: None,
            separator: None,
            columns: None,
            catalogue: None,
        }
    }

    pub(super) fn format(&self) -> Format {
        format(self.separator, self.columns.as_ref())
    }
}

/// Which table holds the items, and which of its columns is what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueConfig {
    /// A file, or a folder of files that have the same columns.
    pub path: PathBuf,
    /// The column of items' ids.
    pub id: String,
    /// The column of titles. Without one, items go by their ids.
    pub title: Option<String>,
    /// The column of what is said of items, for a frozen text encoder.
    pub description: Option<String>,
    /// The column of the years in which items came out.
    pub year: Option<String>,
    /// The column of categories.
    pub categories: Option<CategoryColumn>,
    /// As [`TableConfig::separator`].
    pub separator: Option<char>,
    /// As [`TableConfig::columns`].
    pub columns: Option<Vec<String>>,
}

impl CatalogueConfig {
    pub(super) fn format(&self) -> Format {
        format(self.separator, self.columns.as_ref())
    }
}

fn format(separator: Option<char>, columns: Option<&Vec<String>>) -> Format {
    Format {
        separator: separator.and_then(|c| u8::try_from(c).ok()),
        names: columns.cloned(),
    }
}

/// A column of times: its name, or its name and its unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TimeColumn {
    /// In seconds.
    InSeconds(String),
    /// In a unit of its own.
    #[serde(rename_all = "snake_case")]
    InUnit {
        /// The column.
        column: String,
        /// What its numbers count, or how it is written.
        unit: TimeUnit,
    },
}

impl TimeColumn {
    /// The column's name.
    pub fn column(&self) -> &str {
        match self {
            Self::InSeconds(column) | Self::InUnit { column, .. } => column,
        }
    }

    /// The column's unit.
    pub fn unit(&self) -> TimeUnit {
        match self {
            Self::InSeconds(_) => TimeUnit::Seconds,
            Self::InUnit { unit, .. } => *unit,
        }
    }
}

/// What the numbers in a column of times count, since 1970 UTC, or how a time is written. In
/// Parquet a column that is a time by its type is one, whatever is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds; a fraction is dropped.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds, as pandas counts.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Text like `2024-02-29`, `2024-02-29 13:45`, `2024-02-29T13:45:00.5+01:00`; UTC if it does
    /// not say.
    #[serde(rename = "iso-8601")]
    Iso8601,
}

impl TimeUnit {
    pub(super) fn per_second(self) -> i64 {
        match self {
            Self::Seconds | Self::Iso8601 => 1,
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }
}

/// A column of categories: its name, or its name and what stands between the categories in a cell.
/// A list is a list without being told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CategoryColumn {
    /// Lists, or one category a cell.
    Whole(String),
    /// Several categories in one text.
    Separated {
        /// The column.
        column: String,
        /// What stands between them.
        separator: String,
    },
}

impl CategoryColumn {
    pub(super) fn column(&self) -> &str {
        match self {
            Self::Whole(column) | Self::Separated { column, .. } => column,
        }
    }

    pub(super) fn separator(&self) -> Option<&str> {
        match self {
            Self::Whole(_) => None,
            // Every text contains the empty one between any two characters.
            Self::Separated { separator, .. } => {
                Some(separator).filter(|s| !s.is_empty()).map(|s| &**s)
            }
        }
    }
}
