//! The paper's other encoder: a tower for the history, one for the event that follows it.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, assert_shape};

use crate::attention::{AttentionKind, Span};
use crate::batch::EventBatch;
use crate::block::{EncoderBlock, Norm};
use crate::embedding::{Modality, trained};
use crate::encoder::{Positions, Similarity, UserEncoderConfig};
use crate::noise::Dropout;
use crate::objective::in_batch_softmax;
use crate::sampler::NegativeSampler;

/// What a [`DualEncoder`] has beyond the figures of a [`UserEncoderConfig`].
#[derive(Config, Debug)]
pub struct DualEncoderConfig {
    /// Names of the modalities by which the label tower knows an event.
    pub labels: Vec<String>,
    /// Layers that read all modalities together, above those that read one each.
    #[config(default = 1)]
    pub n_fusion_layers: usize,
    /// Embeddings of a history.
    #[config(default = 1)]
    pub n_embeddings: usize,
}

impl DualEncoderConfig {
    /// Create the module on a device, with the modalities and sizes of `encoder`: its `n_layers`
    /// are those of each modality, and the weights of modalities are not read.
    ///
    /// # Panics
    ///
    /// Panics where [`UserEncoderConfig::init`] does, if positions are rotary, if there is no
    /// embedding of a history, if a label is no modality, or if a modality has frozen vectors.
    pub fn init(&self, encoder: &UserEncoderConfig, device: &Device) -> DualEncoder {
        assert_eq!(
            encoder.positions,
            Positions::Learned,
            "a dual encoder learns the positions, counted from the latest event"
        );
        assert!(self.n_embeddings > 0, "a history has an embedding at least");
        let n_tables = trained(&encoder.modalities).len();
        let n_modalities = encoder.modalities.len();
        assert_eq!(
            n_tables, n_modalities,
            "a dual encoder reads no frozen vectors"
        );
        let (d_model, block) = (encoder.d_model, encoder.block());
        let labels: Vec<usize> = self
            .labels
            .iter()
            .map(|name| {
                let mut modalities = encoder.modalities.iter();
                let at = modalities.position(|modality| modality.name == *name);
                at.unwrap_or_else(|| panic!("the label `{name}` is no modality of the encoder"))
            })
            .collect();
        assert!(!labels.is_empty(), "the label tower has to know something");
        let d_labels = labels.iter().map(|&at| encoder.modalities[at].d_embedding);
        let small = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        let blocks = |n: usize| (0..n).map(|_| EncoderBlock::new(&block, device)).collect();
        let sequence = |d_embedding: usize| Sequence {
            projection: LinearConfig::new(d_embedding, d_model).init(device),
            blocks: blocks(encoder.n_layers),
            norm: Norm::new(encoder.norm, d_model, device),
        };
        DualEncoder {
            modalities: encoder.modalities.iter().map(|m| m.init(device)).collect(),
            positions: small.init([encoder.max_length, d_model], device),
            dropout: Dropout::new(encoder.dropout_input),
            sequences: encoder
                .modalities
                .iter()
                .map(|modality| sequence(modality.d_embedding))
                .collect(),
            fusion: LinearConfig::new(n_modalities * d_model, d_model).init(device),
            queries: small.init([self.n_embeddings, d_model], device),
            blocks: blocks(self.n_fusion_layers),
            norm: Norm::new(encoder.norm, d_model, device),
            label: LinearConfig::new(d_labels.sum(), d_model).init(device),
            labels,
            similarity: encoder.similarity,
            attention: encoder.attention,
        }
    }
}

/// Two towers that meet in a similarity ("late fusion"), with one embedding per *history* as the
/// user tower's output, or a few.
///
/// ```text
/// item     ─ transformer ─┐
/// rating   ─ transformer ─┼─ joined ─┐
/// genres   ─ transformer ─┘          ├─ fusion layers ─ user embeddings ─┐
///                           queries ─┘                                   ├─ similarity
/// next event's modalities ───────────────────────────── label embedding ─┘
/// ```
///
/// User-LLM, appendix C, which leaves open how sequences become one embedding: here learned
/// queries read them in the fusion layers. Both towers share the modality tables, and positions are
/// counted from the latest event, so that queries know what is recent. Of several embeddings the
/// most similar one counts.
#[derive(Module, Debug)]
pub struct DualEncoder {
    /// The table of each modality, which both towers read.
    pub modalities: Vec<Modality>,
    positions: Param<Tensor<2>>,
    dropout: Dropout,
    sequences: Vec<Sequence>,
    fusion: Linear,
    queries: Param<Tensor<2>>,
    blocks: Vec<EncoderBlock>,
    norm: Norm,
    label: Linear,
    #[module(skip)]
    labels: Vec<usize>,
    #[module(skip)]
    similarity: Similarity,
    #[module(skip)]
    attention: AttentionKind,
}

