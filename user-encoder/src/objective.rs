//! The pretraining objectives: every position predicts every modality of the next event, or masked
//! events are predicted from both sides.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::batch::{EventBatch, PADDING, PackedEvents};
use crate::constant;
use crate::encoder::{UserEncoder, indices};
use crate::noise::uniform;
use crate::sampler::NegativeSampler;
use crate::softmax::softmax_cross_entropy;

/// How the next item is told from the others. The other modalities, whose vocabularies are small,
/// always have the full softmax.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemLoss {
    /// Cross-entropy over the whole catalogue, in tiles.
    Softmax {
        /// Share of the target that is spread over all items.
        label_smoothing: f64,
    },
    /// Cross-entropy over the target and sampled items, each logit corrected by the logarithm of
    /// how often its item is drawn, which keeps it an estimate of the full softmax
    /// ([Bengio and Senécal](https://doi.org/10.1109/TNN.2007.912312)).
    SampledSoftmax {
        /// Items drawn per step, for all its events.
        negatives: usize,
    },
    /// Cross-entropy over the targets of the batch, each row's own against those of the others: a
    /// matrix of all rows by all, so for windows of one target each.
    InBatchSoftmax {
        /// Whether the others' logits are corrected by the logarithm of how often their items are
        /// expected in the batch, as the sampler has it: without, the popular are punished for
        /// being there often ([Yi et al.](https://doi.org/10.1145/3298689.3346996)).
        log_q: bool,
    },
    /// Binary cross-entropy of target against sampled items: with one negative SASRec's own loss;
    /// with many and a calibration that of [gSASRec](https://arxiv.org/abs/2308.07192), but that
    /// scores count from `ln(power of the positive / negatives)`, where the two sides are in balance.
    /// Ranks are the same; without, an encoder whose item table is input and output stays at item
    /// counts (`docs/LOG.md`).
    BinaryCrossEntropy {
        /// Items drawn: for each event its own, up to 8; more are shared by 64 events.
        negatives: usize,
        /// `t` in gSASRec: 0 is plain, 1 gives scores that are calibrated as probabilities.
        calibration: f64,
    },
}

/// Which events are predicted, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderTask {
    /// Every event, from those before it: for causal attention.
    NextEvent,
    /// Some events, from all others of their history (the Cloze task of
    /// [BERT4Rec](https://arxiv.org/abs/1904.06690)): for bidirectional attention. Where none is
    /// drawn, the last event is masked.
    Masked {
        /// Share of the events that are masked.
        probability: f64,
        /// Share of the histories in which the last event alone is masked: how the encoder is
        /// asked for the next one.
        last_only: f64,
    },
}

/// What an encoder is trained on.
#[derive(Clone, Debug)]
pub struct NextEventObjective {
    /// Which events are predicted.
    pub task: EncoderTask,
    /// The loss of modality 0, the item.
    pub item: ItemLoss,
    /// Where negatives come from.
    pub sampler: NegativeSampler,
}

/// The loss and its parts.
#[derive(Clone, Debug)]
pub struct NextEventLoss {
    /// Mean over modalities by their weights (the paper's are equal), a scalar.
    pub total: Tensor<1>,
    /// Mean loss of each modality that has a weight, in the encoder's order.
    pub by_modality: Vec<Tensor<1>>,
}

impl UserEncoder {
    /// Softmax cross-entropy of every modality of every event given the events before it.
    ///
    /// The first event is predicted from BOS; the last is a target only, so a batch may be one
    /// event longer than the encoder's `max_length`. An event of several values (genres) is a target
    /// distribution, uniform over them. Padding is no target, and a batch of nothing but padding
    /// has loss 0 and no gradient.
    ///
    /// User-LLM, section 3.3: `L = 1/M Σ_j −1/L Σ_i log softmax(h_i W_j E_jᵀ)[m_j of event i+1]`.
    ///
    /// # Panics
    ///
    /// Panics under bidirectional attention: the next event is among what is seen.
    pub fn next_event_loss(&self, events: &EventBatch) -> NextEventLoss {
        let [vocab_size, _] = self.embedding.modalities[0].table.weight.dims();
        let objective = NextEventObjective {
            task: EncoderTask::NextEvent,
            item: ItemLoss::Softmax {
                label_smoothing: 0.0,
            },
            sampler: NegativeSampler::uniform(vocab_size),
        };
        objective.loss(self, &events.clone().into())
    }
}

