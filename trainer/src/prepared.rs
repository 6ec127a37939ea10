//! A dataset that is ready to be trained on.

use std::ops::Range;
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use datasets::reviews::ReviewTexts;
use datasets::{Dataset, Event, EventSlice, Split, SplitRule, TextIndex};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use user_encoder::{
    DualEncoder, DualEncoderConfig, EventBatch, HistoryEncoder, ModalityConfig, UserEncoder,
    UserEncoderConfig,
};

use crate::texts::{MappedVectors, TextReader, TextVectors};
use crate::{Error, EventBatcher, ModalityKind, Monitor, RunConfig};

/// Data, batcher, and the users that are tested.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The interactions.
    pub dataset: Dataset,
    /// Makes batches of them.
    pub batcher: EventBatcher,
    /// The encoder's config, complete with the data's vocabulary sizes.
    pub encoder: UserEncoderConfig,
    /// Users that the contenders are tested on, ascending.
    pub test_users: Vec<usize>,
    split: SplitRule,
    /// Vectors of all items' texts, of the modalities that have them, in their order.
    pub(crate) texts: Vec<(ModalityKind, TextVectors)>,
}

impl Prepared {
    /// Prepare a dataset for a run.
    ///
    /// # Errors
    ///
    /// If the config does not fit the data, or nobody has enough events to be tested.
    pub fn new(dataset: Dataset, config: &RunConfig) -> Result<Self, Error> {
        let dataset = config.data.filter(dataset);
        let rule = config.data.split.rule(&dataset)?;
        let split = rule.of(&dataset);
        let users: Vec<usize> = split.users().collect();
        let can_train = (0..dataset.histories.len()).any(|user| split.train(user).len() > 1);
        let n = config.data.min_interactions;
        if users.is_empty() && n > 0 {
            return Err(Error::value(
                "data.min_interactions",
                n,
                "less, or 0: of this data too little is left",
            ));
        }
        if users.is_empty() || !can_train {
            return Err(Error::value(
                "data.dataset",
                &config.data.dataset,
                "at least one user with four events: two to learn from, one to validate, one to test",
            ));
        }
        if split.validation_users().next().is_none() {
            return Err(Error::value(
                "data.split",
                split,
                "one that leaves somebody with events to validate on",
            ));
        }
        let mut encoder = config.encoder.clone();
        let batcher = EventBatcher::new(&dataset, &mut encoder, config.data.history_len)?;
        let test_users = sample(&users, config.evaluation.users, config.seed);
        Ok(Self {
            dataset,
            batcher,
            encoder,
            test_users,
            split: rule,
            texts: Vec::new(),
        })
    }

    /// The same with the vectors of all items' texts, where a modality of the encoder has them
    /// (`title-text`, `description-text`): without, no encoder can be made. `descriptions` are in
    /// the catalogue's order; there may be none where no modality reads them.
    ///
    /// # Errors
    ///
    /// If they cannot be read, are not of the width that the config names, or if all are empty.
    ///
    /// # Panics
    ///
    /// Panics if descriptions are to be read and are not as many as items.
    pub fn with_texts_read(
        mut self,
        reader: &TextReader,
        descriptions: &[String],
        monitor: &mut dyn Monitor,
    ) -> Result<Self, Error> {
        let items = &self.dataset.catalogue.items;
        self.texts.clear();
        for modality in &mut self.encoder.modalities {
            let kind = ModalityKind::named(&modality.name)?;
            let texts: Vec<&str> = match kind {
                ModalityKind::TitleText => items.iter().map(|item| item.title.as_str()).collect(),
                ModalityKind::DescriptionText => {
                    assert_eq!(
                        descriptions.len(),
                        items.len(),
                        "a description for each item"
                    );
                    descriptions.iter().map(String::as_str).collect()
                }
                _ => continue,
            };
            if texts.iter().all(|text| text.is_empty()) {
                return Err(has_none(kind, &self.dataset));
            }
            let vectors = reader.read(kind.texts(), &texts, monitor)?;
            set_width(modality, vectors.width)?;
            self.texts.push((kind, vectors));
        }
        Ok(self)
    }