/// The transformer over one modality of a history.
#[derive(Module, Debug)]
struct Sequence {
    projection: Linear,
    blocks: Vec<EncoderBlock>,
    norm: Norm,
}

impl Sequence {
    fn forward(
        &self,
        embedded: Tensor<3>,
        positions: Tensor<3>,
        dropout: &Dropout,
        span: &Span,
    ) -> Tensor<3> {
        let slots = dropout.forward(self.projection.forward(embedded) + positions);
        let read = |hidden, block: &EncoderBlock| block.forward(hidden, span);
        self.norm.forward(self.blocks.iter().fold(slots, read))
    }
}

impl DualEncoder {
    /// The same without dropout, for whoever learns to read it.
    pub fn without_dropout(mut self) -> Self {
        self.dropout = Dropout::new(0.0);
        let sequences = self.sequences.iter_mut();
        let blocks = sequences.flat_map(|sequence| &mut sequence.blocks);
        for block in blocks.chain(&mut self.blocks) {
            block.dropout = Dropout::new(0.0);
        }
        self
    }

    /// The user tower: embeddings of each history, to be compared with labels or read by a language
    /// model in the place of [`event_embeddings`](crate::UserEncoder::event_embeddings).
    ///
    /// # Shapes
    ///
    /// - output: `[batch, n_embeddings, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the batch is longer than `max_length`.
    pub fn user_embeddings(&self, events: &EventBatch) -> Tensor<3> {
        let (batch, length, device) = (events.batch(), events.length(), events.device());
        let [max_length, d_model] = self.positions.dims();
        assert!(
            length <= max_length,
            "a history of {length} events does not fit an encoder of `max_length` = {max_length}"
        );
        let rows: Vec<Vec<usize>> = events.lengths.iter().map(|&n| vec![n]).collect();
        let span = Span::new(self.attention.seen(&rows, length), None, &device);
        let positions = self.positions.val().select(0, ages(events));
        let positions = positions.reshape([batch, length, d_model]);
        let modalities = self.modalities.iter().zip(&self.sequences);
        let sequences = modalities
            .zip(&events.modalities)
            .map(|((modality, sequence), ids)| {
                let embedded = modality.forward(ids.clone());
                sequence.forward(embedded, positions.clone(), &self.dropout, &span)
            });
        let joined = self.fusion.forward(Tensor::cat(sequences.collect(), 2));

        let [n_embeddings, _] = self.queries.dims();
        let queries = self.queries.val().unsqueeze::<3>();
        let queries = queries.expand([batch, n_embeddings, d_model]);
        let slots = Tensor::cat(vec![queries, joined], 1);
        let rows: Vec<Vec<usize>> = rows.iter().map(|row| vec![n_embeddings + row[0]]).collect();
        let all = AttentionKind::Bidirectional;
        let span = Span::new(all.seen(&rows, n_embeddings + length), None, &device);
        let read = |hidden, block: &EncoderBlock| block.forward(hidden, &span);
        let hidden = self.blocks.iter().fold(slots, read);
        self.norm.forward(hidden.narrow(1, 0, n_embeddings))
    }

    /// The label tower: one embedding per event.
    ///
    /// # Shapes
    ///
    /// - events: `[n, 1, values]` per modality
    /// - output: `[n, d_model]`
    pub fn label_embeddings(&self, events: &EventBatch) -> Tensor<2> {
        let known = self.labels.iter().map(|&at| {
            let ids = events.modalities[at].clone();
            assert_shape!(ids, [events.batch(), 1, _]);
            self.modalities[at].forward(ids)
        });
        let known = Tensor::cat(known.collect(), 2);
        self.label.forward(known).squeeze_dim(1)
    }

    /// How similar every history is to every label.
    ///
    /// # Shapes
    ///
    /// - users: `[batch, n_embeddings, d_model]`
    /// - labels: `[n, d_model]`
    /// - output: `[batch, n]`
    pub fn scores(&self, users: Tensor<3>, labels: Tensor<2>) -> Tensor<2> {
        let ([batch, n_embeddings, d_model], [n, _]) = (users.dims(), labels.dims());
        let users = users.reshape([batch * n_embeddings, d_model]);
        let (users, labels) = self.similarity.sides(users, labels);
        let scores = users.matmul(labels.transpose());
        let scores = scores.reshape([batch, n_embeddings, n]);
        scores.max_dim(1).squeeze_dim(1)
    }