/// What a loss draws: which events are masked, and the items that targets are told from.
#[derive(Clone, Debug)]
pub struct Draws {
    /// Positions of the events that are masked, row by row; `None` where the next are predicted.
    masked: Option<Vec<usize>>,
    /// Ids of items.
    pub(crate) negatives: Vec<u32>,
    /// How often each of them is expected, as a logarithm: what a sampled softmax takes off its
    /// logit.
    log_expected: Vec<f32>,
}

impl NextEventObjective {
    /// The loss over packed histories; see [`UserEncoder::next_event_loss`]. What it
    /// [draws](Self::draw) is drawn here.
    ///
    /// # Panics
    ///
    /// Panics if the encoder's attention is not the task's.
    pub fn loss(&self, encoder: &UserEncoder, events: &PackedEvents) -> NextEventLoss {
        self.loss_of(encoder, events, &self.draw(events))
    }

    /// Draw what the loss over these histories needs, from this thread's noise
    /// ([`seed_dropout`](crate::seed_dropout)).
    pub fn draw(&self, events: &PackedEvents) -> Draws {
        let masked = match self.task {
            EncoderTask::NextEvent => None,
            EncoderTask::Masked {
                probability,
                last_only,
            } => Some(draw_masked(events, probability, last_only)),
        };
        let n_predicted = masked.as_ref().map_or(events.n_events(), Vec::len);
        let negatives = self.sampler.draw(match self.item {
            ItemLoss::SampledSoftmax { negatives } => negatives,
            ItemLoss::BinaryCrossEntropy { negatives, .. } if negatives <= OWN => {
                n_predicted * negatives
            }
            ItemLoss::BinaryCrossEntropy { negatives, .. } => {
                n_predicted.div_ceil(GROUP) * negatives
            }
            ItemLoss::Softmax { .. } | ItemLoss::InBatchSoftmax { .. } => 0,
        });
        Draws {
            log_expected: self.sampler.log_expected(&negatives),
            masked,
            negatives,
        }
    }

    /// Number of events that are predicted, by modality: those that have it.
    pub fn n_predicted(&self, events: &PackedEvents, draws: &Draws) -> Vec<usize> {
        let predicted = draws.predicted(events);
        let known = |modality| rows_with_values(&targets(events, modality, &predicted)).len();
        (0..events.modalities.len()).map(known).collect()
    }

    /// The [`loss`](Self::loss), by what was [drawn](Self::draw) for these histories.
    ///
    /// # Panics
    ///
    /// Panics if the encoder's attention is not the task's.
    pub fn loss_of(
        &self,
        encoder: &UserEncoder,
        events: &PackedEvents,
        draws: &Draws,
    ) -> NextEventLoss {
        if events.n_events() == 0 {
            // Of no event, and yet of this encoder: it can be followed backward.
            let nothing = encoder.nothing();
            return NextEventLoss {
                by_modality: vec![nothing.clone(); encoder.weights.len()],
                total: nothing,
            };
        }
        let hidden = match &draws.masked {
            None => encoder.predicting(events),
            Some(masked) => encoder.unmasking(events, masked),
        };
        let predicted = draws.predicted(events);
        let hidden = match &predicted {
            Some(predicted) => hidden.select(0, predicted.clone()),
            None => hidden,
        };
        let (mut total, mut by_modality) = (None::<Tensor<1>>, Vec::new());
        for (modality, &weight) in encoder.weights.iter().enumerate() {
            if weight == 0.0 {
                continue;
            }
            let targets = targets(events, modality, &predicted);
            let loss = self.modality_loss(encoder, hidden.clone(), targets, modality, draws);
            let loss = loss * events.shares[modality];
            let weighted = loss.clone() * weight;
            by_modality.push(loss);
            total = Some(match total {
                Some(total) => total + weighted,
                None => weighted,
            });
        }
        let total = total.expect("the item is always predicted");
        NextEventLoss {
            total: total / encoder.weights.iter().sum::<f64>(),
            by_modality,
        }
    }

