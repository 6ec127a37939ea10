//! What a reader did not take as it stood, by kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a dataset is read. A key that does not exist is refused.
///
/// # Example
///
/// ```
/// use datasets::ReadOptions;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path();
/// std::fs::write(path.join("movies.dat"), "1::Heat (1995)::Crime\n")?;
/// std::fs::write(path.join("ratings.dat"), "7::1::five::9\n7::1::5::9\n")?;
/// assert!(datasets::load(path).is_err());
///
/// let options = ReadOptions { skip_bad: 10, ..ReadOptions::default() };
/// let dataset = datasets::load_with(path, &options)?;
/// assert_eq!(dataset.report.to_string(), "records skipped: 1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// How many records that are not what they must be are left out, and counted, before one more
    /// is an error. 0: the first is.
    pub skip_bad: u64,
    /// Whether errors tell the length of a value in the place of the value.
    pub mask_values: bool,
    /// What becomes of a second review of one thing by one person.
    pub repeats: Repeats,
}

/// What becomes of the second event of one person with one item, where a person is to have one:
/// in [reviews](crate::reviews) and in [your own tables](crate::tables).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeats {
    /// The newest stays, of one second the last in the file. Copies of an event are counted apart.
    #[default]
    Newest,
    /// All stay: watching or visiting again is an event of its own.
    Keep,
}

/// One kind of thing that a reader dropped, merged or repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// A record that is not what it must be, left out because
    /// [`skip_bad`](ReadOptions::skip_bad) allows it.
    SkippedRecord,
    /// An event without a time, left out.
    MissingTime,
    /// An event that is there already, with the same time and rating: left out.
    CopiedEvent,
    /// An event that gave way to a newer one of the same person with the same item.
    ReplacedEvent,
    /// An event without a rating.
    MissingRating,
    /// An event without a text.
    MissingText,
    /// A time in milliseconds, made seconds.
    MillisecondTime,
    /// Further metadata for an item: filled the gaps of the first.
    RepeatedItem,
    /// An item with events and without metadata: goes by its id.
    UnlistedItem,
    /// Metadata without a title, or with markup alone: the item goes by its id.
    MissingTitle,
    /// A title with markup, which was taken out.
    CleanedTitle,
    /// Metadata without a category.
    MissingCategory,
    /// A category beyond the 65,535 most frequent ones or with markup, left out.
    DroppedCategory,
    /// A list that is written as a text.
    ListAsText,
    /// A record that is a Python literal and not JSON.
    PythonLiteral,
    /// A line that is not UTF-8, read as latin-1.
    Latin1,
}

impl Finding {
    fn describe(self) -> &'static str {
        match self {
            Self::SkippedRecord => "records skipped",
            Self::MissingTime => "events dropped, no time",
            Self::CopiedEvent => "events dropped, copies",
            Self::ReplacedEvent => "events replaced by newer",
            Self::MissingRating => "events without rating",
            Self::MissingText => "events without text",
            Self::MillisecondTime => "times in milliseconds",
            Self::RepeatedItem => "items repeated, merged",
            Self::UnlistedItem => "items without metadata",
            Self::MissingTitle => "items without title",
            Self::CleanedTitle => "titles with markup",
            Self::MissingCategory => "items without category",
            Self::DroppedCategory => "categories dropped",
            Self::ListAsText => "lists written as text",
            Self::PythonLiteral => "records in Python",
            Self::Latin1 => "lines in latin-1",
        }
    }
}

/// How much of each kind a reader dropped, merged or repaired. `Display` gives a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReadReport(BTreeMap<Finding, u64>);

impl ReadReport {
    /// How often this was found.
    pub fn count(&self, finding: Finding) -> u64 {
        self.0.get(&finding).copied().unwrap_or(0)
    }

    /// Whether everything was taken as it stood.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was found, in words, and how often.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0
            .iter()
            .map(|(finding, &count)| (finding.describe(), count))
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        *self.0.entry(finding).or_default() += 1;
    }
}

impl fmt::Display for ReadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .lines()
            .map(|(name, count)| format!("{name}: {count}"))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

/// The options of one reading, and what it found so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) options: ReadOptions,
    pub(crate) report: ReadReport,
}

impl Tally {
    pub(crate) fn new(options: &ReadOptions) -> Self {
        Self {
            options: options.clone(),
            report: ReadReport::default(),
        }
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.report.add(finding);
    }

    /// Count a record that is not what it must be, or give its error back.
    pub(crate) fn tolerate(&mut self, error: crate::Error) -> Result<(), crate::Error> {
        let limit = self.options.skip_bad;
        match error {
            crate::Error::Row { .. } if self.report.count(Finding::SkippedRecord) < limit => {
                self.add(Finding::SkippedRecord);
                Ok(())
            }
            crate::Error::Row { .. } if limit > 0 => Err(crate::Error::TooManyBad {
                limit,
                last: Box::new(error),
            }),
            error => Err(error),
        }
    }
}