    /// The same with the vectors of what people wrote at their events, for the modality
    /// `review-text`; nothing happens where the encoder has none. They stay where they are, and each
    /// batch has those of its events. Of a review without a text its headline is read.
    ///
    /// # Errors
    ///
    /// As [`with_texts_read`](Self::with_texts_read); or if texts cannot be read.
    ///
    /// # Panics
    ///
    /// Panics if the texts are not those of this dataset.
    pub fn with_reviews_read(
        mut self,
        reader: &TextReader,
        texts: &ReviewTexts,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, Error> {
        let kind = ModalityKind::ReviewText;
        let modalities = &mut self.encoder.modalities;
        let Some(modality) = modalities.iter_mut().find(|one| one.name == kind.name()) else {
            return Ok(self);
        };
        if texts.is_empty() {
            return Err(has_none(kind, &self.dataset));
        }
        let vectors = map_reviews(reader, texts, monitor)?;
        set_width(modality, vectors.width())?;
        texts.mark(&mut self.dataset);
        self.batcher.set_reviews(Arc::new(vectors));
        Ok(self)
    }

    /// The fingerprint of the text encoder that reads for it.
    pub(crate) fn text_encoder(&self) -> Option<&str> {
        let of_items = self.texts.first().map(|(_, vectors)| &vectors.fingerprint);
        let of_events = || self.batcher.reviews().map(|vectors| &vectors.fingerprint);
        of_items.or_else(of_events).map(String::as_str)
    }

    /// What is trained on, validated and tested.
    pub fn split(&self) -> Split<'_> {
        self.split.of(&self.dataset)
    }