    fn modality_loss(
        &self,
        encoder: &UserEncoder,
        hidden: Tensor<2>,
        targets: Tensor<2, Int>,
        modality: usize,
        draws: &Draws,
    ) -> Tensor<1> {
        let (hidden, targets) = with_values(hidden, targets);
        let Some(hidden) = hidden else {
            return encoder.nothing();
        };
        let (queries, table) = encoder.head(hidden, modality);
        match self.item {
            ItemLoss::SampledSoftmax { .. } if modality == 0 => {
                sampled_softmax(queries, table, targets, draws)
            }
            ItemLoss::InBatchSoftmax { log_q } if modality == 0 => {
                let [n, _] = targets.dims();
                let rows = table.select(0, targets.clone().reshape([n]));
                let scores = queries.matmul(rows.transpose());
                in_batch_softmax(scores, targets, log_q.then_some(&self.sampler))
            }
            ItemLoss::BinaryCrossEntropy {
                negatives,
                calibration,
            } if modality == 0 => {
                let power = self.positive_power(negatives, calibration);
                binary_cross_entropy(queries, table, targets, negatives, power, draws)
            }
            ItemLoss::Softmax { label_smoothing } if modality == 0 => {
                softmax_cross_entropy(queries, table, targets, label_smoothing)
            }
            _ => softmax_cross_entropy(queries, table, targets, 0.0),
        }
    }

    /// gSASRec, equation 12: the power of the positive probability.
    fn positive_power(&self, negatives: usize, calibration: f64) -> f64 {
        // Of all items but the target.
        let rate = negatives as f64 / (self.sampler.n_items() as f64 - 1.0).max(1.0);
        rate * (calibration * (1.0 - 1.0 / rate) + 1.0 / rate)
    }
}

/// Negatives up to this many are drawn for each event by itself.
const OWN: usize = 8;

/// Events that share their negatives where there are more. Drawn once for a whole batch, a few
/// items would be pushed down by thousands of events at once.
const GROUP: usize = 64;

impl Draws {
    /// Positions of the events that are predicted; `None` if all positions are.
    fn predicted(&self, events: &PackedEvents) -> Option<Tensor<1, Int>> {
        let predicted = match &self.masked {
            None => events.real(),
            Some(masked) => Some(masked.clone()),
        };
        predicted.map(|at| indices(at.into_iter(), &events.device()))
    }

    /// The first `n` negatives.
    fn negatives(&self, n: usize, device: &Device) -> Tensor<1, Int> {
        indices(self.negatives[..n].iter().map(|&id| id as usize), device)
    }
}

fn sampled_softmax(
    queries: Tensor<2>,
    table: Tensor<2>,
    targets: Tensor<2, Int>,
    draws: &Draws,
) -> Tensor<1> {
    let (n, device) = (draws.negatives.len(), queries.device());
    let drawn = draws.negatives(n, &device);
    let log_expected = TensorData::new(draws.log_expected.clone(), [1, n]);
    let log_expected = Tensor::<2>::from_data(log_expected, &constant(&device));
    let hits = targets.clone().equal(drawn.clone().unsqueeze_dim(0));
    let target = score(queries.clone(), table.clone(), targets);
    let others = queries.matmul(table.select(0, drawn).transpose()) - log_expected;
    against_others(target, others, hits)
}

