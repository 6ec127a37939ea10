use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{for_each_review, review_members};
use crate::event::Rows;
use crate::read::files::Files;
use crate::read::markup::plain;
#[cfg(feature = "store")]
use crate::store::MappedReviews;
use crate::{Dataset, Error, NO_TEXT, ReadOptions, TextIndex};

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

/// The texts of a dataset's events, found by person and event, or by their number.
///
/// Texts that are the same are there once, numbered from 1 by the first event that has them. They
/// lie in a temporary file, which the system removes, or in a prepared store; in memory is the
/// number of each event's text, 4 bytes, and 16 bytes a text where it stands. So a dataset that needs
/// no text does not pay for any.
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
/// let mut dataset = reviews::load(&path)?;
/// let texts = ReviewTexts::read(&path, &dataset)?;
/// assert_eq!(texts.get(0, 0)?.expect("it is there").summary, "Five Stars");
///
/// // Events that say which text is theirs, wherever they go.
/// texts.mark(&mut dataset);
/// let number = dataset.histories[0].events.slice(..).text(0);
/// assert_eq!(texts.review(number)?.text, "Smells nice.");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReviewTexts {
    /// Of every history the number of each event's text.
    numbers: Vec<Rows<TextIndex>>,
    place: Place,
}

enum Place {
    File {
        /// Of every text.
        spans: Vec<Span>,
        file: Mutex<File>,
    },
    #[cfg(feature = "store")]
    Store(MappedReviews),
}

/// Where in the file a text stands, and behind it the summary.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    text: u32,
    summary: u32,
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

    /// Those of a prepared store, for a dataset of its histories.
    ///
    /// # Panics
    ///
    /// Panics if a history does not know its texts.
    #[cfg(feature = "store")]
    pub(crate) fn of_store(reviews: MappedReviews, dataset: &Dataset) -> Self {
        let numbers = dataset.histories.iter().map(|history| {
            let numbers = history.events.texts();
            numbers.expect("histories of the store").clone()
        });
        Self {
            numbers: numbers.collect(),
            place: Place::Store(reviews),
        }
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
        match self.numbers[user][event] {
            NO_TEXT => Ok(None),
            number => self.review(number).map(Some),
        }
    }

    /// What was written, by its number.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// Panics if the number is not from 1 to [`n_texts`](Self::n_texts).
    pub fn review(&self, number: TextIndex) -> Result<Review, Error> {
        let row = (number as usize).checked_sub(1).expect("a text");
        let (spans, file) = match &self.place {
            Place::File { spans, file } => (spans, file),
            #[cfg(feature = "store")]
            Place::Store(reviews) => return Ok(reviews.get(row)),
        };
        let span = spans[row];
        let mut bytes = vec![0; span.text as usize + span.summary as usize];
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(span.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| Error::Read {
                path: std::env::temp_dir(),
                source,
            })?;
        let (text, summary) = bytes.split_at(span.text as usize);
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Review {
            text: string(text),
            summary: string(summary),
        })
    }

    /// Number of different texts.
    pub fn n_texts(&self) -> usize {
        match &self.place {
            Place::File { spans, .. } => spans.len(),
            #[cfg(feature = "store")]
            Place::Store(reviews) => reviews.len(),
        }
    }

    /// Have the events of the dataset say which text was written at each.
    ///
    /// # Panics
    ///
    /// Panics if the dataset is not the one whose texts these are.
    pub fn mark(&self, dataset: &mut Dataset) {
        let histories = &mut dataset.histories;
        assert_eq!(histories.len(), self.numbers.len(), "texts for each person");
        for (history, numbers) in histories.iter_mut().zip(&self.numbers) {
            history.events.set_texts(numbers.clone());
        }
    }

    /// Of every history the number of each event's text.
    #[cfg(feature = "store")]
    pub(crate) fn numbers(&self) -> &[Rows<TextIndex>] {
        &self.numbers
    }

    /// Number of events with a text or a summary.
    pub fn len(&self) -> usize {
        let numbers = self.numbers.iter().flat_map(|numbers| &**numbers);
        numbers.filter(|&&number| number != NO_TEXT).count()
    }

    /// Whether nobody wrote anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for ReviewTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReviewTexts")
            .field("histories", &self.numbers.len())
            .field("texts", &self.n_texts())
            .finish_non_exhaustive()
    }
}

