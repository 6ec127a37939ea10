//! Recommendations: the likeliest next items of any number of people, a batch at a time.
//!
//! ```no_run
//! # fn main() -> Result<(), trainer::Error> {
//! # let (prepared, encoder): (trainer::Prepared, user_encoder::UserEncoder) = unimplemented!();
//! # let device = burn::tensor::Device::flex();
//! use trainer::recommend::{EncoderRecommender, Recommend, Wanted};
//!
//! let recommender = EncoderRecommender::new(&prepared, &encoder, &device);
//! let wanted = Wanted { k: 10, exclude_seen: true, available: None };
//! for people in prepared.dataset.histories.chunks(recommender.batch_size()) {
//!     let histories: Vec<_> = people.iter().map(|person| person.events.slice(..)).collect();
//!     for recommended in recommender.recommend(&histories, &wanted) {
//!         let best = &recommended[0];
//!         println!("{} ({:.3})", prepared.dataset.catalogue.display_title(best.item), best.score);
//!     }
//! }
//! # Ok(()) }
//! ```

use std::cmp::Ordering;

use burn::tensor::{Device, Tensor};
use datasets::{EventSlice, ItemIndex};
use llm::ranking::{BeamConfig, Ranked};
use llm_fusion::{Trunk, UserLlm};

use crate::pretrain::seen;
use crate::ranking::RankItems;
use crate::tasks::Tasks;
use crate::tune::{Asked, ask, shared_trunk};
use crate::{Error, Prepared, RunConfig, TuningConfig};

/// Histories that the encoder reads at once.
const HISTORIES_PER_BATCH: usize = 128;

/// Beams for each item that is wanted: with fewer, the last places are guesses.
const BEAMS_PER_ITEM: usize = 3;

/// What may be recommended, and how much of it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Items per person; who has fewer left gets fewer.
    pub k: usize,
    /// Whether the items of a person's history are left out.
    pub exclude_seen: bool,
    /// The only items that may be recommended; `None` is the whole catalogue.
    pub available: Option<Vec<ItemIndex>>,
}

/// A recommended item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recommendation {
    /// Its position in the catalogue.
    pub item: ItemIndex,
    /// Natural logarithm of its probability to come next, by whoever recommends it. Of an item that
    /// was added after training the encoder says it on the scale of the trained ones.
    pub score: f32,
}

/// Who can recommend.
pub trait Recommend {
    /// The best items after each history, best first; of equals, the earlier in the catalogue.
    ///
    /// Events of a history may name items that the catalogue lacks: they are read as unknown.
    ///
    /// # Panics
    ///
    /// The language model's, if a history is empty: there is nothing for its Perceiver to read.
    fn recommend(&self, histories: &[EventSlice<'_>], wanted: &Wanted) -> Vec<Vec<Recommendation>>;

    /// Histories that are best given at once.
    fn batch_size(&self) -> usize;
}

/// An encoder by itself, without a language model.
pub struct EncoderRecommender<'a> {
    prepared: &'a Prepared,
    encoder: &'a dyn RankItems,
    device: Device,
}

impl<'a> EncoderRecommender<'a> {
    /// Recommend by this encoder, which is on this device.
    pub fn new(prepared: &'a Prepared, encoder: &'a dyn RankItems, device: &Device) -> Self {
        Self {
            prepared,
            encoder,
            device: device.clone(),
        }
    }
}

impl Recommend for EncoderRecommender<'_> {
    fn recommend(&self, histories: &[EventSlice<'_>], wanted: &Wanted) -> Vec<Vec<Recommendation>> {
        let batcher = &self.prepared.batcher;
        let latest = histories.iter().map(|&history| batcher.latest(history));
        let latest: Vec<EventSlice<'_>> = latest.collect();
        let logits = self
            .encoder
            .item_logits(self.prepared, &latest, &self.device);
        let [_, n_items] = logits.dims();
        let scores = log_likelihoods(logits, self.prepared.n_trained_items());
        let scores = scores.into_data().convert::<f32>();
        let scores = scores.as_slice::<f32>().expect("converted to f32");
        let excluded = wanted.excluded(histories, n_items);
        let rows = scores.chunks(n_items).zip(&excluded);
        rows.map(|(scores, excluded)| {
            let item = |item: usize| Recommendation {
                item: item as ItemIndex,
                score: scores[item],
            };
            top(scores, excluded, wanted.k)
                .into_iter()
                .map(item)
                .collect()
        })
        .collect()
    }

    fn batch_size(&self) -> usize {
        HISTORIES_PER_BATCH
    }
}

/// The language model that reads user embeddings, by a beam search over the titles.
pub struct UserLlmRecommender<'a> {
    prepared: &'a Prepared,
    config: &'a RunConfig,
    tuning: &'a TuningConfig,
    model: &'a UserLlm,
    tasks: &'a Tasks,
    trunk: Option<Trunk>,
}