fn binary_cross_entropy(
    queries: Tensor<2>,
    table: Tensor<2>,
    targets: Tensor<2, Int>,
    negatives: usize,
    power: f64,
    draws: &Draws,
) -> Tensor<1> {
    let ([n, d], device) = (queries.dims(), queries.device());
    let target = score(queries.clone(), table.clone(), targets.clone());
    let (others, hits) = if negatives <= OWN {
        let drawn = draws.negatives(n * negatives, &device);
        let rows = table.select(0, drawn.clone()).reshape([n, negatives, d]);
        let scores = (rows * queries.unsqueeze_dim(1))
            .sum_dim(2)
            .squeeze_dim::<2>(2);
        (scores, drawn.reshape([n, negatives]).equal(targets))
    } else {
        let groups = n.div_ceil(GROUP);
        let drawn = draws.negatives(groups * negatives, &device);
        let rows = table.select(0, drawn.clone());
        let rows = rows.reshape([groups, negatives, d]);
        let surplus = groups * GROUP - n;
        let queries = queries.pad((0, 0, 0, surplus), 0.0);
        let scores = queries.reshape([groups, GROUP, d]).matmul(rows.transpose());
        let targets = targets.pad((0, 0, 0, surplus), 0);
        let hits = targets
            .reshape([groups, GROUP, 1])
            .equal(drawn.reshape([groups, 1, negatives]));
        let of_events = [groups * GROUP, negatives];
        (
            scores.reshape(of_events).narrow(0, 0, n),
            hits.reshape(of_events).narrow(0, 0, n),
        )
    };
    // From here scores count: with none of them, target and negatives pull equally hard. Else all
    // items would first have to move down together, along a direction that they then share.
    let level = (power / negatives as f64).ln();
    let others = log_sigmoid(-(others + level)).mask_fill(hits, 0.0);
    -(log_sigmoid(target + level) * power + others.sum_dim(1)).mean() / (1 + negatives) as f64
}

/// Cross-entropy of each row's own target against those of other rows, but for the same item.
///
/// # Shapes
///
/// - scores: `[n, n]`, its own on the diagonal
/// - items: `[n, 1]`
pub(crate) fn in_batch_softmax(
    scores: Tensor<2>,
    items: Tensor<2, Int>,
    log_q: Option<&NegativeSampler>,
) -> Tensor<1> {
    let ([n, _], device) = (scores.dims(), scores.device());
    let target = (scores.clone() * Tensor::eye(n, &constant(&device))).sum_dim(1);
    let others = match log_q {
        None => scores,
        Some(sampler) => {
            let ids: Vec<u32> = items.to_data().iter::<u32>().collect();
            let log_expected = TensorData::new(sampler.log_expected(&ids), [1, n]);
            scores - Tensor::from_data(log_expected, &constant(&device))
        }
    };
    against_others(target, others, items.clone().equal(items.transpose()))
}

/// Cross-entropy of each row's target against others, whose logits are corrected by how often they
/// are expected. The target is never among them (`hits` are left out): it stands for itself alone.
///
/// # Shapes
///
/// - target: `[n, 1]`
/// - others, hits: `[n, m]`
fn against_others(target: Tensor<2>, others: Tensor<2>, hits: Tensor<2, Bool>) -> Tensor<1> {
    let others = others.mask_fill(hits, -1e4);
    let likelihood = log_softmax(Tensor::cat(vec![target, others], 1), 1);
    -likelihood.narrow(1, 0, 1).mean()
}

/// Positions of the events that are masked, row by row.
fn draw_masked(events: &PackedEvents, probability: f64, last_only: f64) -> Vec<usize> {
    let mut masked = Vec::new();
    for (at, row) in events.rows.iter().enumerate() {
        let mut begin = at * events.length();
        for &n in row.iter().filter(|&&n| n > 0) {
            let before = masked.len();
            let drawn = uniform(n + 1);
            if drawn[n] >= last_only {
                let history = (begin..begin + n).zip(drawn);
                masked.extend(
                    history
                        .filter(|(_, draw)| *draw < probability)
                        .map(|(at, _)| at),
                );
            }
            begin += n;
            if masked.len() == before {
                masked.push(begin - 1);
            }
        }
    }
    masked
}

