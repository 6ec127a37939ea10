//! Pretraining: the encoder learns from histories alone to predict every next event.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use datasets::{Event, LeaveOneOut, Window};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use user_encoder::UserEncoder;

use crate::metrics::ndcg_at;
use crate::prepared::sample;
use crate::ranking::{RankingConfig, rank_targets};
use crate::train::{Objective, Outcome, Session, Stage, mix, train};
use crate::{Error, EventBatcher, Prepared, RunConfig, TrainingConfig};

/// Pretrain an encoder.
///
/// # Errors
///
/// As [`train`](crate::train()).
pub fn pretrain(
    prepared: &Prepared,
    config: &RunConfig,
    device: &Device,
    session: Session<'_>,
) -> Result<(UserEncoder, Outcome), Error> {
    device.seed(config.seed);
    let encoder = prepared.new_encoder(&device.clone().autodiff());
    let mut objective = NextEvent::new(prepared, config, device);
    let stage = Stage {
        name: "pretraining",
        config: config.pretraining.clone(),
        rates: Vec::new(),
        seed: config.seed,
    };
    let (encoder, outcome) = train(encoder, &mut objective, device, &stage, session)?;
    Ok((encoder.valid(), outcome))
}

/// Next-event prediction over windows of the training part; validated by next-item NDCG@10.
struct NextEvent<'a> {
    prepared: &'a Prepared,
    split: LeaveOneOut<'a>,
    device: Device,
    windows: Windows,
    validation_users: Vec<usize>,
    batch_size: usize,
    ranking: RankingConfig,
}

impl<'a> NextEvent<'a> {
    fn new(prepared: &'a Prepared, config: &RunConfig, device: &Device) -> Self {
        let split = prepared.split();
        let users: Vec<usize> = split.users().collect();
        let TrainingConfig {
            validation_users,
            batch_size,
            ..
        } = config.pretraining.clone();
        Self {
            prepared,
            split,
            device: device.clone().autodiff(),
            windows: Windows::new(
                split
                    .windows(config.data.history_len, config.data.stride)
                    .collect(),
                config.seed,
            ),
            validation_users: sample(&users, validation_users, config.seed),
            batch_size,
            ranking: RankingConfig {
                exclude_seen: config.evaluation.exclude_seen,
                batch_size: config.evaluation.batch_size,
                k: 0,
            },
        }
    }
}

impl Objective<UserEncoder> for NextEvent<'_> {
    fn loss(&mut self, encoder: &UserEncoder, step: usize) -> Tensor<1> {
        let split = self.split;
        // Inputs and target together: every position predicts the event after it.
        let histories: Vec<&[Event]> = self
            .windows
            .batch(step, self.batch_size)
            .iter()
            .map(|window| &split.train(window.user)[window.start..=window.end])
            .collect();
        let events = self.prepared.batcher.batch(&histories, &self.device);
        encoder.next_event_loss(&events).total
    }

    fn validate(&mut self, encoder: &UserEncoder) -> f64 {
        let split = self.split;
        let device = self.device.clone().without_autodiff();
        let users = self.validation_users.iter();
        let questions: Vec<_> = users.filter_map(|&user| split.validation(user)).collect();
        let ranking = rank_targets(self.prepared, encoder, &questions, self.ranking, &device);
        let ranks = ranking.ranks.into_iter();
        ranks.map(|rank| ndcg_at(Some(rank), 10)).sum::<f64>() / questions.len() as f64
    }

    fn validation_name(&self) -> &'static str {
        "ndcg@10"
    }
}

/// Score of every item of the catalogue to come next.
///
/// # Shapes
///
/// - output: `[histories, items]`
pub(crate) fn item_logits(
    prepared: &Prepared,
    encoder: &UserEncoder,
    histories: &[&[Event]],
    device: &Device,
) -> Tensor<2> {
    let latest: Vec<&[Event]> = histories
        .iter()
        .map(|history| prepared.batcher.latest(history))
        .collect();
    let events = prepared.batcher.batch(&latest, device);
    let logits = encoder.next_event_logits(&events, 0);
    let [batch, vocab_size] = logits.dims();
    logits.slice([0..batch, EventBatcher::first_item()..vocab_size])
}

/// Probability of every item of the catalogue to come next, one row per history.
pub(crate) fn item_scores(
    prepared: &Prepared,
    encoder: &UserEncoder,
    histories: &[&[Event]],
    device: &Device,
) -> Vec<Vec<f32>> {
    let logits = item_logits(prepared, encoder, histories, device);
    let [_, n_items] = logits.dims();
    let scores = softmax(logits, 1).into_data().convert::<f32>();
    let scores: Vec<f32> = scores
        .try_into_vec()
        .expect("the data was converted to f32");
    scores.chunks(n_items).map(<[f32]>::to_vec).collect()
}

