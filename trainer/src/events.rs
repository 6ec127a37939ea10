//! From events to the tensors that the encoder reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use datasets::{Dataset, Event, EventSlice, Item, NO_TEXT, Vocabulary};
use user_encoder::{EventBatch, PADDING, PackedEvents, UNKNOWN, UserEncoderConfig};

use crate::clock;
use crate::texts::MappedVectors;
use crate::{Error, ModalityKind};

/// Ids 0 and 1 are padding and unknown; a [`Vocabulary`]'s values follow.
const FIRST_VALUE: u32 = UNKNOWN + 1;

/// Items whose titles have to share a word for it to be known: one that is a single item's says
/// nothing that the item does not.
const MIN_ITEMS: usize = 2;

/// Turns histories into batches: the ids of each modality, padded on the right.
#[derive(Clone, Debug)]
pub struct EventBatcher {
    columns: Vec<Column>,
    history_len: usize,
}

/// One modality of every event.
#[derive(Clone, Debug)]
struct Column {
    n_values: usize,
    ids: Ids,
}

/// Where the ids of an event come from.
#[derive(Clone, Debug)]
enum Ids {
    /// The item: its ids, `n_values` each, in the catalogue's order.
    ByItem(Vec<u32>),
    /// The event itself: the ratings that occur, ascending.
    Ratings(Vec<f32>),
    /// The event and the one before it: the time between them.
    Gaps,
    /// The event's time.
    HoursOfWeek,
    /// What was written at the event: its row of the vectors that come with the batch. They are
    /// gathered from these, which are read once the dataset is known.
    Reviews(Option<Arc<MappedVectors>>),
}

impl EventBatcher {
    /// Prepare the lookups of the encoder's modalities, and fill in the vocabulary sizes that its
    /// config leaves to the data.
    ///
    /// # Errors
    ///
    /// If a modality has no such name or the data no values of it, or a given vocabulary size is not
    /// the data's.
    pub fn new(
        dataset: &Dataset,
        encoder: &mut UserEncoderConfig,
        history_len: usize,
    ) -> Result<Self, Error> {
        let mut columns = Vec::new();
        for modality in &mut encoder.modalities {
            let kind = ModalityKind::named(&modality.name)?;
            if kind.is_of_time() && dataset.time_is_rank {
                let expected = format!(
                    "no modality of time: events of {} have an order and no times",
                    dataset.name
                );
                let key = "encoder.modalities.name";
                return Err(Error::value(key, &modality.name, expected));
            }
            let vocabulary = vocabulary(kind, dataset);
            // What people wrote is no list of values.
            if vocabulary.values().is_empty() && kind != ModalityKind::ReviewText {
                return Err(Error::value(
                    "encoder.modalities.name",
                    &modality.name,
                    format!("a modality that {} has any values of", dataset.name),
                ));
            }
            let vocab_size = vocabulary.len();
            match modality.vocab_size {
                0 => modality.vocab_size = vocab_size,
                given if given == vocab_size => {}
                given => {
                    return Err(Error::value(
                        "encoder.modalities.vocab_size",
                        format!("{given} for `{}`", modality.name),
                        format!("{vocab_size}, which this data has, or 0 to take the data's"),
                    ));
                }
            }
            if kind.is_text() {
                // As wide as the vectors that are read later.
                modality.d_frozen.get_or_insert(0);
            }
            columns.push(Column::new(kind, dataset, &vocabulary));
        }
        Ok(Self {
            columns,
            history_len,
        })
    }

    /// Know the items that `all` has behind those of `trained`. They get ids of their own, and what
    /// describes them is read by the vocabularies of `trained`.
    pub(crate) fn know_added_items(
        &mut self,
        encoder: &UserEncoderConfig,
        trained: &Dataset,
        all: &Dataset,
    ) -> Result<(), Error> {
        for (column, modality) in self.columns.iter_mut().zip(&encoder.modalities) {
            let kind = ModalityKind::named(&modality.name)?;
            let values_of = match kind {
                ModalityKind::ReviewText => continue,
                kind if kind == ModalityKind::Item || kind.is_text() => all,
                _ => trained,
            };
            *column = Column::new(kind, all, &vocabulary(kind, values_of));
        }
        Ok(())
    }

    /// Give the vectors of what people wrote, by the numbers that events have of them.
    pub(crate) fn set_reviews(&mut self, vectors: Arc<MappedVectors>) {
        for column in &mut self.columns {
            if let Ids::Reviews(reviews) = &mut column.ids {
                *reviews = Some(vectors.clone());
            }
        }
    }

