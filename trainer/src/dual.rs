//! Pretraining of the dual encoder: the next event is told from those of the batch's other histories.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use datasets::{EventSlice, Split, Window};
use user_encoder::{DualEncoder, ItemLoss, NegativeSampler};

use crate::prepared::sample;
use crate::pretrain::counts;
use crate::ranking::{RankingConfig, validation_ndcg};
use crate::train::{NDCG, Objective, Outcome, Session, Stage, train};
use crate::windows::Windows;
use crate::{Error, Prepared, RunConfig};

/// Pretrain a dual encoder.
///
/// # Errors
///
/// As [`train`](crate::train()), or if the run is about another encoder.
pub fn pretrain_dual(
    prepared: &Prepared,
    config: &RunConfig,
    device: &Device,
    session: Session<'_>,
) -> Result<(DualEncoder, Outcome), Error> {
    device.seed(config.seed);
    let encoder = prepared.new_dual_encoder(config.dual_encoder()?, &device.clone().autodiff());
    let mut objective = InBatch::new(prepared, config, device)?;
    let stage = Stage {
        name: "pretraining",
        config: config.pretraining.clone(),
        rates: Vec::new(),
        seed: config.seed,
    };
    let (encoder, outcome) = train(encoder, &mut objective, device, &stage, session)?;
    Ok((encoder.valid(), outcome))
}

/// Windows of the training part, of which the last event is the label; validated by next-item
/// NDCG@10.
struct InBatch<'a> {
    prepared: &'a Prepared,
    split: Split<'a>,
    log_q: Option<NegativeSampler>,
    device: Device,
    windows: Windows,
    validation_users: Vec<usize>,
    batch_size: usize,
    ranking: RankingConfig,
}

impl<'a> InBatch<'a> {
    fn new(prepared: &'a Prepared, config: &RunConfig, device: &Device) -> Result<Self, Error> {
        let ItemLoss::InBatchSoftmax { log_q } = config.objective.item_loss else {
            return Err(RunConfig::not_in_batch());
        };
        let split = prepared.split();
        let users: Vec<usize> = split.validation_users().collect();
        let sampler =
            || NegativeSampler::by_popularity(&counts(prepared), config.objective.popularity);
        let stride = config.data.stride.max(1);
        Ok(Self {
            prepared,
            split,
            log_q: log_q.then(sampler),
            device: device.clone().autodiff(),
            windows: Windows::sliding(
                &split,
                config.pretraining_history_len(),
                stride,
                config.seed,
            ),
            validation_users: sample(&users, config.pretraining.validation_users, config.seed),
            batch_size: config.pretraining.batch_size,
            ranking: RankingConfig::of_pretraining(config),
        })
    }
}

impl Objective<DualEncoder> for InBatch<'_> {
    fn loss(&mut self, encoder: &DualEncoder, step: usize) -> Tensor<1> {
        let split = self.split;
        let windows = self.windows.batch(step, self.batch_size);
        let cut = |Window { user, start, end }: Window| {
            let events = split.train(user);
            (events.slice(start..end), events.slice(end..=end))
        };
        let (histories, next): (Vec<EventSlice<'_>>, Vec<EventSlice<'_>>) =
            windows.into_iter().map(cut).unzip();
        let batch = |events: &[EventSlice<'_>]| self.prepared.batcher.batch(events, &self.device);
        encoder.in_batch_loss(&batch(&histories), &batch(&next), self.log_q.as_ref())
    }

    fn validate(&mut self, encoder: &DualEncoder) -> f64 {
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