/// Items of a history.
pub(crate) fn seen(history: &[Event]) -> Vec<usize> {
    let mut items: Vec<usize> = history.iter().map(|event| event.item as usize).collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// Training windows in an order that is drawn anew for each pass over them.
pub(crate) struct Windows {
    windows: Vec<Window>,
    seed: u64,
    epoch: Option<usize>,
    order: Vec<usize>,
}

impl Windows {
    pub(crate) fn new(windows: Vec<Window>, seed: u64) -> Self {
        Self {
            order: (0..windows.len()).collect(),
            windows,
            seed,
            epoch: None,
        }
    }

    /// The windows of one step; the same for the same step, whatever was asked before.
    ///
    /// # Panics
    ///
    /// Panics if there are no windows.
    pub(crate) fn batch(&mut self, step: usize, batch_size: usize) -> Vec<Window> {
        assert!(
            !self.windows.is_empty(),
            "no history is long enough to train on"
        );
        let n = self.windows.len();
        (step * batch_size..(step + 1) * batch_size)
            .map(|at| {
                let epoch = at / n;
                if self.epoch != Some(epoch) {
                    self.order = (0..n).collect();
                    let mut random = StdRng::seed_from_u64(mix(self.seed, epoch as u64));
                    self.order.shuffle(&mut random);
                    self.epoch = Some(epoch);
                }
                self.windows[self.order[at % n]]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;
    use rand::RngExt;

    fn windows(n: usize) -> Windows {
        Windows::new(
            (0..n)
                .map(|user| Window {
                    user,
                    start: 0,
                    end: 1,
                })
                .collect(),
            7,
        )
    }

    #[test]
    fn a_batch_is_a_function_of_its_step_alone() {
        let mut in_order = windows(11);
        let sequential: Vec<Vec<Window>> = (0..20).map(|step| in_order.batch(step, 4)).collect();
        let mut at_random = windows(11);
        for step in [19, 3, 0, 7, 7, 18, 2, 5] {
            assert_eq!(at_random.batch(step, 4), sequential[step]);
        }
        assert_eq!(windows(11).batch(13, 4), sequential[13]);
    }

    #[test]
    fn every_pass_has_every_window_once_in_an_order_of_its_own() {
        let mut windows = windows(11);
        let users: Vec<usize> = (0..22)
            .flat_map(|step| windows.batch(step, 2))
            .map(|window| window.user)
            .collect();
        let passes: Vec<&[usize]> = users.chunks(11).collect();
        for pass in &passes {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..11).collect::<Vec<_>>());
        }
        assert_ne!(passes[0], passes[1]);
        assert_ne!(passes[0], (0..11).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "no history is long enough to train on")]
    fn nothing_to_train_on_is_refused() {
        windows(0).batch(0, 1);
    }

    /// Over data of many shapes: what is read in training ends before the validation event.
    #[test]
    fn no_validation_or_test_event_is_ever_in_a_training_batch() {
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..50 {
            let mut dataset = toy::dataset();
            for history in &mut dataset.histories {
                let n = random.random_range(0..30);
                history.events = (0..n)
                    .map(|at| Event {
                        item: at % 19,
                        rating: 3.0,
                        timestamp: i64::from(at),
                    })
                    .collect();
            }
            dataset.histories[0].events = dataset.histories[0]
                .events
                .iter()
                .copied()
                .chain((100..104).map(|at| Event {
                    item: 0,
                    rating: 3.0,
                    timestamp: at,
                }))
                .collect();
            let length = random.random_range(1..9);
            let stride = random.random_range(1..4);
            let config = toy::config(&[
                &format!("data.history_len={length}"),
                &format!("data.stride={stride}"),
            ]);
            let prepared = Prepared::new(dataset, &config).unwrap();
            let mut objective = NextEvent::new(&prepared, &config, &Device::flex());
            for window in (0..40).flat_map(|step| objective.windows.batch(step, 3)) {
                let n = prepared.dataset.histories[window.user].events.len();
                assert!(window.end - window.start <= length);
                // The target included; a history that cannot be split is all for training.
                assert!(window.end < if n < 3 { n } else { n - 2 });
            }
        }
    }

    #[test]
    fn scores_of_items_are_probabilities_of_the_whole_catalogue() {
        let _alone = toy::alone();
        let prepared = toy::prepared(&toy::config(&[]));
        let device = Device::flex();
        let encoder = prepared.new_encoder(&device);
        let histories: Vec<&[Event]> = prepared
            .dataset
            .histories
            .iter()
            .map(|history| &history.events[..])
            .collect();
        let scores = item_scores(&prepared, &encoder, &histories, &device);
        assert_eq!(scores.len(), 12);
        for row in scores {
            assert_eq!(row.len(), 19);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn seen_items_come_once_and_ascending() {
        let events = [4, 2, 4, 0].map(|item| Event {
            item,
            rating: 3.0,
            timestamp: 0,
        });
        assert_eq!(seen(&events), [0, 2, 4]);
    }
}
