//! Pretraining: the encoder learns from histories alone to predict every next event.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use datasets::{Event, EventSlice, Split, Window};
use user_encoder::{
    Draws, ItemRows, NegativeSampler, NextEventObjective, PackedEvents, UserEncoder,
};

use crate::data_parallel::{DataParallel, even_parts};
use crate::lazy_adamw::SparseTable;
use crate::prepared::sample;
use crate::ranking::{RankItems, RankingConfig, validation_ndcg};
use crate::train::{NDCG, Objective, Outcome, Session, Stage, backward, mix, train};
use crate::windows::Windows;
use crate::{Error, ObjectiveConfig, Prepared, RunConfig, TrainingConfig};

/// Pretrain an encoder.
///
/// # Errors
///
/// As [`train`](crate::train()), or if one of `objective.devices` is not there.
pub fn pretrain(
    prepared: &Prepared,
    config: &RunConfig,
    device: &Device,
    session: Session<'_>,
) -> Result<(UserEncoder, Outcome), Error> {
    device.seed(config.seed);
    let encoder = prepared.new_encoder(&device.clone().autodiff());
    let mut objective = NextEvent::new(prepared, config, device)?;
    let stage = Stage {
        name: "pretraining",
        config: config.pretraining.clone(),
        rates: Vec::new(),
        seed: config.seed,
    };
    let (encoder, outcome) = train(encoder, &mut objective, device, &stage, session)?;
    Ok((encoder.valid(), outcome))
}

/// Where the encoder has its item table.
const ITEM_TABLE: &str = "embedding.modalities.0.table.weight";

/// Next-event prediction over windows of the training part; validated by next-item NDCG@10.
struct NextEvent<'a> {
    prepared: &'a Prepared,
    split: Split<'a>,
    objective: NextEventObjective,
    device: Device,
    windows: Windows,
    parallel: DataParallel,
    /// The item table, where a step reads some of its rows alone.
    sparse: Option<SparseTable>,
    validation_users: Vec<usize>,
    batch_size: usize,
    ranking: RankingConfig,
    seed: u64,
}

impl<'a> NextEvent<'a> {
    fn new(prepared: &'a Prepared, config: &RunConfig, device: &Device) -> Result<Self, Error> {
        let split = prepared.split();
        let users: Vec<usize> = split.validation_users().collect();
        let TrainingConfig {
            validation_users,
            batch_size,
            ..
        } = config.pretraining.clone();
        let ObjectiveConfig {
            task,
            item_loss,
            popularity,
            workers,
            sparse_rows,
            history_len: _,
            devices,
        } = config.objective.clone();
        let history_len = config.pretraining_history_len();
        Ok(Self {
            prepared,
            split,
            objective: NextEventObjective {
                task,
                item: item_loss,
                sampler: NegativeSampler::by_popularity(&counts(prepared), popularity),
            },
            device: device.clone().autodiff(),
            windows: match config.data.stride {
                0 => Windows::drawn(&split, history_len, config.seed),
                stride => Windows::sliding(&split, history_len, stride, config.seed),
            },
            parallel: DataParallel::new(device, workers, "objective.devices", &devices)?,
            sparse: sparse_rows.then(|| SparseTable::new(ITEM_TABLE)),
            validation_users: sample(&users, validation_users, config.seed),
            batch_size,
            ranking: RankingConfig::of_pretraining(config),
            seed: config.seed,
        })
    }