impl<'a> UserLlmRecommender<'a> {
    /// Recommend by this model, tuned with this config.
    ///
    /// # Errors
    ///
    /// If the config is about the encoder alone.
    pub fn new(
        prepared: &'a Prepared,
        config: &'a RunConfig,
        model: &'a UserLlm,
        tasks: &'a Tasks,
    ) -> Result<Self, Error> {
        Ok(Self {
            prepared,
            config,
            tuning: config.language()?.tuning,
            model,
            tasks,
            trunk: None,
        })
    }

    /// Compute what all people have in common once, if there is any of it: it takes as long as a
    /// few people do, and makes the others several times faster. The answers stay the same.
    pub fn sharing_trunk(mut self) -> Self {
        self.trunk = shared_trunk(self.model, self.tasks, &self.tasks.next_item, self.tuning);
        self
    }
}

impl Recommend for UserLlmRecommender<'_> {
    fn recommend(&self, histories: &[EventSlice<'_>], wanted: &Wanted) -> Vec<Vec<Recommendation>> {
        assert!(
            histories.iter().all(|history| !history.is_empty()),
            "a history is empty"
        );
        let n_items = self.prepared.dataset.catalogue.len();
        let k = wanted.k.min(n_items);
        let search = BeamConfig {
            width: self.config.evaluation.beam_width.max(BEAMS_PER_ITEM * k),
            k,
            normalisation: self.tuning.normalisation,
        };
        let excluded = wanted.excluded(histories, n_items);
        let asked = Asked {
            tasks: self.tasks,
            task: &self.tasks.next_item,
            histories,
            excluded: &excluded,
        };
        let trunk = self.trunk.as_ref();
        let rows = ask(self.model, self.prepared, trunk, asked, &search);
        rows.into_iter()
            .map(|row| {
                let item = |answer: &Ranked| Recommendation {
                    item: answer.sequence as ItemIndex,
                    score: answer.log_likelihood,
                };
                row.iter().map(item).collect()
            })
            .collect()
    }

    fn batch_size(&self) -> usize {
        self.config.evaluation.batch_size
    }
}

/// Log-probabilities of the trained items, and those that were added after training on the same
/// scale: a catalogue that grows changes no score.
fn log_likelihoods(logits: Tensor<2>, n_trained: usize) -> Tensor<2> {
    let [batch, _] = logits.dims();
    let trained = logits.clone().slice([0..batch, 0..n_trained]);
    let most = trained.clone().max_dim(1);
    let sum = (trained - most.clone()).exp().sum_dim(1);
    logits - (sum.log() + most)
}

impl Wanted {
    /// The catalogue's items that may not be recommended after each history, ascending.
    fn excluded(&self, histories: &[EventSlice<'_>], n_items: usize) -> Vec<Vec<usize>> {
        let mut is_out = vec![self.available.is_some(); n_items];
        for &item in self.available.iter().flatten() {
            is_out[item as usize] = false;
        }
        let of_one = |history: &EventSlice<'_>| {
            let mut is_out = is_out.clone();
            if self.exclude_seen {
                // What the catalogue lacks cannot be recommended anyway.
                let known = seen(history).into_iter().filter(|&item| item < n_items);
                known.for_each(|item| is_out[item] = true);
            }
            (0..n_items).filter(|&item| is_out[item]).collect()
        };
        histories.iter().map(of_one).collect()
    }
}