    /// A batch of the latest events of each history, as many as the encoder reads.
    pub(crate) fn latest(&self, histories: &[EventSlice<'_>], device: &Device) -> EventBatch {
        let latest = histories
            .iter()
            .map(|&history| self.batcher.latest(history));
        self.batcher.batch(&latest.collect::<Vec<_>>(), device)
    }

    /// A fresh encoder of this run.
    ///
    /// Its weights are drawn here: burn would draw them at their first use, each copy of the
    /// module its own.
    ///
    /// # Panics
    ///
    /// Panics if it reads texts and [`with_texts_read`](Self::with_texts_read) has not been
    /// called since the last items came.
    pub fn new_encoder(&self, device: &Device) -> UserEncoder {
        let mut encoder = drawn(self.encoder.init(device));
        if self.text_encoder().is_some() {
            let constant = device.clone().without_autodiff();
            let frozen = self.encoder.modalities.iter();
            let frozen = frozen.filter(|modality| modality.d_frozen.is_some());
            // What people wrote has no table: its vectors come with the events.
            let table = |modality: &ModalityConfig| {
                let mut texts = self.texts.iter();
                let (_, vectors) = texts.find(|(kind, _)| kind.name() == modality.name)?;
                Some(vectors.table(&constant))
            };
            encoder.embedding.set_vectors(frozen.map(table).collect());
        }
        encoder
    }

    /// A fresh dual encoder of this run.
    pub fn new_dual_encoder(&self, config: &DualEncoderConfig, device: &Device) -> DualEncoder {
        drawn(config.init(&self.encoder, device))
    }

    /// A fresh encoder of this run, of whichever kind it is about.
    pub fn new_history_encoder(&self, config: &RunConfig, device: &Device) -> HistoryEncoder {
        match &config.dual_encoder {
            Some(dual) => self.new_dual_encoder(dual, device).into(),
            None => self.new_encoder(device).into(),
        }
    }

    /// The encoder of a tuning that begins with a random one (`tuning.encoder`): the same whenever it
    /// is asked for.
    pub fn random_encoder(&self, config: &RunConfig, device: &Device) -> HistoryEncoder {
        device.seed(config.seed);
        self.new_history_encoder(config, device)
    }

    /// The genre that most events of a history have; of equals, the one that came up last.
    /// `None` if no event has a genre.
    pub fn favourite_genre(&self, history: &[Event]) -> Option<usize> {
        let n_genres = self.dataset.catalogue.genres.len();
        let mut counts = vec![(0_usize, 0_usize); n_genres];
        for (at, event) in history.iter().enumerate() {
            for &genre in &self.dataset.catalogue.items[event.item as usize].genres {
                let (count, last) = &mut counts[usize::from(genre)];
                *count += 1;
                *last = at;
            }
        }
        let best = (0..n_genres).max_by_key(|&genre| (counts[genre], std::cmp::Reverse(genre)))?;
        (counts[best].0 > 0).then_some(best)
    }
}

/// A module with its weights drawn.
fn drawn<M: Module>(module: M) -> M {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    module.visit(&mut Draw);
    module
}

/// The vectors of all reviews, by their numbers from 1.
pub(crate) fn map_reviews(
    reader: &TextReader,
    texts: &ReviewTexts,
    monitor: &mut dyn Monitor,
) -> Result<MappedVectors, Error> {
    let text = |row: usize| -> Result<String, Error> {
        let review = texts.review(row as TextIndex + 1)?;
        Ok(match review.text.is_empty() {
            true => review.summary,
            false => review.text,
        })
    };
    let some = |rows: Range<usize>| rows.map(text).collect();
    let what = ModalityKind::ReviewText.texts();
    reader.map(what, texts.n_texts(), some, monitor)
}

fn has_none(kind: ModalityKind, dataset: &Dataset) -> Error {
    let expected = format!("a modality that {} has any values of", dataset.name);
    Error::value("encoder.modalities.name", kind.name(), expected)
}

/// Let a modality be as wide as its vectors.
fn set_width(modality: &mut ModalityConfig, width: usize) -> Result<(), Error> {
    match modality.d_frozen.replace(width) {
        Some(given) if given != 0 && given != width => Err(Error::value(
            "encoder.modalities.d_frozen",
            given,
            format!("{width}, which the text encoder has, or no key"),
        )),
        _ => Ok(()),
    }
}

/// `n` of `users`, drawn by a seed, ascending; all of them if `n` is 0 or too large.
pub(crate) fn sample(users: &[usize], n: usize, seed: u64) -> Vec<usize> {
    let mut users = users.to_vec();
    if n > 0 && n < users.len() {
        users.shuffle(&mut StdRng::seed_from_u64(seed));
        users.truncate(n);
        users.sort_unstable();
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;
    use datasets::{Catalogue, History, Item};

    /// Films with genres 0; 1; 2; 0 and 1; none.
    fn prepared() -> Prepared {
        let item = |id: &str, genres: &[u16]| Item {
            id: id.into(),
            title: id.into(),
            year: None,
            genres: genres.to_vec(),
        };
        let items = vec![
            item("a", &[0]),
            item("b", &[1]),
            item("c", &[2]),
            item("ab", &[0, 1]),
            item("none", &[]),
        ];
        let genres = ["A", "B", "C"].map(String::from).to_vec();
        let catalogue = Catalogue::new(items, genres).unwrap();
        let history = History {
            user: "u".into(),
            events: events(&[0, 1, 2, 3, 4]).into(),
        };
        let dataset = Dataset::from_histories("five", catalogue, vec![history]).unwrap();
        Prepared::new(dataset, &toy::config(&[])).unwrap()
    }

    fn events(items: &[u32]) -> Vec<Event> {
        let event = |(at, &item): (usize, &u32)| Event {
            item,
            rating: 3.0,
            timestamp: at as i64,
        };
        items.iter().enumerate().map(event).collect()
    }

    #[test]
    fn the_favourite_genre_is_that_of_most_events() {
        let prepared = prepared();
        let favourite = |items: &[u32]| prepared.favourite_genre(&events(items));
        assert_eq!(favourite(&[0, 2, 2, 1]), Some(2));
        assert_eq!(favourite(&[2, 3, 1]), Some(1));
        assert_eq!(favourite(&[4, 1, 4, 4]), Some(1));
    }

    #[test]
    fn of_equally_frequent_genres_the_one_that_came_up_last_is_the_favourite() {
        let prepared = prepared();
        let favourite = |items: &[u32]| prepared.favourite_genre(&events(items));
        assert_eq!(favourite(&[0, 2]), Some(2));
        assert_eq!(favourite(&[2, 0]), Some(0));
        assert_eq!(favourite(&[1, 0, 0, 1, 4]), Some(1));
        // Of two that came up last together, the first of the list of genres.
        assert_eq!(favourite(&[2, 3]), Some(0));
    }

    #[test]
    fn who_watched_nothing_with_a_genre_has_no_favourite() {
        assert_eq!(prepared().favourite_genre(&events(&[4, 4])), None);
        assert_eq!(prepared().favourite_genre(&[]), None);
    }

    #[test]
    fn test_users_are_drawn_by_the_seed_and_ascend() {
        let users = |patches: &[&str]| toy::prepared(&toy::config(patches)).test_users;
        let five = users(&[]);
        assert_eq!(five.len(), 5);
        assert!(five.is_sorted());
        assert_eq!(five, users(&[]));
        assert_ne!(five, users(&["seed=8"]));
        assert_eq!(users(&["evaluation.users=0"]), (0..12).collect::<Vec<_>>());
        assert_eq!(users(&["evaluation.users=99"]), (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn who_and_what_has_too_few_interactions_is_left_out() {
        let config = toy::config(&["data.min_interactions=5"]);
        let prepared = toy::prepared(&config);
        let histories = &prepared.dataset.histories;
        assert!(histories.len() < 12, "nobody was left out");
        assert!(histories.iter().all(|history| history.events.len() >= 5));
        assert!(prepared.dataset.catalogue.len() < 19);
        assert_eq!(
            prepared.encoder.modalities[0].vocab_size,
            prepared.dataset.catalogue.len() + 2
        );
        assert!(
            crate::evaluate::protocol(&prepared, &config)
                .contains("people and items with at least 5 interactions")
        );
        let none = toy::config(&["data.min_interactions=6"]);
        let error = Prepared::new(toy::dataset(), &none).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("`data.min_interactions` = 6"), "{error}");
    }

    #[test]
    fn a_split_in_time_trains_on_nothing_later_than_what_it_tests() {
        // The toy's histories begin one after the other.
        let cuts = "data.split={ kind = \"global-time\", validation = { fraction = 0.6 }, \
                    test = { fraction = 0.8 } }";
        let config = toy::config(&[cuts, "evaluation.users=0"]);
        let prepared = toy::prepared(&config);
        let split = prepared.split();
        let first_tested = prepared
            .test_users
            .iter()
            .map(|&user| split.test(user).unwrap().1);
        let first_tested = first_tested.map(|event| event.timestamp).min().unwrap();
        let n_users = prepared.dataset.histories.len();
        let trained = (0..n_users).flat_map(|user| split.train(user));
        assert!(trained.map(|event| event.timestamp).max().unwrap() < first_tested);
        assert!(prepared.test_users.len() < n_users);
        let protocol = crate::evaluate::protocol(&prepared, &config);
        assert!(
            protocol.contains("global time, validation from"),
            "{protocol}"
        );
        let all_tested =
            "data.split={ kind = \"by-user\", validation = 0.0, test = 0.5, seed = 1 }";
        let error = Prepared::new(toy::dataset(), &toy::config(&[all_tested])).unwrap_err();
        assert!(error.to_string().contains("to validate on"), "{error}");
    }

    #[test]
    fn the_papers_filter_leaves_out_short_histories_and_keeps_all_items() {
        let longest = toy::dataset().stats().history_max;
        let config = toy::config(&[&format!("data.min_history={longest}")]);
        let prepared = toy::prepared(&config);
        assert!(prepared.dataset.histories.len() < toy::dataset().histories.len());
        assert_eq!(
            prepared.dataset.catalogue.len(),
            toy::dataset().catalogue.len()
        );
    }

    #[test]
    fn data_that_leaves_nothing_to_train_on_is_refused() {
        let mut dataset = toy::dataset();
        for history in &mut dataset.histories {
            history.events.to_mut().truncate(3);
        }
        let error = Prepared::new(dataset, &toy::config(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("at least one user with four events"),
            "{error}"
        );
    }
}
