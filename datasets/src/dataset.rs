use std::collections::BTreeSet;
use std::fmt;

use crate::{Catalogue, DatasetStats, Error, History, NO_RATING, ReadReport};

/// The ratings that a rating may have, whatever the file.
pub(crate) const RATINGS: std::ops::RangeInclusive<f32> = 0.5..=5.0;

/// Everybody's histories over one catalogue.
///
/// Read one with [`load`](crate::load()), or make one of your own histories
/// with [`from_histories`](Self::from_histories). `Debug` shows counts only.
#[derive(Clone, PartialEq)]
pub struct Dataset {
    /// Name of the folder or archive, such as `ml-100k`.
    pub name: String,
    /// All items, rated or not.
    pub catalogue: Catalogue,
    /// One history a person: in numeric order of ids where all are numbers, otherwise in order
    /// of first appearance in the file.
    pub histories: Vec<History>,
    /// The rating values that occur, ascending; none where nobody rates.
    pub ratings: Vec<f32>,
    /// The data's fingerprint: SHA-256, in hexadecimal, of the files that were read. It is taken
    /// after unpacking, so a folder, its gzipped copy and its zip have the same. Empty for
    /// histories that come from no file.
    pub sha256: String,
    /// Whether [`Event::timestamp`](crate::Event::timestamp) is no time but the rank within the
    /// history. Order means something then; gaps, dates and an order across people do not.
    pub time_is_rank: bool,
    /// Fewest interactions that each person and item was made to have by
    /// [`with_min_interactions`](Self::with_min_interactions); 0 if nobody was left out.
    pub min_interactions: usize,
    /// Fewest events that each history was made to have by
    /// [`with_min_history`](Self::with_min_history); 0 if nobody was left out.
    pub min_history: usize,
    /// What the reader dropped, merged or repaired.
    pub report: ReadReport,
}

impl Dataset {
    /// Make a dataset of histories that are already in memory.
    ///
    /// Events are put in time order, those of the same second staying as they are.
    ///
    /// # Errors
    ///
    /// If an event names an item beyond the catalogue, or its rating is neither within 0.5 to 5 nor
    /// [`NO_RATING`].
    ///
    /// # Example
    ///
    /// ```
    /// use datasets::{Catalogue, Dataset, Event, History, Item};
    ///
    /// let item = |id: &str| Item { id: id.into(), title: id.into(), year: None, genres: vec![] };
    /// let catalogue = Catalogue::new(vec![item("a"), item("b")], vec![])?;
    /// let event = |item, timestamp| Event { item, rating: 4.0, timestamp };
    /// let ada = History { user: "ada".into(), events: vec![event(1, 20), event(0, 10)].into() };
    ///
    /// let dataset = Dataset::from_histories("tiny", catalogue, vec![ada])?;
    /// assert_eq!(dataset.histories[0].events[0].item, 0);
    /// assert_eq!(dataset.ratings, [4.0]);
    /// # Ok::<(), datasets::Error>(())
    /// ```
    pub fn from_histories(
        name: impl Into<String>,
        catalogue: Catalogue,
        mut histories: Vec<History>,
    ) -> Result<Self, Error> {
        let mut ratings = BTreeSet::new();
        for event in histories.iter().flat_map(|history| &history.events) {
            if event.item as usize >= catalogue.len() {
                let n_items = catalogue.len();
                return Err(Error::Event {
                    reason: format!("an item beyond the {n_items} listed"),
                });
            }
            if event.rating == NO_RATING {
                continue;
            }
            if !RATINGS.contains(&event.rating) {
                return Err(Error::Event {
                    reason: "a rating that is not within 0.5 to 5".into(),
                });
            }
            // The bits of positive floats sort as the floats do.
            ratings.insert(event.rating.to_bits());
        }
        for history in &mut histories {
            let events = history.events.to_mut();
            events.sort_by_key(|event| event.timestamp);
        }
        Ok(Self {
            name: name.into(),
            catalogue,
            histories,
            ratings: ratings.into_iter().map(f32::from_bits).collect(),
            sha256: String::new(),
            time_is_rank: false,
            min_interactions: 0,
            min_history: 0,
            report: ReadReport::default(),
        })
    }

    /// Counts worth knowing before any training.
    pub fn stats(&self) -> DatasetStats {
        DatasetStats::of(self)
    }

    /// The position of a rating among the [`ratings`](Self::ratings) that occur.
    pub fn rating_index(&self, rating: f32) -> Option<usize> {
        self.ratings.iter().position(|&known| known == rating)
    }

    /// The position of a person's history, found by the id as the file spells it.
    ///
    /// It looks through all histories, so do not call it in a loop.
    pub fn user(&self, id: &str) -> Option<usize> {
        self.histories.iter().position(|history| history.user == id)
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("catalogue", &self.catalogue)
            .field("histories", &self.histories.len())
            .field("ratings", &self.ratings)
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Item};

    fn catalogue() -> Catalogue {
        let item = |id: &str| Item {
            id: id.into(),
            title: id.into(),
            year: None,
            genres: vec![],
        };
        Catalogue::new(vec![item("a"), item("b"), item("c")], vec![]).unwrap()
    }

    fn dataset(events: Vec<Event>) -> Result<Dataset, Error> {
        let history = History {
            user: "canary".into(),
            events: events.into(),
        };
        Dataset::from_histories("tiny", catalogue(), vec![history])
    }

    #[test]
    fn events_of_one_second_keep_their_order() {
        let event = |item, timestamp| Event {
            item,
            rating: 3.0,
            timestamp,
        };
        let dataset = dataset(vec![event(2, 5), event(1, 5), event(0, 4), event(0, 5)]).unwrap();
        let items: Vec<_> = dataset.histories[0]
            .events
            .iter()
            .map(|event| event.item)
            .collect();
        assert_eq!(items, [0, 2, 1, 0]);
    }

    #[test]
    fn ratings_that_occur_are_listed_once_and_ascending() {
        let event = |rating| Event {
            item: 0,
            rating,
            timestamp: 0,
        };
        let dataset = dataset([4.5, 0.5, NO_RATING, 4.5, 3.0].map(event).to_vec()).unwrap();
        assert_eq!(dataset.ratings, [0.5, 3.0, 4.5]);
        assert_eq!(dataset.rating_index(3.0), Some(1));
        assert_eq!(dataset.rating_index(2.0), None);
    }

    #[test]
    fn impossible_events_are_refused_without_naming_the_person() {
        for (item, rating) in [(3, 4.0), (0, -0.5), (0, f32::NAN), (0, 5.5)] {
            let event = Event {
                item,
                rating,
                timestamp: 0,
            };
            let message = dataset(vec![event]).unwrap_err().to_string();
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn debug_shows_no_person() {
        let event = Event {
            item: 1,
            rating: 3.0,
            timestamp: 77,
        };
        let text = format!("{:?}", dataset(vec![event]).unwrap());
        assert!(!text.contains("canary") && !text.contains("77"), "{text}");
    }
}
