//! From events to the tensors that the encoder reads.

use burn::tensor::{Device, Tensor, TensorData};
use datasets::{Dataset, Event};
use user_encoder::{EventBatch, PADDING, UserEncoderConfig};

use crate::{Error, ModalityKind};

/// Ids 0 and 1 are padding and unknown; a [`Vocabulary`](datasets::Vocabulary)'s values follow.
const FIRST_VALUE: u32 = datasets::vocabulary::UNKNOWN + 1;

/// Turns histories into batches: the ids of each modality, padded on the right.
#[derive(Clone, Debug)]
pub struct EventBatcher {
    columns: Vec<Column>,
    history_len: usize,
}

/// One modality of every event.
#[derive(Clone, Debug)]
struct Column {
    kind: ModalityKind,
    n_values: usize,
    /// Ids by item, `n_values` each; empty for the rating, which is the event's own.
    by_item: Vec<u32>,
    ratings: Vec<f32>,
}

impl EventBatcher {
    /// Prepare the lookups of the encoder's modalities, and fill in the vocabulary sizes that its
    /// config leaves to the data.
    ///
    /// # Errors
    ///
    /// If a modality has no such name, or a given vocabulary size is not the data's.
    pub fn new(
        dataset: &Dataset,
        encoder: &mut UserEncoderConfig,
        history_len: usize,
    ) -> Result<Self, Error> {
        let mut columns = Vec::new();
        for modality in &mut encoder.modalities {
            let kind = ModalityKind::named(&modality.name)?;
            let (column, n_known) = Column::new(kind, dataset);
            let vocab_size = n_known + FIRST_VALUE as usize;
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
            columns.push(column);
        }
        Ok(Self {
            columns,
            history_len,
        })
    }

    /// A batch of histories, as they are: the caller has cut them.
    ///
    /// # Panics
    ///
    /// Panics if there is no history.
    pub fn batch(&self, histories: &[&[Event]], device: &Device) -> EventBatch {
        let longest = histories
            .iter()
            .map(|history| history.len())
            .max()
            .expect("no history");
        let length = longest.max(1);
        let modalities = self
            .columns
            .iter()
            .map(|column| {
                let mut ids = Vec::with_capacity(histories.len() * length * column.n_values);
                for history in histories {
                    for event in *history {
                        column.push(event, &mut ids);
                    }
                    let n_padding = (length - history.len()) * column.n_values;
                    ids.extend(std::iter::repeat_n(i64::from(PADDING), n_padding));
                }
                let shape = [histories.len(), length, column.n_values];
                Tensor::from_data(TensorData::new(ids, shape), device)
            })
            .collect();
        EventBatch::new(
            modalities,
            histories.iter().map(|history| history.len()).collect(),
        )
    }

    /// The latest events, as many as the encoder reads.
    pub fn latest<'a>(&self, history: &'a [Event]) -> &'a [Event] {
        &history[history.len().saturating_sub(self.history_len)..]
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

impl Column {
    fn new(kind: ModalityKind, dataset: &Dataset) -> (Self, usize) {
        let catalogue = &dataset.catalogue;
        let column = |n_values, by_item| Self {
            kind,
            n_values,
            by_item,
            ratings: Vec::new(),
        };
        match kind {
            ModalityKind::Item => {
                let ids = (0..catalogue.len() as u32)
                    .map(EventBatcher::item_id)
                    .collect();
                (column(1, ids), catalogue.len())
            }
            ModalityKind::Rating => {
                let ratings = dataset.ratings.clone();
                let n_known = ratings.len();
                (
                    Self {
                        ratings,
                        ..column(1, Vec::new())
                    },
                    n_known,
                )
            }
            ModalityKind::Genres => {
                let most = catalogue.items.iter().map(|item| item.genres.len()).max();
                let n_values = most.unwrap_or(0).max(1);
                let mut ids = vec![PADDING; catalogue.len() * n_values];
                for (item, row) in catalogue.items.iter().zip(ids.chunks_mut(n_values)) {
                    for (genre, id) in item.genres.iter().zip(row) {
                        *id = u32::from(*genre) + FIRST_VALUE;
                    }
                }
                (column(n_values, ids), catalogue.genres.len())
            }
        }
    }

    fn push(&self, event: &Event, ids: &mut Vec<i64>) {
        if self.kind == ModalityKind::Rating {
            let index = self
                .ratings
                .iter()
                .position(|&rating| rating == event.rating);
            ids.push(index.map_or(i64::from(user_encoder::UNKNOWN), |index| {
                index as i64 + i64::from(FIRST_VALUE)
            }));
            return;
        }
        let at = event.item as usize * self.n_values;
        match self.by_item.get(at..at + self.n_values) {
            Some(values) => ids.extend(values.iter().map(|&id| i64::from(id))),
            None => {
                ids.push(i64::from(user_encoder::UNKNOWN));
                ids.extend(std::iter::repeat_n(i64::from(PADDING), self.n_values - 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;
    use burn::tensor::Int;

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

    fn ids(tensor: &Tensor<3, Int>) -> Vec<i64> {
        tensor.to_data().iter::<i64>().collect()
    }

    #[test]
    fn ids_are_positions_in_the_vocabulary_after_padding_and_unknown() {
        let batcher = batcher(&mut toy::config(&[]));
        // Film 3 has genre 3 alone, film 4 genres 0 and 2; ratings that occur: 2.5, 3, 4, 5.
        let long = [event(3, 2.5), event(4, 5.0), event(18, 4.0)];
        let batch = batcher.batch(&[&long[..1], &long], &Device::flex());
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
        let batch = batcher.batch(&[&[event(19, 3.5)]], &Device::flex());
        let all: Vec<Vec<i64>> = batch.modalities.iter().map(ids).collect();
        assert_eq!(all, [vec![1], vec![1], vec![1, 0]]);
    }

    #[test]
    fn an_empty_history_is_a_row_of_padding() {
        let batcher = batcher(&mut toy::config(&[]));
        let batch = batcher.batch(&[&[]], &Device::flex());
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
        assert_eq!(items(batcher.latest(&history)), [2, 3, 4, 5, 6]);
        assert_eq!(items(batcher.latest(&history[..2])), [0, 1]);
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

    #[test]
    fn scores_of_items_begin_where_the_first_item_s_id_is() {
        assert_eq!(
            EventBatcher::item_id(0) as usize,
            EventBatcher::first_item()
        );
    }
}