/// Ids of one modality of the events that are predicted: `[n_predicted, values]`.
fn targets(
    events: &PackedEvents,
    modality: usize,
    predicted: &Option<Tensor<1, Int>>,
) -> Tensor<2, Int> {
    let [rows, length, values] = events.modalities[modality].dims();
    let all = events.modalities[modality].clone();
    let all = all.reshape([rows * length, values]);
    match predicted {
        Some(predicted) => all.select(0, predicted.clone()),
        None => all,
    }
}

/// The rows whose targets have a value at all.
fn rows_with_values(targets: &Tensor<2, Int>) -> Vec<usize> {
    let [n, values] = targets.dims();
    let ids: Vec<i64> = targets.to_data().iter::<i64>().collect();
    let padding = i64::from(PADDING);
    let is_known = |row: &[i64]| row.iter().any(|&id| id != padding);
    (0..n)
        .filter(|&at| is_known(&ids[at * values..(at + 1) * values]))
        .collect()
}

/// The rows whose targets have a value at all; `None` if no row does.
fn with_values(hidden: Tensor<2>, targets: Tensor<2, Int>) -> (Option<Tensor<2>>, Tensor<2, Int>) {
    let [n, _] = targets.dims();
    let known = rows_with_values(&targets);
    if known.len() == n {
        return (Some(hidden), targets);
    }
    if known.is_empty() {
        return (None, targets);
    }
    let known = indices(known.into_iter(), &hidden.device());
    (
        Some(hidden.select(0, known.clone())),
        targets.select(0, known),
    )
}