    /// Histories of one step, inputs and target together: every position predicts the event
    /// after it.
    fn histories(&mut self, step: usize) -> Vec<EventSlice<'a>> {
        let split = self.split;
        let windows = self.windows.batch(step, self.batch_size);
        // What the next step needs of a prepared store is read while this one is computed.
        for Window { user, start, end } in self.windows.batch(step + 1, self.batch_size) {
            let history = &self.prepared.dataset.histories[user];
            history.events.read_ahead(start..end + 1);
        }
        let events = |window: Window| split.train(window.user).slice(window.start..=window.end);
        windows.into_iter().map(events).collect()
    }

    /// Histories packed for each device, about as many events for each, with what is drawn for them.
    /// Each is weighted by what part of the predicted events of each modality it has.
    fn parts(&self, histories: Vec<EventSlice<'_>>) -> Vec<(PackedEvents, Draws)> {
        let devices = self.parallel.devices();
        let parts = even_parts(histories, devices.len(), |history| history.len());
        let mut parts: Vec<_> = parts
            .into_iter()
            .zip(devices)
            .map(|(histories, device)| {
                let events = self.prepared.batcher.pack(&histories, device);
                let draws = self.objective.draw(&events);
                (events, draws)
            })
            .collect();
        let counts: Vec<Vec<usize>> = parts
            .iter()
            .map(|(events, draws)| self.objective.n_predicted(events, draws))
            .collect();
        for ((events, _), n_predicted) in parts.iter_mut().zip(&counts) {
            let share = |modality: usize| {
                let all: usize = counts.iter().map(|of_part| of_part[modality]).sum();
                n_predicted[modality] as f64 / all.max(1) as f64
            };
            events.shares = (0..n_predicted.len()).map(share).collect();
        }
        parts
    }
}

impl Objective<UserEncoder> for NextEvent<'_> {
    fn loss(&mut self, encoder: &UserEncoder, step: usize) -> Tensor<1> {
        let histories = self.histories(step);
        let events = self.prepared.batcher.pack(&histories, &self.device);
        self.objective.loss(encoder, &events).total
    }

    /// Side by side where there are workers or devices, and over the rows of the item table that
    /// are read where these alone are to be trained.
    fn gradients(&mut self, encoder: &UserEncoder, step: usize) -> (f32, GradientsParams) {
        if self.parallel.is_alone() && self.sparse.is_none() {
            return backward(self.loss(encoder, step), encoder);
        }
        let histories = self.histories(step);
        let parts = self.parts(histories);
        let rows = self.sparse.as_ref().map(|table| {
            let rows = ItemRows::read(parts.iter().map(|(events, draws)| (events, draws)));
            table.set_read(rows.ids());
            rows
        });
        let seed = mix(self.seed, step as u64);
        let loss = |device: &Device, _, (mut events, mut draws): (PackedEvents, Draws)| {
            let mut encoder = encoder.valid().to_device(device);
            if let Some(rows) = &rows {
                encoder = encoder.over_rows(rows);
                (events, draws) = (events.over_rows(rows), draws.over_rows(rows));
            }
            let encoder = encoder.train();
            let loss = self.objective.loss_of(&encoder, &events, &draws);
            (encoder, loss.total)
        };
        self.parallel.gradients(encoder, parts, seed, loss)
    }

    fn sparse_table(&self) -> Option<SparseTable> {
        self.sparse.clone()
    }

    fn validate(&mut self, encoder: &UserEncoder) -> f64 {
        let device = self.device.clone().without_autodiff();
        validation_ndcg(
            self.prepared,
            encoder,
            &self.validation_users,
            self.ranking,
            &device,
        )
    }

    fn validation_name(&self) -> &'static str {
        NDCG
    }
}

