//! Pretraining: the encoder learns from histories alone to predict every next event.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use datasets::{Event, LeaveOneOut, Window};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use user_encoder::UserEncoder;

use crate::prepared::sample;
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
}

impl<'a> NextEvent<'a> {
    fn new(prepared: &'a Prepared, config: &RunConfig, device: &Device) -> Self {
        let split = prepared.split();
        let users: Vec<usize> = split.users().collect();
        let TrainingConfig { validation_users, batch_size, .. } = config.pretraining.clone();
        Self {
            prepared,
            split,
            device: device.clone().autodiff(),
            windows: Windows::new(
                split.windows(config.data.history_len, config.data.stride).collect(),
                config.seed,
            ),
            validation_users: sample(&users, validation_users, config.seed),
            batch_size,
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
        let mut sum = 0.0;
        for users in self.validation_users.chunks(128) {
            let parts: Vec<(&[Event], &Event)> =
                users.iter().filter_map(|&user| split.validation(user)).collect();
            let histories: Vec<&[Event]> = parts.iter().map(|(history, _)| *history).collect();
            let scores = item_scores(self.prepared, encoder, &histories, &device);
            for ((history, target), scores) in parts.iter().zip(scores) {
                let rank = crate::metrics::rank(&scores, target.item as usize, &seen(history));
                sum += crate::metrics::ndcg_at(rank, 10);
            }
        }
        sum / self.validation_users.len() as f64
    }

    fn validation_name(&self) -> &'static str {
        "ndcg@10"
    }
}

/// Probability of every item of the catalogue to come next, one row per history.
pub(crate) fn item_scores(
    prepared: &Prepared,
    encoder: &UserEncoder,
    histories: &[&[Event]],
    device: &Device,
) -> Vec<Vec<f32>> {
    let latest: Vec<&[Event]> =
        histories.iter().map(|history| prepared.batcher.latest(history)).collect();
    let events = prepared.batcher.batch(&latest, device);
    let logits = encoder.next_event_logits(&events, 0);
    let [batch, vocab_size] = logits.dims();
    let logits = logits.slice([0..batch, EventBatcher::first_item()..vocab_size]);
    let scores = softmax(logits, 1).into_data().convert::<f32>();
    let scores: Vec<f32> = scores.try_into_vec().expect("the data was converted to f32");
    scores.chunks(vocab_size - EventBatcher::first_item()).map(<[f32]>::to_vec).collect()
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
        Self { order: (0..windows.len()).collect(), windows, seed, epoch: None }
    }

    /// The windows of one step; the same for the same step, whatever was asked before.
    ///
    /// # Panics
    ///
    /// Panics if there are no windows.
    pub(crate) fn batch(&mut self, step: usize, batch_size: usize) -> Vec<Window> {
        assert!(!self.windows.is_empty(), "no history is long enough to train on");
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