    /// The vectors of what people wrote, where they are read.
    pub(crate) fn reviews(&self) -> Option<&MappedVectors> {
        self.columns.iter().find_map(|column| match &column.ids {
            Ids::Reviews(vectors) => vectors.as_deref(),
            _ => None,
        })
    }

    /// A batch of histories, as they are: the caller has cut them.
    ///
    /// # Panics
    ///
    /// Panics if there is no history, or if the encoder reads reviews and
    /// [`Prepared::with_reviews_read`](crate::Prepared::with_reviews_read) has not been called.
    pub fn batch(&self, histories: &[EventSlice<'_>], device: &Device) -> EventBatch {
        let longest = histories
            .iter()
            .map(|history| history.len())
            .max()
            .expect("no history");
        let length = longest.max(1);
        let rows: Vec<Vec<EventSlice<'_>>> =
            histories.iter().map(|history| vec![*history]).collect();
        let (modalities, vectors) = self.ids(&rows, length, device);
        let lengths = histories.iter().map(|history| history.len()).collect();
        EventBatch::new(modalities, lengths).with_vectors(vectors)
    }

    /// The same histories packed into rows of the longest history's length, for pretraining.
    ///
    /// # Panics
    ///
    /// Panics if there is no event, or if the encoder reads reviews and
    /// [`Prepared::with_reviews_read`](crate::Prepared::with_reviews_read) has not been called.
    pub fn pack(&self, histories: &[EventSlice<'_>], device: &Device) -> PackedEvents {
        let lengths: Vec<usize> = histories.iter().map(|history| history.len()).collect();
        let length = lengths.iter().copied().max().unwrap_or(0);
        assert!(length > 0, "no event to pack");
        let plan = PackedEvents::plan(&lengths, length);
        let rows: Vec<Vec<EventSlice<'_>>> = plan
            .iter()
            .map(|row| row.iter().map(|&at| histories[at]).collect())
            .collect();
        let (modalities, vectors) = self.ids(&rows, length, device);
        PackedEvents {
            modalities,
            vectors,
            rows: plan
                .iter()
                .map(|row| row.iter().map(|&at| lengths[at]).collect())
                .collect(),
            shares: vec![1.0; self.columns.len()],
        }
    }

    /// Ids of rows of histories laid end to end, `[rows, length, values]` per modality, and the
    /// vectors that come with these events.
    fn ids(
        &self,
        rows: &[Vec<EventSlice<'_>>],
        length: usize,
        device: &Device,
    ) -> (Vec<Tensor<3, Int>>, Vec<Tensor<2>>) {
        let mut vectors = Vec::new();
        let of_column = |column: &Column| {
            let mut ids = Vec::with_capacity(rows.len() * length * column.n_values);
            let mut reviews = Vec::new();
            for (at, row) in rows.iter().enumerate() {
                row.iter()
                    .for_each(|history| column.push(*history, &mut ids, &mut reviews));
                ids.resize((at + 1) * length * column.n_values, i64::from(PADDING));
            }
            if let Ids::Reviews(of_all) = &column.ids {
                let of_all = of_all.as_ref().expect("reviews have been read");
                let constant = device.clone().without_autodiff();
                vectors.push(of_all.table(&reviews, &constant));
            }
            let shape = [rows.len(), length, column.n_values];
            Tensor::from_data(TensorData::new(ids, shape), device)
        };
        (self.columns.iter().map(of_column).collect(), vectors)
    }

    /// The latest events, as many as the encoder reads.
    pub fn latest<'a>(&self, history: EventSlice<'a>) -> EventSlice<'a> {
        latest(history, self.history_len)
    }

    /// Id of an item among the item modality's values.
    pub fn item_id(item: datasets::ItemIndex) -> u32 {
        item + FIRST_VALUE
    }

    /// Position in a row of item scores at which the catalogue's first item stands.
    pub fn first_item() -> usize {
        FIRST_VALUE as usize
    }
}

/// The latest `n` events of a history, or all.
pub(crate) fn latest(history: EventSlice<'_>, n: usize) -> EventSlice<'_> {
    history.slice(history.len().saturating_sub(n)..)
}

/// The values of a modality that the data has.
pub(crate) fn vocabulary(kind: ModalityKind, dataset: &Dataset) -> Vocabulary {
    let items = &dataset.catalogue.items;
    let none = || Vocabulary::new(Vec::<String>::new());
    match kind {
        ModalityKind::Item => Vocabulary::new(items.iter().map(|item| item.id.as_str())),
        ModalityKind::Rating => Vocabulary::new(dataset.ratings.iter().map(f32::to_string)),
        ModalityKind::Genres => Vocabulary::new(&dataset.catalogue.genres),
        ModalityKind::Title => {
            let mut counts = BTreeMap::<String, usize>::new();
            for word in items.iter().flat_map(|item| words(&item.title)) {
                *counts.entry(word).or_default() += 1;
            }
            counts.retain(|_, n_items| *n_items >= MIN_ITEMS);
            Vocabulary::new(counts.into_keys())
        }
        ModalityKind::Year => {
            let years: BTreeSet<u16> = items.iter().filter_map(|item| item.year).collect();
            Vocabulary::new(years.iter().map(u16::to_string))
        }
        ModalityKind::Gap | ModalityKind::HourOfWeek if !has_times(dataset) => none(),
        ModalityKind::Gap => Vocabulary::new(clock::gaps()),
        ModalityKind::HourOfWeek => Vocabulary::new(clock::hours_of_week()),
        // Each item by itself: its row among the vectors.
        ModalityKind::TitleText if items.iter().all(|item| item.title.is_empty()) => none(),
        ModalityKind::TitleText | ModalityKind::DescriptionText => {
            Vocabulary::new(items.iter().map(|item| item.id.as_str()))
        }
        ModalityKind::ReviewText => none(),
    }
}

/// Whether anybody's events have times.
fn has_times(dataset: &Dataset) -> bool {
    let mut events = dataset.histories.iter().flat_map(|history| &history.events);
    !dataset.time_is_rank && events.any(|event| event.timestamp != 0)
}

/// The words of a title, lower-cased, each once.
pub(crate) fn words(title: &str) -> BTreeSet<String> {
    let title = title.to_lowercase();
    title
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}

/// The ids of an item's values: those that the vocabulary has, or one unknown.
fn ids_of(kind: ModalityKind, item: &Item, dataset: &Dataset, vocabulary: &Vocabulary) -> Vec<u32> {
    let known = |value: &str| Some(vocabulary.id_of(value)).filter(|&id| id != UNKNOWN);
    let ids: Vec<u32> = match kind {
        ModalityKind::Item | ModalityKind::TitleText | ModalityKind::DescriptionText => {
            known(&item.id).into_iter().collect()
        }
        ModalityKind::Rating
        | ModalityKind::Gap
        | ModalityKind::HourOfWeek
        | ModalityKind::ReviewText => Vec::new(),
        // A list without any genre is known to be empty: padding.
        ModalityKind::Genres if item.genres.is_empty() => return Vec::new(),
        ModalityKind::Genres => {
            let genres = item.genres.iter();
            let name = |&genre| dataset.catalogue.genres[usize::from(genre)].as_str();
            genres.filter_map(|genre| known(name(genre))).collect()
        }
        ModalityKind::Title => {
            let words = words(&item.title);
            words.iter().filter_map(|word| known(word)).collect()
        }
        ModalityKind::Year => {
            let year = item.year.map(|year| year.to_string());
            year.and_then(|year| known(&year)).into_iter().collect()
        }
    };
    if ids.is_empty() { vec![UNKNOWN] } else { ids }
}

impl Column {
    fn new(kind: ModalityKind, dataset: &Dataset, vocabulary: &Vocabulary) -> Self {
        let of_event = match kind {
            ModalityKind::Rating => Some(Ids::Ratings(dataset.ratings.clone())),
            ModalityKind::Gap => Some(Ids::Gaps),
            ModalityKind::HourOfWeek => Some(Ids::HoursOfWeek),
            ModalityKind::ReviewText => Some(Ids::Reviews(None)),
            _ => None,
        };
        if let Some(ids) = of_event {
            return Self { n_values: 1, ids };
        }
        let items = dataset.catalogue.items.iter();
        let rows: Vec<Vec<u32>> = items
            .map(|item| ids_of(kind, item, dataset, vocabulary))
            .collect();
        let n_values = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut ids = vec![PADDING; rows.len() * n_values];
        for (row, padded) in rows.iter().zip(ids.chunks_mut(n_values)) {
            padded[..row.len()].copy_from_slice(row);
        }
        Self {
            n_values,
            ids: Ids::ByItem(ids),
        }
    }

    /// The ids of a history's events, `n_values` each; and which rows of all reviews' vectors the
    /// batch needs.
    fn push(&self, history: EventSlice<'_>, into: &mut Vec<i64>, reviews: &mut Vec<usize>) {
        for (at, event) in history.iter().enumerate() {
            let id = match &self.ids {
                Ids::ByItem(ids) => {
                    self.push_item(ids, event, into);
                    continue;
                }
                Ids::Ratings(ratings) => {
                    let found = ratings.binary_search_by(|known| known.total_cmp(&event.rating));
                    found.map_or(UNKNOWN, |index| index as u32 + FIRST_VALUE)
                }
                // Nothing comes before the first.
                Ids::Gaps if at == 0 => PADDING,
                Ids::Gaps => value_id(clock::gap(history[at - 1].timestamp, event.timestamp)),
                Ids::HoursOfWeek => value_id(clock::hour_of_week(event.timestamp)),
                Ids::Reviews(_) => match history.text(at) {
                    NO_TEXT => UNKNOWN,
                    text => {
                        reviews.push(text as usize - 1);
                        reviews.len() as u32 - 1 + FIRST_VALUE
                    }
                },
            };
            into.push(i64::from(id));
        }
    }

    fn push_item(&self, ids: &[u32], event: &Event, into: &mut Vec<i64>) {
        let at = event.item as usize * self.n_values;
        match ids.get(at..at + self.n_values) {
            Some(values) => into.extend(values.iter().map(|&id| i64::from(id))),
            None => {
                into.push(i64::from(UNKNOWN));
                into.extend(std::iter::repeat_n(i64::from(PADDING), self.n_values - 1));
            }
        }
    }
}

/// The id of a vocabulary's value by its index.
fn value_id(index: Option<u32>) -> u32 {
    index.map_or(UNKNOWN, |index| index + FIRST_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    fn batcher(config: &mut crate::RunConfig) -> EventBatcher {
        EventBatcher::new(&toy::dataset(), &mut config.encoder, 5).unwrap()
    }

    fn event(item: u32, rating: f32) -> Event {
        Event {
            item,
            rating,
            timestamp: 0,
        }
    }

    fn slice(events: &[Event]) -> EventSlice<'_> {
        events.into()
    }

    fn ids(tensor: &Tensor<3, Int>) -> Vec<i64> {
        tensor.to_data().iter::<i64>().collect()
    }

    #[test]
    fn ids_are_positions_in_the_vocabulary_after_padding_and_unknown() {
        let batcher = batcher(&mut toy::config(&[]));
        // Film 3 has genre 3 alone, film 4 genres 0 and 2; ratings that occur: 2.5, 3, 4, 5.
        let long = [event(3, 2.5), event(4, 5.0), event(18, 4.0)];
        let batch = batcher.batch(&[slice(&long[..1]), slice(&long)], &Device::flex());
        assert_eq!(batch.lengths, [1, 3]);
        assert_eq!(ids(&batch.modalities[0]), [5, 0, 0, 5, 6, 20]);
        assert_eq!(ids(&batch.modalities[1]), [2, 0, 0, 2, 5, 4]);
        assert_eq!(
            ids(&batch.modalities[2]),
            [5, 0, 0, 0, 0, 0, 5, 0, 2, 4, 4, 0]
        );
    }

    #[test]
    fn what_the_vocabulary_lacks_is_unknown() {
        let batcher = batcher(&mut toy::config(&[]));
        let batch = batcher.batch(&[slice(&[event(19, 3.5)])], &Device::flex());
        let all: Vec<Vec<i64>> = batch.modalities.iter().map(ids).collect();
        assert_eq!(all, [vec![1], vec![1], vec![1, 0]]);
    }

    #[test]
    fn an_empty_history_is_a_row_of_padding() {
        let batcher = batcher(&mut toy::config(&[]));
        let batch = batcher.batch(&[slice(&[])], &Device::flex());
        assert_eq!(
            (batch.lengths, ids(&batch.modalities[0])),
            (vec![0], vec![0])
        );
    }

    #[test]
    fn the_latest_events_are_as_many_as_the_encoder_reads() {
        let batcher = batcher(&mut toy::config(&[]));
        let history: Vec<Event> = (0..7).map(|item| event(item, 3.0)).collect();
        let items = |events: &[Event]| events.iter().map(|event| event.item).collect::<Vec<_>>();
        assert_eq!(items(&batcher.latest(slice(&history))), [2, 3, 4, 5, 6]);
        assert_eq!(items(&batcher.latest(slice(&history[..2]))), [0, 1]);
    }

    #[test]
    fn vocabulary_sizes_that_are_left_open_are_the_data_s_and_others_are_refused() {
        let mut config = toy::config(&[]);
        batcher(&mut config);
        let sizes: Vec<usize> = config
            .encoder
            .modalities
            .iter()
            .map(|m| m.vocab_size)
            .collect();
        assert_eq!(sizes, [19 + 2, 4 + 2, 4 + 2]);
        // Filled in, they fit.
        batcher(&mut config);
        config.encoder.modalities[1].vocab_size = 7;
        let error = EventBatcher::new(&toy::dataset(), &mut config.encoder, 5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`encoder.modalities.vocab_size` = 7 for `rating`: expected 6, which this data has, or \
             0 to take the data's"
        );
    }

    fn titles(titles: &[(&str, Option<u16>)]) -> Dataset {
        let item = |(id, &(title, year)): (usize, &(&str, Option<u16>))| Item {
            id: id.to_string(),
            title: title.into(),
            year,
            genres: vec![],
        };
        let items = titles.iter().enumerate().map(item).collect();
        let catalogue = datasets::Catalogue::new(items, vec![]).unwrap();
        let history = datasets::History {
            user: "u".into(),
            events: (0..titles.len() as u32)
                .map(|item| event(item, 3.0))
                .collect(),
        };
        Dataset::from_histories("titles", catalogue, vec![history]).unwrap()
    }

    fn encoder(names: &[&str]) -> UserEncoderConfig {
        let modality = |name: &&str| user_encoder::ModalityConfig::new((*name).into(), 0, 4);
        UserEncoderConfig::new(names.iter().map(modality).collect())
    }

    #[test]
    fn words_that_titles_share_and_years_are_modalities() {
        let dataset = titles(&[
            ("Toy Story", Some(1995)),
            ("TOY-story: the story", Some(1999)),
            ("Heat", Some(1995)),
            ("The 2 Heats", None),
        ]);
        let mut config = encoder(&["item", "title", "year"]);
        let batcher = EventBatcher::new(&dataset, &mut config, 9).unwrap();
        assert_eq!(
            vocabulary(ModalityKind::Title, &dataset).values(),
            ["story", "the", "toy"]
        );
        let events = &dataset.histories[0].events;
        let batch = batcher.batch(&[slice(events)], &Device::flex());
        // Each word once, in the vocabulary's order; `Heat` is nobody else's word.
        let expected = [[2, 4, 0], [2, 3, 4], [1, 0, 0], [3, 0, 0]];
        assert_eq!(ids(&batch.modalities[1]), expected.concat());
        assert_eq!(ids(&batch.modalities[2]), [2, 3, 2, 1]);
        let sizes: Vec<usize> = config.modalities.iter().map(|m| m.vocab_size).collect();
        assert_eq!(sizes, [6, 5, 4]);
    }

    #[test]
    fn a_modality_without_any_value_is_refused() {
        let mut dataset = titles(&[("Heat", None), ("Up", None)]);
        dataset.ratings.clear();
        for name in ["rating", "genres", "title", "year", "gap", "hour-of-week"] {
            let error = EventBatcher::new(&dataset, &mut encoder(&["item", name]), 9).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "`encoder.modalities.name` = {name}: expected a modality that titles has any \
                     values of"
                )
            );
        }
    }