/// The `k` best-scored items that are not excluded (ascending); of equals, the earlier first.
pub(crate) fn top(scores: &[f32], excluded: &[usize], k: usize) -> Vec<usize> {
    let mut out = excluded.iter().copied().peekable();
    let mut items: Vec<usize> = (0..scores.len())
        .filter(|&item| out.next_if_eq(&item).is_none())
        .collect();
    let order =
        |a: &usize, b: &usize| -> Ordering { scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)) };
    if k < items.len() {
        items.select_nth_unstable_by(k, order);
        items.truncate(k);
    }
    items.sort_unstable_by(order);
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;
    use burn::module::Module;
    use datasets::Event;

    fn wanted(k: usize, exclude_seen: bool, available: Option<Vec<ItemIndex>>) -> Wanted {
        Wanted {
            k,
            exclude_seen,
            available,
        }
    }

    fn event(item: ItemIndex) -> Event {
        Event {
            item,
            rating: 4.0,
            timestamp: 0,
        }
    }

    #[test]
    fn the_top_leaves_out_what_is_excluded_and_orders_equals() {
        let scores = [0.1, 0.9, 0.5, 0.9];
        assert_eq!(top(&scores, &[1], 10), [3, 2, 0]);
        assert_eq!(top(&scores, &[], 2), [1, 3]);
        assert!(top(&scores, &[0, 1, 2, 3], 2).is_empty());
        assert!(top(&scores, &[], 0).is_empty());
    }

    #[test]
    fn what_may_be_recommended_is_what_is_available_and_not_seen() {
        let (a, b) = ([event(1), event(99)], [event(3)]);
        let histories = [&a[..], &b[..]].map(EventSlice::from);
        let excluded = wanted(3, true, Some(vec![1, 2, 3])).excluded(&histories, 5);
        assert_eq!(excluded, [vec![0, 1, 4], vec![0, 3, 4]]);
        let excluded = wanted(3, false, Some(vec![2])).excluded(&histories, 5);
        assert_eq!(excluded, [vec![0, 1, 3, 4], vec![0, 1, 3, 4]]);
        let excluded = wanted(3, true, None).excluded(&histories, 5);
        assert_eq!(excluded, [vec![1], vec![3]]);
    }

    /// In a batch or alone, with unknown items or none at all, a person gets the same list.
    #[test]
    fn both_recommend_to_anybody_and_the_same_in_any_batch() {
        let _alone = toy::alone();
        let config = toy::config(&[]);
        let prepared = toy::prepared(&config);
        let tasks = toy::tasks(&prepared, &config);
        let device = Device::flex();
        let model = toy::user_llm(&prepared, &config).valid();
        let by_encoder = EncoderRecommender::new(&prepared, &model.encoder, &device);
        let new = || UserLlmRecommender::new(&prepared, &config, &model, &tasks).unwrap();
        let (by_user_llm, with_trunk) = (new(), new().sharing_trunk());
        assert!(with_trunk.trunk.is_some());

        let unknown = [event(3), event(ItemIndex::MAX), event(19)];
        let histories: Vec<EventSlice<'_>> = prepared
            .dataset
            .histories
            .iter()
            .map(|history| history.events.slice(..))
            .chain([EventSlice::from(&unknown[..])])
            .collect();
        let wanted = wanted(4, true, Some((0..15).collect()));
        let recommenders: [&dyn Recommend; 3] = [&by_encoder, &by_user_llm, &with_trunk];
        let all = recommenders.map(|recommender| {
            let together = recommender.recommend(&histories, &wanted);
            for (history, together) in histories.iter().zip(&together) {
                let alone = recommender.recommend(&[*history], &wanted).remove(0);
                let items =
                    |list: &[Recommendation]| list.iter().map(|r| r.item).collect::<Vec<_>>();
                assert_eq!(items(&alone), items(together));
                for (a, b) in alone.iter().zip(together) {
                    assert!((a.score - b.score).abs() < 1e-4, "{a:?} {b:?}");
                    assert!(a.item < 15 && history.iter().all(|event| event.item != a.item));
                }
                assert!(together.is_sorted_by(|a, b| a.score >= b.score));
            }
            assert_eq!(together.last().map(Vec::len), Some(4));
            together
        });
        let of_nobody = by_encoder.recommend(&[EventSlice::default()], &wanted);
        assert_eq!(of_nobody[0].len(), 4);
        for (plain, shared) in all[1].iter().flatten().zip(all[2].iter().flatten()) {
            assert_eq!(plain.item, shared.item);
            assert!((plain.score - shared.score).abs() < 1e-4);
        }
    }
}