/// `q_i · e_target(i)`: `[n, 1]`.
fn score(queries: Tensor<2>, table: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<2> {
    let [n, _] = targets.dims();
    (queries * table.select(0, targets.reshape([n]))).sum_dim(1)
}

impl NextEventLoss {
    /// The parts as plain numbers, in the encoder's order of modalities.
    pub fn values(&self) -> Vec<f32> {
        let value = |loss: &Tensor<1>| loss.clone().into_scalar::<f32>();
        self.by_modality.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::tests::{events, tiny, tiny_config};
    use crate::{AttentionKind, Positions};
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::optim::GradientsParams;
    use burn::optim::{AdamWConfig, ModuleOptimizer};
    use burn::tensor::Device;

    #[test]
    fn an_untrained_encoder_is_about_as_good_as_guessing() {
        let device = Device::flex();
        let loss = tiny(&device).next_event_loss(&events(&[&[2, 3, 4, 5]], 4, &device));
        for (value, vocab_size) in loss.values().into_iter().zip([13_f32, 7.0, 5.0]) {
            assert!(
                (value - vocab_size.ln()).abs() < 0.3,
                "{value} is far from ln {vocab_size}"
            );
        }
        let mean = loss.values().iter().sum::<f32>() / 3.0;
        assert!((loss.total.into_scalar::<f32>() - mean).abs() < 1e-6);
    }

    #[test]
    fn padding_changes_no_loss() {
        let device = Device::flex();
        let encoder = tiny(&device);
        let tight = encoder
            .next_event_loss(&events(&[&[2, 3, 4]], 3, &device))
            .values();
        let loose = encoder
            .next_event_loss(&events(&[&[2, 3, 4]], 9, &device))
            .values();
        for (tight, loose) in tight.into_iter().zip(loose) {
            assert!((tight - loose).abs() < 1e-5);
        }
    }

    #[test]
    fn a_batch_of_nothing_but_padding_has_a_finite_loss_and_no_gradient() {
        let device = Device::flex().autodiff();
        let encoder = tiny(&device);
        let loss = encoder
            .next_event_loss(&events(&[&[], &[]], 5, &device))
            .total;
        assert_eq!(loss.clone().into_scalar::<f32>(), 0.0);
        let grads = GradientsParams::from_grads(loss.backward(), &encoder);
        let mut largest = LargestGradient { grads, value: 0.0 };
        encoder.visit(&mut largest);
        assert_eq!(largest.value, 0.0);
    }

    struct LargestGradient {
        grads: GradientsParams,
        value: f32,
    }

    impl ModuleVisitor for LargestGradient {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                let value: f32 = grad.abs().max().into_scalar();
                assert!(value.is_finite());
                self.value = self.value.max(value);
            }
        }
    }

    #[test]
    fn one_batch_can_be_learned_by_heart() {
        let device = Device::flex().autodiff();
        let mut encoder = tiny(&device);
        let events = events(&[&[2, 3, 4, 5, 6], &[7, 8, 9]], 5, &device);
        let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
        let first = encoder.next_event_loss(&events).total.into_scalar::<f32>();
        for _ in 0..150 {
            let grads = encoder.next_event_loss(&events).total.backward();
            let grads = GradientsParams::from_grads(grads, &encoder);
            encoder = optimizer.step(1e-2, encoder, grads);
        }
        let last = encoder
            .valid()
            .next_event_loss(&events)
            .total
            .into_scalar::<f32>();
        assert!(last < 0.25 * first, "{first} -> {last}");
    }

    fn packed(rows: &[&[&[i64]]], length: usize, device: &Device) -> PackedEvents {
        let flat: Vec<Vec<i64>> = rows.iter().map(|row| row.concat()).collect();
        let flat: Vec<&[i64]> = flat.iter().map(|row| &row[..]).collect();
        PackedEvents {
            modalities: events(&flat, length, device).modalities,
            vectors: Vec::new(),
            rows: rows
                .iter()
                .map(|row| row.iter().map(|history| history.len()).collect())
                .collect(),
            shares: vec![1.0; 3],
        }
    }

    #[test]
    fn packed_histories_have_the_loss_and_gradients_of_padded_ones() {
        let device = Device::flex().autodiff();
        let histories: [&[i64]; 5] = [&[2, 3, 4, 5, 6, 7], &[8], &[9, 2, 3], &[3, 12], &[5, 5]];
        let rows: [&[&[i64]]; 3] = [
            &histories[..1],
            &histories[2..4],
            &[histories[1], histories[4]],
        ];
        // Which events are masked is drawn: alike however they are packed, where it is the last.
        let last_masked = EncoderTask::Masked {
            probability: 0.5,
            last_only: 1.0,
        };
        for (positions, attention, task) in [
            (
                Positions::Learned,
                AttentionKind::Causal,
                EncoderTask::NextEvent,
            ),
            (
                Positions::Rotary,
                AttentionKind::Causal,
                EncoderTask::NextEvent,
            ),
            (
                Positions::Learned,
                AttentionKind::Bidirectional,
                last_masked,
            ),
            (Positions::Rotary, AttentionKind::Bidirectional, last_masked),
        ] {
            device.seed(3);
            let encoder = tiny_config()
                .with_positions(positions)
                .with_dropout_input(0.0);
            let encoder = encoder.with_attention(attention).init(&device);
            let largest_difference = {
                let objective = NextEventObjective {
                    task,
                    ..softmax_objective()
                };
                let padded = events(&histories, 6, &device).into();
                let padded = objective.loss(&encoder, &padded).total;
                let packed = objective.loss(&encoder, &packed(&rows, 7, &device)).total;
                let value = |loss: &Tensor<1>| loss.clone().into_scalar::<f32>();
                assert!((value(&padded) - value(&packed)).abs() < 1e-5);
                let difference = padded - packed;
                let grads = GradientsParams::from_grads(difference.backward(), &encoder);
                let mut largest = LargestGradient { grads, value: 0.0 };
                encoder.visit(&mut largest);
                largest.value
            };
            assert!(largest_difference < 1e-6, "{largest_difference}");
        }
    }

    fn softmax_objective() -> NextEventObjective {
        NextEventObjective {
            task: EncoderTask::NextEvent,
            item: ItemLoss::Softmax {
                label_smoothing: 0.0,
            },
            sampler: NegativeSampler::uniform(13),
        }
    }

    #[test]
    fn events_are_masked_as_often_as_is_said_and_at_least_one_of_each_history() {
        let device = Device::flex();
        let rows: [&[&[i64]]; 3] = [&[&[2; 6], &[3; 3]], &[&[4; 9]], &[&[5]]];
        let events = packed(&rows, 9, &device);
        let starts_and_lasts = [(0, 5), (6, 8), (9, 17), (18, 18)];
        crate::seed_dropout(1);
        let (mut n_masked, mut n_last_only) = (0, 0);
        for _ in 0..2000 {
            let masked = draw_masked(&events, 0.4, 0.25);
            for (start, last) in starts_and_lasts {
                let of_history = masked.iter().filter(|&&at| (start..=last).contains(&at));
                let of_history: Vec<usize> = of_history.copied().collect();
                assert!(!of_history.is_empty());
                if (start, last) == (9, 17) {
                    n_masked += of_history.len();
                    n_last_only += usize::from(of_history == [last]);
                }
            }
            assert!(masked.is_sorted() && masked.iter().all(|&at| at <= 18));
        }
        // 0.75 · (9 · 0.4 + 0.6⁹) + 0.25, and the last alone by its share or by chance.
        let mean = n_masked as f64 / 2000.0;
        assert!((mean - 2.958).abs() < 0.15, "{mean}");
        let last_only = n_last_only as f64 / 2000.0;
        assert!((last_only - 0.263).abs() < 0.04, "{last_only}");
    }

    #[test]
    fn the_loss_of_a_masked_event_is_that_of_its_prediction_alone() {
        let device = Device::flex();
        device.seed(3);
        let config = tiny_config().with_attention(AttentionKind::Bidirectional);
        let encoder = config.init(&device);
        let objective = NextEventObjective {
            task: EncoderTask::Masked {
                probability: 0.5,
                last_only: 1.0,
            },
            ..softmax_objective()
        };
        let loss = objective.loss(&encoder, &events(&[&[2, 3, 4, 9]], 4, &device).into());
        let logits = encoder.next_event_logits(&events(&[&[2, 3, 4]], 3, &device), 0);
        let expected: Vec<f32> = (-log_softmax(logits, 1)).into_data().iter().collect();
        assert!((loss.values()[0] - expected[9]).abs() < 1e-5);
    }

    #[test]
    fn masked_events_of_a_sequence_are_learned_and_then_the_next_one_is_known() {
        let device = Device::flex().autodiff();
        device.seed(3);
        crate::seed_dropout(5);
        let config = tiny_config()
            .with_attention(AttentionKind::Bidirectional)
            .with_d_model(16);
        let mut encoder = config.with_dropout_input(0.0).init(&device);
        let objective = NextEventObjective {
            task: EncoderTask::Masked {
                probability: 0.3,
                last_only: 0.2,
            },
            ..softmax_objective()
        };
        // Everybody's items count up; where they begin is another's.
        let rows: Vec<Vec<i64>> = (2..8).map(|from| (from..from + 6).collect()).collect();
        let rows: Vec<&[i64]> = rows.iter().map(|row| &row[..]).collect();
        let batch: PackedEvents = events(&rows, 6, &device).into();
        let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
        for _ in 0..1000 {
            let grads = objective.loss(&encoder, &batch).total.backward();
            let grads = GradientsParams::from_grads(grads, &encoder);
            encoder = optimizer.step(3e-3, encoder, grads);
        }
        let histories: Vec<&[i64]> = rows.iter().map(|row| &row[..5]).collect();
        let asked = events(&histories, 5, &Device::flex());
        let next = encoder.valid().next_event_logits(&asked, 0).argmax(1);
        let next: Vec<i64> = next.into_data().iter::<i64>().collect();
        let expected: Vec<i64> = rows.iter().map(|row| row[5]).collect();
        assert_eq!(next, expected);
    }

    #[test]
    fn a_modality_without_weight_is_not_predicted() {
        let device = Device::flex();
        device.seed(3);
        let mut config = tiny_config();
        config.modalities[1].weight = 0.0;
        config.modalities[2].weight = 0.5;
        let loss = config
            .init(&device)
            .next_event_loss(&events(&[&[2, 3]], 2, &device));
        let values = loss.values();
        assert_eq!(values.len(), 2);
        let expected = (values[0] + 0.5 * values[1]) / 1.5;
        assert!((loss.total.into_scalar::<f32>() - expected).abs() < 1e-6);
    }

    /// Mean of the item loss over many draws.
    fn mean_item_loss(item: ItemLoss, sampler: &NegativeSampler) -> f32 {
        let device = Device::flex();
        let encoder = tiny(&device);
        let events: PackedEvents = events(&[&[2, 3, 4, 5, 6]], 5, &device).into();
        let objective = NextEventObjective {
            task: EncoderTask::NextEvent,
            item,
            sampler: sampler.clone(),
        };
        crate::seed_dropout(11);
        let draws = (0..200).map(|_| objective.loss(&encoder, &events).values()[0]);
        draws.sum::<f32>() / 200.0
    }

    #[test]
    fn a_sampled_softmax_estimates_the_full_one_however_items_are_drawn() {
        let full = ItemLoss::Softmax {
            label_smoothing: 0.0,
        };
        let sampled = ItemLoss::SampledSoftmax { negatives: 400 };
        let uniform = NegativeSampler::uniform(13);
        let skewed = NegativeSampler::by_popularity(&[90, 50, 5, 5, 5, 5, 5, 5, 5, 9, 9], 1.0);
        let full = mean_item_loss(full, &uniform);
        for sampler in [uniform, skewed] {
            let sampled = mean_item_loss(sampled, &sampler);
            // The tiny model scores padding and unknown alike, which are never drawn: ln(13/11).
            assert!((full - sampled - 0.167).abs() < 0.05, "{full} {sampled}");
        }
    }

    /// The loss where all scores are 0, so that each is at the level from which they count; one in
    /// `n_items` draws hits the target and counts nothing.
    fn untrained(negatives: usize, power: f32, n_items: f32) -> f32 {
        let n = negatives as f32;
        let (positive, negative) = ((1.0 + n / power).ln(), (1.0 + power / n).ln());
        (power * positive + n * (1.0 - 1.0 / n_items) * negative) / (1.0 + n)
    }

    #[test]
    fn an_untrained_binary_cross_entropy_is_in_balance_however_many_are_drawn() {
        assert!((untrained(1, 1.0, f32::INFINITY) - 2_f32.ln()).abs() < 1e-6);
        for negatives in [1, 8, 64] {
            let item = ItemLoss::BinaryCrossEntropy {
                negatives,
                calibration: 0.0,
            };
            let loss = mean_item_loss(item, &NegativeSampler::by_popularity(&[1; 11], 0.0));
            let expected = untrained(negatives, 1.0, 11.0);
            assert!(
                (loss - expected).abs() < 0.02,
                "{negatives}: {loss} {expected}"
            );
        }
    }

    #[test]
    fn calibration_weighs_the_positive_as_gsasrec_says() {
        // rate 64/10, t = 1: power = rate; t = 0: power = 1.
        for (calibration, power) in [(0.0, 1.0), (1.0, 64.0 / 10.0)] {
            let item = ItemLoss::BinaryCrossEntropy {
                negatives: 64,
                calibration,
            };
            let loss = mean_item_loss(item, &NegativeSampler::uniform(13));
            let expected = untrained(64, power, 11.0);
            assert!((loss - expected).abs() < 5e-3, "{loss} {expected}");
        }
    }
}