    #[test]
    fn time_is_a_modality_where_there_are_times() {
        let mut dataset = titles(&[("A", None), ("B", None), ("C", None), ("D", None)]);
        let thursday = 1_000_000 * 604_800;
        let times = [thursday, thursday, thursday + 5, thursday + 90_000];
        let events = dataset.histories[0].events.to_mut();
        for (event, time) in events.iter_mut().zip(times) {
            event.timestamp = time;
        }
        let mut config = encoder(&["item", "gap", "hour-of-week"]);
        let batcher = EventBatcher::new(&dataset, &mut config, 9).unwrap();
        let events = &dataset.histories[0].events;
        // Two histories in one row: nothing comes before the first event of either.
        let packed = batcher.pack(&[slice(events), slice(&events[2..])], &Device::flex());
        let first = [0, 2, 2 + 3, 2 + 17];
        assert_eq!(ids(&packed.modalities[1])[..4], first);
        let gaps = ids(&packed.modalities[1]);
        assert_eq!(gaps.iter().filter(|&&id| id != 0).count(), 4);
        // Thursday, hour 0; and Friday, hour 1.
        let hours = [2 + 72, 2 + 72, 2 + 72, 2 + 97];
        assert_eq!(ids(&packed.modalities[2])[..4], hours);

        dataset.time_is_rank = true;
        for name in ["gap", "hour-of-week"] {
            let error = EventBatcher::new(&dataset, &mut encoder(&["item", name]), 9).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("have an order and no times"), "{message}");
        }
    }

    #[test]
    fn scores_of_items_begin_where_the_first_item_s_id_is() {
        assert_eq!(
            EventBatcher::item_id(0) as usize,
            EventBatcher::first_item()
        );
    }
}