/// Probability of every item of the catalogue to come next, one row per history.
pub(crate) fn item_scores(
    prepared: &Prepared,
    encoder: &impl RankItems,
    histories: &[EventSlice<'_>],
    device: &Device,
) -> Vec<Vec<f32>> {
    let logits = encoder.item_logits(prepared, histories, device);
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

/// How often each item occurs in the training part.
pub(crate) fn counts(prepared: &Prepared) -> Vec<usize> {
    let split = prepared.split();
    let mut counts = vec![0; prepared.dataset.catalogue.len()];
    for user in 0..prepared.dataset.histories.len() {
        for event in split.train(user) {
            counts[event.item as usize] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};

    use super::*;
    use crate::toy;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    /// Loss and all gradients of the second step.
    fn gradients_of(patches: &[&str]) -> (f32, Vec<f32>) {
        let plain = ["encoder.dropout_input=0.0", "encoder.dropout=0.0"];
        let config = toy::config(&[&plain, patches].concat());
        let prepared = toy::prepared(&config);
        let device = Device::flex().autodiff();
        device.seed(3);
        let encoder = prepared.new_encoder(&device);
        let mut objective = NextEvent::new(&prepared, &config, &device).unwrap();
        let (value, grads) = objective.gradients(&encoder, 1);
        let mut all = AllGradients {
            grads,
            values: Vec::new(),
        };
        encoder.visit(&mut all);
        (value, all.values)
    }

    /// Threads on a part each against one on the whole: the same loss and gradients.
    #[test]
    fn workers_give_the_gradient_of_the_whole_batch() {
        // What is masked is drawn, but where it is always the last event: a part of the events
        // predicted that is not its part of the events.
        let masked = [
            "encoder.attention=bidirectional",
            "objective.task={ masked = { probability = 0.5, last_only = 1.0 } }",
            "data.stride=0",
        ];
        let _alone = toy::alone();
        for patches in [&[][..], &masked] {
            let of = |workers: &str| gradients_of(&[patches, &[workers]].concat());
            let (whole, expected) = of("objective.workers=1");
            let several = [
                "objective.workers=2",
                "objective.workers=3",
                "objective.devices=[\"flex\", \"flex\"]",
            ];
            for workers in several {
                let (value, grads) = of(workers);
                assert!((value - whole).abs() < 1e-5);
                assert_eq!(grads.len(), expected.len());
                for (a, b) in grads.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
                }
            }
        }
    }

    /// The item table's gradient is the first that is visited.
    #[test]
    fn where_the_rows_that_are_read_are_trained_no_others_have_a_gradient() {
        let _alone = toy::alone();
        let loss =
            "objective.item_loss={ binary-cross-entropy = { negatives = 1, calibration = 0.0 } }";
        for workers in ["objective.workers=1", "objective.workers=2"] {
            let patches = [loss, workers, "pretraining.batch_size=1", "data.stride=0"];
            let of = |sparse: &str| gradients_of(&[&patches[..], &[sparse]].concat());
            let (_, whole) = of("objective.sparse_rows=false");
            let (value, some) = of("objective.sparse_rows=true");
            assert!(
                value.is_finite() && some.len() < whole.len(),
                "{}",
                some.len()
            );
        }
    }

    struct AllGradients {
        grads: GradientsParams,
        values: Vec<f32>,
    }

    impl ModuleVisitor for AllGradients {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let grad = self.grads.get::<D>(param.id).expect("all parameters train");
            self.values.extend(grad.into_data().iter::<f32>());
        }
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
                &format!("objective.history_len={length}"),
                &format!("data.stride={stride}"),
            ]);
            let prepared = Prepared::new(dataset, &config).unwrap();
            let mut objective = NextEvent::new(&prepared, &config, &Device::flex()).unwrap();
            for window in (0..40).flat_map(|step| objective.windows.batch(step, 3)) {
                let n = prepared.dataset.histories[window.user].events.len();
                assert!(window.end - window.start <= length);
                // The target included; a history that cannot be split is all for training.
                assert!(window.end < if n < 3 { n } else { n - 2 });
            }
        }
    }

    /// Whatever else of the run reads less, pretraining is validated on as many events as it reads.
    #[test]
    fn validation_reads_as_many_events_as_training() {
        let _alone = toy::alone();
        let device = Device::flex();
        let validated = |lengths: [&str; 2]| {
            let config = toy::config(&lengths);
            let prepared = toy::prepared(&config);
            device.seed(3);
            let encoder = prepared.new_encoder(&device);
            let mut objective = NextEvent::new(&prepared, &config, &device).unwrap();
            objective.validate(&encoder)
        };
        let whole = validated(["data.history_len=5", "objective.history_len=5"]);
        let of_pretraining = validated(["data.history_len=1", "objective.history_len=5"]);
        let short = validated(["data.history_len=1", "objective.history_len=1"]);
        assert_eq!(whole, of_pretraining);
        assert_ne!(whole, short);
    }

    #[test]
    fn scores_of_items_are_probabilities_of_the_whole_catalogue() {
        let _alone = toy::alone();
        let prepared = toy::prepared(&toy::config(&[]));
        let device = Device::flex();
        let encoder = prepared.new_encoder(&device);
        let histories: Vec<EventSlice<'_>> = prepared
            .dataset
            .histories
            .iter()
            .map(|history| prepared.batcher.latest(history.events.slice(..)))
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