    /// Cross-entropy of each history's next event against those of the other histories, but for the
    /// same item (modality 0); [`ItemLoss::InBatchSoftmax`](crate::ItemLoss::InBatchSoftmax) says
    /// what `log_q`, how items are distributed in a batch, is for.
    ///
    /// # Shapes
    ///
    /// - next: `[batch, 1, values]` per modality
    pub fn in_batch_loss(
        &self,
        histories: &EventBatch,
        next: &EventBatch,
        log_q: Option<&NegativeSampler>,
    ) -> Tensor<1> {
        let labels = self.label_embeddings(next);
        let scores = self.scores(self.user_embeddings(histories), labels);
        let items = next.modalities[0].clone().reshape([next.batch(), 1]);
        in_batch_softmax(scores, items, log_q)
    }

    /// Width of the embeddings.
    pub fn d_model(&self) -> usize {
        self.queries.dims()[1]
    }
}

/// How many events of its history come after each position; 0 at padding.
fn ages(events: &EventBatch) -> Tensor<1, Int> {
    let length = events.length();
    let age = |&n: &usize| (0..length).map(move |at| n.saturating_sub(at + 1) as i64);
    let ages: Vec<i64> = events.lengths.iter().flat_map(age).collect();
    let n = ages.len();
    Tensor::from_data(TensorData::new(ages, [n]), &events.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::tests::{events, tiny_config};
    use burn::module::ModuleMapper;
    use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
    use burn::tensor::Tolerance;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn tiny(n_embeddings: usize, device: &Device) -> DualEncoder {
        device.seed(3);
        let config = DualEncoderConfig::new(vec!["item".into(), "genres".into()]);
        let config = config.with_n_embeddings(n_embeddings);
        config.init(&tiny_config().with_dropout_input(0.0), device)
    }

    fn largest<const D: usize>(difference: Tensor<D>) -> f32 {
        difference.abs().max().into_scalar()
    }

    #[test]
    fn a_history_has_as_many_embeddings_as_are_asked_for_whatever_its_length() {
        let device = Device::flex();
        let histories = events(&[&[2, 3, 4], &[5], &[]], 3, &device);
        for n in [1, 4] {
            let users = tiny(n, &device).user_embeddings(&histories);
            assert_eq!(users.dims(), [3, n, 8]);
            assert!(users.is_finite().all().into_scalar::<bool>());
        }
    }

    #[test]
    fn padding_and_company_change_no_embedding_and_every_event_and_their_order_do() {
        let device = Device::flex();
        let encoder = tiny(2, &device);
        let user = |rows: &[&[i64]], length: usize| {
            let users = encoder.user_embeddings(&events(rows, length, &device));
            users.narrow(0, 0, 1)
        };
        let alone = user(&[&[2, 3, 4]], 3);
        let padded = user(&[&[2, 3, 4], &[5, 6, 7, 8, 9]], 6);
        let close = Tolerance::absolute(1e-5);
        padded
            .into_data()
            .assert_approx_eq::<f32>(&alone.to_data(), close);
        for other in [[12, 3, 4], [2, 12, 4], [2, 3, 12], [3, 2, 4]] {
            assert!(
                largest(user(&[&other], 3) - alone.clone()) > 1e-5,
                "{other:?}"
            );
        }
    }

    #[test]
    fn without_dropout_two_readings_in_training_are_the_same() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let config = tiny_config().with_dropout_input(0.5).with_dropout(0.5);
        let encoder = DualEncoderConfig::new(vec!["item".into()]).init(&config, &device);
        let history = events(&[&[2, 3, 4]], 3, &device);
        let change = |encoder: &DualEncoder| {
            let read = || encoder.user_embeddings(&history);
            largest(read() - read())
        };
        assert!(change(&encoder) > 0.0);
        assert_eq!(change(&encoder.without_dropout()), 0.0);
    }

    #[test]
    fn of_several_embeddings_the_most_similar_counts() {
        let device = Device::flex();
        let encoder = tiny(2, &device);
        let axis = |at: usize| Tensor::<2>::eye(8, &device).slice(at..at + 1);
        let users = Tensor::cat(vec![axis(0) * 3.0, axis(1) * 5.0], 0).unsqueeze::<3>();
        let labels = Tensor::cat(vec![axis(0), axis(1), axis(0) + axis(1), axis(2)], 0);
        let scores: Vec<f32> = encoder.scores(users, labels).into_data().iter().collect();
        assert_eq!(scores, [3.0, 5.0, 5.0, 0.0]);
    }

    #[test]
    fn a_label_is_known_by_its_own_modalities_alone() {
        let device = Device::flex();
        let encoder = tiny(1, &device);
        let labels = events(&[&[2], &[3]], 1, &device);
        let mut other_rating = labels.clone();
        other_rating.modalities[1] = Tensor::full([2, 1, 1], 6, &device);
        let mut other_genre = labels.clone();
        other_genre.modalities[2] = Tensor::full([2, 1, 2], 4, &device);
        let of = |labels: &EventBatch| encoder.label_embeddings(labels);
        assert_eq!(largest(of(&other_rating) - of(&labels)), 0.0);
        assert!(largest(of(&other_genre) - of(&labels)) > 1e-5);
    }

    #[test]
    #[should_panic(expected = "the label `price` is no modality")]
    fn a_label_that_is_no_modality_is_refused() {
        DualEncoderConfig::new(vec!["price".into()]).init(&tiny_config(), &Device::flex());
    }

    #[test]
    fn an_untrained_loss_is_that_of_a_guess_among_the_other_items_of_the_batch() {
        let device = Device::flex();
        let encoder = tiny(1, &device);
        let histories = events(&[&[2, 3], &[4], &[5, 6], &[7]], 2, &device);
        let loss = |next: &[&[i64]], log_q: Option<&NegativeSampler>| {
            let next = events(next, 1, &device);
            let loss = encoder.in_batch_loss(&histories, &next, log_q);
            loss.into_scalar::<f32>()
        };
        assert!((loss(&[&[2], &[3], &[4], &[5]], None) - 4_f32.ln()).abs() < 0.1);
        // Who is followed by the same item is no negative: one against two others, twice over.
        let expected = (2.0 * 3_f32.ln() + 2.0 * 4_f32.ln()) / 4.0;
        assert!((loss(&[&[2], &[2], &[4], &[5]], None) - expected).abs() < 0.1);
        // Each of 11 items is expected 4/11 times in a batch of 4, and stands for as many others.
        let uniform = NegativeSampler::uniform(13);
        let expected = (1.0 + 3.0 * 11.0 / 4.0_f32).ln();
        let corrected = loss(&[&[2], &[3], &[4], &[5]], Some(&uniform));
        assert!((corrected - expected).abs() < 0.1, "{corrected} {expected}");
    }

    #[test]
    fn what_follows_is_learned() {
        let device = Device::flex().autodiff();
        // Items count up; where they begin is another's.
        let rows: Vec<Vec<i64>> = (2..9).map(|from| (from..from + 3).collect()).collect();
        let nexts: Vec<[i64; 1]> = (5..12).map(|next| [next]).collect();
        let slices = |rows: &[Vec<i64>], device: &Device| {
            let rows: Vec<&[i64]> = rows.iter().map(|row| &row[..]).collect();
            events(&rows, 3, device)
        };
        let labels = |device: &Device| {
            let nexts: Vec<&[i64]> = nexts.iter().map(|next| &next[..]).collect();
            events(&nexts, 1, device)
        };
        let mut encoder = tiny(1, &device).map(&mut Redrawn(StdRng::seed_from_u64(3)));
        let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
        for _ in 0..400 {
            let loss = encoder.in_batch_loss(&slices(&rows, &device), &labels(&device), None);
            let grads = GradientsParams::from_grads(loss.backward(), &encoder);
            encoder = optimizer.step(3e-3, encoder, grads);
        }
        let (encoder, device) = (encoder.valid(), Device::flex());
        let users = encoder.user_embeddings(&slices(&rows, &device));
        let scores = encoder.scores(users, encoder.label_embeddings(&labels(&device)));
        let learned: Vec<i64> = scores.argmax(1).into_data().iter().collect();
        assert_eq!(learned, [0, 1, 2, 3, 4, 5, 6]);
    }

    /// Draws matrices and tables anew: tests beside one another draw from the same device, whatever
    /// its seed.
    struct Redrawn(StdRng);

    impl ModuleMapper for Redrawn {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D == 1 {
                return param;
            }
            param.map(|tensor| {
                let (shape, device) = (tensor.shape(), tensor.device());
                let draws = (0..shape.num_elements()).map(|_| self.0.random_range(-0.5..0.5));
                let drawn = TensorData::new(draws.collect::<Vec<f32>>(), shape);
                Tensor::from_data(drawn, &device).require_grad()
            })
        }
    }
}
