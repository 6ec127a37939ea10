//! Where the true next item stands among all items, for any number of people.

use burn::tensor::{Device, Tensor};
use datasets::{Event, EventSlice, ItemIndex};
use user_encoder::{DualEncoder, HistoryEncoder, UserEncoder};

use crate::events::latest;
use crate::metrics::{ndcg_at, rank};
use crate::pretrain::seen;
use crate::recommend::top;
use crate::workers::Workers;
use crate::{EventBatcher, Prepared, RunConfig};

/// An encoder that ranks the whole catalogue.
pub trait RankItems: Sync {
    /// Score of every item of the catalogue to come next, up to a constant the logarithm of its
    /// probability. The histories are read whole.
    ///
    /// # Shapes
    ///
    /// - output: `[histories, items]`
    fn item_logits(
        &self,
        prepared: &Prepared,
        histories: &[EventSlice<'_>],
        device: &Device,
    ) -> Tensor<2>;
}

impl RankItems for UserEncoder {
    fn item_logits(
        &self,
        prepared: &Prepared,
        histories: &[EventSlice<'_>],
        device: &Device,
    ) -> Tensor<2> {
        value_logits(self.next_event_logits(&prepared.batcher.batch(histories, device), 0))
    }
}

/// The logits of a modality's values: those of padding and unknown left out.
pub(crate) fn value_logits(logits: Tensor<2>) -> Tensor<2> {
    let [batch, vocab_size] = logits.dims();
    logits.slice([0..batch, EventBatcher::first_item()..vocab_size])
}

impl RankItems for DualEncoder {
    fn item_logits(
        &self,
        prepared: &Prepared,
        histories: &[EventSlice<'_>],
        device: &Device,
    ) -> Tensor<2> {
        let items: Vec<Event> = (0..prepared.dataset.catalogue.len())
            .map(|item| Event {
                item: item as ItemIndex,
                // Not a part of the label, see `RunConfig`.
                rating: f32::NAN,
                timestamp: 0,
            })
            .collect();
        let items: Vec<EventSlice<'_>> = items.chunks(1).map(EventSlice::from).collect();
        let labels = self.label_embeddings(&prepared.batcher.batch(&items, device));
        let users = self.user_embeddings(&prepared.batcher.batch(histories, device));
        self.scores(users, labels)
    }
}

impl RankItems for HistoryEncoder {
    fn item_logits(
        &self,
        prepared: &Prepared,
        histories: &[EventSlice<'_>],
        device: &Device,
    ) -> Tensor<2> {
        match self {
            Self::NextEvent(encoder) => encoder.item_logits(prepared, histories, device),
            Self::Dual(encoder) => encoder.item_logits(prepared, histories, device),
        }
    }
}

/// What an encoder makes of some histories.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// Rank of each target, from 1, among all items of the catalogue; [`rank`] says how equals
    /// count.
    pub ranks: Vec<usize>,
    /// The best items of each history, best first.
    pub best: Vec<Vec<usize>>,
}

/// How [`rank_targets`] ranks.
#[derive(Clone, Copy, Debug)]
pub struct RankingConfig {
    /// The latest events of each history that are read.
    pub history_len: usize,
    /// Whether what a history holds already is left out; its target never is.
    pub exclude_seen: bool,
    /// Histories that are read at once. The figures do not depend on it.
    pub batch_size: usize,
    /// Batches that are read at once, each by one thread of the CPU; 1 leaves threads to the
    /// backend. The figures do not depend on it.
    pub workers: usize,
    /// Items of [`Ranking::best`]; 0 leaves the lists empty.
    pub k: usize,
}

impl RankingConfig {
    /// As a run's contenders are compared, with lists of `k` items.
    pub(crate) fn of_run(config: &RunConfig, k: usize) -> Self {
        Self {
            history_len: config.data.history_len,
            exclude_seen: config.evaluation.exclude_seen,
            batch_size: config.evaluation.batch_size,
            workers: config.objective.workers,
            k,
        }
    }