/// Stands for a record that was met and says nothing, until all are.
const SILENT: TextIndex = TextIndex::MAX;

/// Fills [`ReviewTexts`], in the order of the data files.
pub(crate) struct Writer<'a> {
    dataset: &'a Dataset,
    by_user: HashMap<&'a str, usize>,
    /// Of every history the number of events before it.
    starts: Vec<usize>,
    /// Of every event the number of its text, in the order of the data files; [`NO_TEXT`] until its
    /// record is met.
    numbers: Vec<TextIndex>,
    spans: Vec<Span>,
    /// The texts that are there, by half of their hash.
    known: HashMap<[u8; 16], TextIndex>,
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
            numbers: vec![NO_TEXT; starts[starts.len() - 1]],
            starts,
            dataset,
            spans: Vec::new(),
            known: HashMap::new(),
            file: BufWriter::new(tempfile::tempfile().map_err(write_error)?),
            n_bytes: 0,
        })
    }

    /// Note the texts of the event of this person, item and, if there is one, time; nothing if the
    /// dataset has no such event. Of several the first whose record was not met yet gets it.
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
        let is_new = |place: &usize| self.numbers[*place] == NO_TEXT;
        let place = std::iter::once(first)
            .chain(places)
            .find(is_new)
            .unwrap_or(first);
        self.numbers[place] = match self.number(&plain(text), &plain(summary))? {
            NO_TEXT => SILENT,
            number => number,
        };
        Ok(())
    }

    /// The number of a text, which is written if it is new.
    fn number(&mut self, text: &str, summary: &str) -> Result<TextIndex, Error> {
        if text.is_empty() && summary.is_empty() {
            return Ok(NO_TEXT);
        }
        let mut hash = Sha256::new();
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
        hash.update(summary);
        let hash = hash.finalize()[..16].try_into().expect("half of 32 bytes");
        if let Some(&number) = self.known.get(&hash) {
            return Ok(number);
        }
        self.spans.push(Span {
            start: self.n_bytes,
            text: text.len() as u32,
            summary: summary.len() as u32,
        });
        for part in [text, summary] {
            self.file.write_all(part.as_bytes()).map_err(write_error)?;
            self.n_bytes += part.len() as u64;
        }
        let number = TextIndex::try_from(self.spans.len()).expect("fewer than 2^32 texts");
        self.known.insert(hash, number);
        Ok(number)
    }

    /// What was noted, with texts numbered by the first event that has them: the same whatever the
    /// order of the files, and none that was replaced.
    pub(crate) fn finish(self) -> Result<ReviewTexts, Error> {
        let file = self
            .file
            .into_inner()
            .map_err(|error| write_error(error.into_error()))?;
        let mut final_numbers = vec![NO_TEXT; self.spans.len() + 1];
        let mut spans = Vec::new();
        let mut numbers = self.numbers;
        for number in &mut numbers {
            if matches!(*number, NO_TEXT | SILENT) {
                *number = NO_TEXT;
                continue;
            }
            let found = *number as usize;
            if final_numbers[found] == NO_TEXT {
                spans.push(self.spans[found - 1]);
                final_numbers[found] = spans.len() as TextIndex;
            }
            *number = final_numbers[found];
        }
        let of_history = |ends: &[usize]| Rows::Memory(numbers[ends[0]..ends[1]].to_vec());
        Ok(ReviewTexts {
            numbers: self.starts.windows(2).map(of_history).collect(),
            place: Place::File {
                spans,
                file: Mutex::new(file),
            },
        })
    }
}

fn write_error(source: io::Error) -> Error {
    Error::Write {
        path: std::env::temp_dir(),
        source,
    }
}
