use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{for_each_review, review_members};
use crate::read::files::Files;
use crate::read::markup::plain;
use crate::{Dataset, Error, ReadOptions};

/// What a person wrote about an item, without markup.
///
/// `Debug` shows how long the texts are, never the texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Review {
    /// The review itself; may be empty.
    pub text: String,
    /// Its headline; empty where the edition has none.
    pub summary: String,
}

impl fmt::Debug for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Review")
            .field("text", &self.text.len())
            .field("summary", &self.summary.len())
            .finish()
    }
}

/// The texts of a dataset's events, found by person and event.
///
/// They lie in a temporary file, which the system removes; in memory is where each one stands, 16
/// bytes an event. So a dataset that needs no text does not pay for any.
///
/// # Example
///
/// ```
/// use datasets::reviews::{self, ReviewTexts};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("All_Beauty_5.json");
/// std::fs::write(
///     &path,
///     r#"{"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1472688000,
///         "reviewText": "Smells nice.", "summary": "Five Stars"}"#.replace('\n', ""),
/// )?;
/// let dataset = reviews::load(&path)?;
/// let texts = ReviewTexts::read(&path, &dataset)?;
/// assert_eq!(texts.get(0, 0)?.expect("it is there").summary, "Five Stars");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReviewTexts {
    /// Of every history the number of events before it.
    starts: Vec<usize>,
    /// Of every event.
    spans: Vec<Span>,
    file: Mutex<File>,
}

/// Where in the file a text stands, and behind it the summary.
#[derive(Clone, Copy, Default)]
struct Span {
    start: u64,
    text: u32,
    summary: u32,
}

impl Span {
    fn is_empty(&self) -> bool {
        self.text == 0 && self.summary == 0
    }
}

impl ReviewTexts {
    /// Read the texts of a dataset's events from the files that it was read from. The dataset may
    /// have been filtered since.
    ///
    /// # Errors
    ///
    /// As [`reviews::load`](super::load); and [`Error::Write`] where there is no space for
    /// temporary files.
    pub fn read(path: &Path, dataset: &Dataset) -> Result<Self, Error> {
        Self::read_with(path, dataset, &ReadOptions::default())
    }

    /// As [`read`](Self::read), with the options that the dataset was read with.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with(path: &Path, dataset: &Dataset, options: &ReadOptions) -> Result<Self, Error> {
        let mut files = Files::open(path, options)?;
        let mut texts = Writer::new(dataset)?;
        for member in review_members(&files)? {
            files.read(&member, |file| {
                for_each_review(file, |_, review| {
                    if review.timestamp.is_none() {
                        return Ok(());
                    }
                    let key = (review.user, review.item, review.timestamp);
                    texts.add(key, review.text, review.summary)
                })
            })?;
        }
        texts.finish()
    }

    /// What a person wrote at an event, by its position in the person's history; `None` where
    /// nothing was written.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the temporary file cannot be read.
    ///
    /// # Panics
    ///
    /// Panics if the dataset has no such event.
    pub fn get(&self, user: usize, event: usize) -> Result<Option<Review>, Error> {
        let events = self.starts[user]..self.starts[user + 1];
        let span = self.spans[events][event];
        if span.is_empty() {
            return Ok(None);
        }
        let mut bytes = vec![0; span.text as usize + span.summary as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(span.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| Error::Read {
                path: std::env::temp_dir(),
                source,
            })?;
        let (text, summary) = bytes.split_at(span.text as usize);
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some(Review {
            text: string(text),
            summary: string(summary),
        }))
    }

    /// Number of events with a text or a summary.
    pub fn len(&self) -> usize {
        self.spans.iter().filter(|span| !span.is_empty()).count()
    }

    /// Whether nobody wrote anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for ReviewTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReviewTexts")
            .field("events", &self.spans.len())
            .finish_non_exhaustive()
    }
}

/// Fills [`ReviewTexts`], in the order of the data files.
pub(crate) struct Writer<'a> {
    dataset: &'a Dataset,
    by_user: HashMap<&'a str, usize>,
    starts: Vec<usize>,
    spans: Vec<Span>,
    file: BufWriter<File>,
    n_bytes: u64,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(dataset: &'a Dataset) -> Result<Self, Error> {
        let histories = &dataset.histories;
        let mut starts = vec![0];
        for history in histories {
            starts.push(starts[starts.len() - 1] + history.events.len());
        }
        Ok(Self {
            by_user: histories
                .iter()
                .map(|history| history.user.as_str())
                .zip(0..)
                .collect(),
            spans: vec![Span::default(); starts[starts.len() - 1]],
            starts,
            dataset,
            file: BufWriter::new(tempfile::tempfile().map_err(write_error)?),
            n_bytes: 0,
        })
    }

    /// Note the texts of the event of this person, item and, if there is one, time; nothing if the
    /// dataset has no such event. Of several the first without a text gets it.
    pub(crate) fn add(
        &mut self,
        (user, item, timestamp): (&str, &str, Option<i64>),
        text: &str,
        summary: &str,
    ) -> Result<(), Error> {
        let Some(&user) = self.by_user.get(user) else {
            return Ok(());
        };
        let Some(item) = self.dataset.catalogue.find(item) else {
            return Ok(());
        };
        let events = &self.dataset.histories[user].events;
        let range = match timestamp {
            Some(time) => {
                events.partition_point(|event| event.timestamp < time)
                    ..events.partition_point(|event| event.timestamp <= time)
            }
            None => 0..events.len(),
        };
        let start = self.starts[user];
        let mut places = range
            .filter(|&at| events[at].item == item)
            .map(|at| start + at);
        let Some(first) = places.next() else {
            return Ok(());
        };
        let has_none = |place: &usize| self.spans[*place].is_empty();
        let place = std::iter::once(first)
            .chain(places)
            .find(has_none)
            .unwrap_or(first);
        let (text, summary) = (plain(text), plain(summary));
        self.spans[place] = Span {
            start: self.n_bytes,
            text: text.len() as u32,
            summary: summary.len() as u32,
        };
        for part in [text, summary] {
            self.file.write_all(part.as_bytes()).map_err(write_error)?;
            self.n_bytes += part.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<ReviewTexts, Error> {
        let file = self
            .file
            .into_inner()
            .map_err(|error| write_error(error.into_error()))?;
        Ok(ReviewTexts {
            starts: self.starts,
            spans: self.spans,
            file: Mutex::new(file),
        })
    }
}

fn write_error(source: io::Error) -> Error {
    Error::Write {
        path: std::env::temp_dir(),
        source,
    }
}