    /// As pretraining is validated: on as many events as it reads, and without lists.
    pub(crate) fn of_pretraining(config: &RunConfig) -> Self {
        Self {
            history_len: config.pretraining_history_len(),
            ..Self::of_run(config, 0)
        }
    }
}

/// Mean NDCG@10 of the validation events of these users.
pub(crate) fn validation_ndcg(
    prepared: &Prepared,
    encoder: &dyn RankItems,
    users: &[usize],
    config: RankingConfig,
    device: &Device,
) -> f64 {
    let split = prepared.split();
    let users = users.iter();
    let questions: Vec<_> = users.filter_map(|&user| split.validation(user)).collect();
    let ranks = rank_targets(prepared, encoder, &questions, config, device).ranks;
    let gains = ranks.iter().map(|&rank| ndcg_at(Some(rank), 10));
    gains.sum::<f64>() / questions.len() as f64
}

/// Rank the whole catalogue after each history by an encoder.
///
/// A batch's scores leave the device once, as one tile `[batch_size, items]`. A target's rank is a
/// count over its row and nothing is sorted, so that reading the histories is what takes the time.
///
/// # Panics
///
/// Panics if `batch_size` is 0.
pub fn rank_targets(
    prepared: &Prepared,
    encoder: &dyn RankItems,
    questions: &[(EventSlice<'_>, &Event)],
    config: RankingConfig,
    device: &Device,
) -> Ranking {
    let read = |histories: &[EventSlice<'_>]| {
        let histories = histories.iter();
        let histories: Vec<EventSlice<'_>> = histories
            .map(|&history| latest(history, config.history_len))
            .collect();
        (encoder.item_logits(prepared, &histories, device), ())
    };
    rank_read(questions, config, read).0
}

/// As [`rank_targets`], by the item logits that `read` makes of some histories, with what else it
/// makes of them, batch by batch.
pub(crate) fn rank_read<T: Send>(
    questions: &[(EventSlice<'_>, &Event)],
    config: RankingConfig,
    read: impl Fn(&[EventSlice<'_>]) -> (Tensor<2>, T) + Sync,
) -> (Ranking, Vec<T>) {
    let rank_batch = |questions: &[(EventSlice<'_>, &Event)]| {
        let histories: Vec<EventSlice<'_>> =
            questions.iter().map(|(history, _)| *history).collect();
        let (logits, besides) = read(&histories);
        let [_, n_items] = logits.dims();
        let scores = logits.into_data().convert::<f32>();
        let scores = scores.as_slice::<f32>().expect("converted to f32");
        let mut ranking = Ranking::default();
        for ((history, target), scores) in questions.iter().zip(scores.chunks(n_items)) {
            let excluded = left_out(history, target.item, config.exclude_seen);
            ranking
                .ranks
                .push(rank(scores, target.item as usize, &excluded));
            ranking.best.push(top(scores, &excluded, config.k));
        }
        (ranking, besides)
    };
    let batches = questions.chunks(config.batch_size).collect();
    let mut all = Ranking::default();
    let batches = Workers::new(config.workers).map(batches, rank_batch);
    let besides = batches.into_iter().map(|(ranking, besides)| {
        all.ranks.extend(ranking.ranks);
        all.best.extend(ranking.best);
        besides
    });
    let besides = besides.collect();
    (all, besides)
}

/// The items that a ranking after a history leaves out, ascending: what was seen, if that is left
/// out at all, but never the target. Where people come back to a place, a target may have been seen
/// before; leaving it out would make the question impossible.
pub(crate) fn left_out(history: &[Event], target: ItemIndex, exclude_seen: bool) -> Vec<usize> {
    if !exclude_seen {
        return Vec::new();
    }
    let mut items = seen(history);
    items.retain(|&item| item != target as usize);
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    fn questions(prepared: &Prepared) -> Vec<(EventSlice<'_>, &Event)> {
        let split = prepared.split();
        split.users().filter_map(|user| split.test(user)).collect()
    }

    fn ranking(batch_size: usize, workers: usize, exclude_seen: bool) -> (Prepared, Ranking) {
        let prepared = toy::prepared(&toy::config(&[]));
        let device = Device::flex();
        device.seed(5);
        let encoder = prepared.new_encoder(&device);
        let config = RankingConfig {
            history_len: 5,
            exclude_seen,
            batch_size,
            workers,
            k: 4,
        };
        let ranking = rank_targets(&prepared, &encoder, &questions(&prepared), config, &device);
        (prepared, ranking)
    }

    #[test]
    fn the_same_ranks_and_lists_in_batches_of_1_7_and_256_by_any_number_of_workers() {
        let _alone = toy::alone();
        let (_, one) = ranking(1, 1, true);
        assert_eq!(one.ranks.len(), 12);
        assert!(one.ranks.iter().any(|&rank| rank != one.ranks[0]));
        for (batch_size, workers) in [(7, 1), (256, 1), (1, 2), (7, 2), (256, 2), (5, 3)] {
            assert_eq!(one, ranking(batch_size, workers, true).1);
        }
    }

    #[test]
    fn a_target_is_in_the_list_exactly_where_its_rank_says() {
        let _alone = toy::alone();
        for exclude_seen in [true, false] {
            let (prepared, ranking) = ranking(5, 1, exclude_seen);
            let questions = questions(&prepared);
            for ((&rank, best), (_, target)) in
                ranking.ranks.iter().zip(&ranking.best).zip(&questions)
            {
                let at = best.iter().position(|&item| item == target.item as usize);
                assert_eq!(at.map(|at| at + 1), (rank <= 4).then_some(rank));
            }
        }
    }

    #[test]
    fn leaving_out_what_was_seen_leaves_the_target() {
        let events = [4, 2, 4, 0].map(|item| Event {
            item,
            rating: 3.0,
            timestamp: 0,
        });
        assert_eq!(left_out(&events, 2, true), [0, 4]);
        assert_eq!(left_out(&events, 3, true), [0, 2, 4]);
        assert!(left_out(&events, 3, false).is_empty());
    }
}
