//! The causal transformer over a history.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, assert_shape};
use serde::{Deserialize, Serialize};

use crate::attention::{AttentionKind, AttentionState, Rotation, Seen, Span};
use crate::batch::{EventBatch, PackedEvents};
use crate::block::{BlockConfig, EncoderBlock, FeedForwardKind, Norm, NormKind};
use crate::constant;
use crate::embedding::{EventEmbedding, ModalityConfig, trained};
use crate::noise::Dropout;
use crate::rows::is_host;

/// Histories that are read at once in the host's memory where nothing is trained: their attention
/// stays in the cache, and none is padded to the longest of a large batch.
const AT_ONCE: usize = 4;

/// How the encoder knows the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// A learned vector per position, added to the event's.
    Learned,
    /// Queries and keys turn with their position ([RoFormer](https://arxiv.org/abs/2104.09864)):
    /// only distances count.
    Rotary,
}

/// How a hidden state is compared with the rows of a modality's table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// Inner product.
    Dot,
    /// Cosine, divided by a temperature; HSTU takes 0.05.
    Cosine {
        /// What the cosine is divided by.
        temperature: f64,
    },
}

/// Configuration to create a [`UserEncoder`] with [`init`](Self::init).
///
/// The defaults are the paper's size: 6 layers, 128 wide, 8 heads, histories of 50 events.
#[derive(Config, Debug)]
pub struct UserEncoderConfig {
    /// The modalities of an event; those with frozen vectors behind the others.
    pub modalities: Vec<ModalityConfig>,
    /// Longest history that can be read.
    #[config(default = 50)]
    pub max_length: usize,
    /// Width of the event embeddings.
    #[config(default = 128)]
    pub d_model: usize,
    /// Number of transformer layers.
    #[config(default = 6)]
    pub n_layers: usize,
    /// Number of attention heads; must divide `d_model`.
    #[config(default = 8)]
    pub n_heads: usize,
    /// Inner width of the feed-forward network.
    #[config(default = 512)]
    pub d_ff: usize,
    /// The feed-forward network.
    #[config(default = "FeedForwardKind::Relu")]
    pub feed_forward: FeedForwardKind,
    /// Normalisation of blocks and output.
    #[config(default = "NormKind::Layer")]
    pub norm: NormKind,
    /// What an event sees of its history.
    #[config(default = "AttentionKind::Causal")]
    pub attention: AttentionKind,
    /// Positions.
    #[config(default = "Positions::Learned")]
    pub positions: Positions,
    /// How hidden states are compared with items.
    #[config(default = "Similarity::Dot")]
    pub similarity: Similarity,
    /// Dropout on the event vectors as they enter.
    #[config(default = 0.1)]
    pub dropout_input: f64,
    /// Dropout on what attention and feed-forward add.
    #[config(default = 0.0)]
    pub dropout: f64,
}

impl UserEncoderConfig {
    /// Create the module on a device.
    ///
    /// # Panics
    ///
    /// Panics if there is no modality, or one with frozen vectors before one without, if `n_heads`
    /// does not divide `d_model`, or if rotary positions meet heads of odd width.
    pub fn init(&self, device: &Device) -> UserEncoder {
        let block = self.block();
        let d_head = self.d_model / self.n_heads;
        let is_rotary = self.positions == Positions::Rotary;
        assert!(
            !is_rotary || d_head.is_multiple_of(2),
            "rotary positions turn pairs: heads of width {d_head} cannot be paired"
        );
        let small = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        let is_causal = self.attention == AttentionKind::Causal;
        let predicted = trained(&self.modalities);
        UserEncoder {
            embedding: EventEmbedding::new(&self.modalities, self.d_model, device),
            bos: is_causal.then(|| small.init([1, self.d_model], device)),
            mask: (!is_causal).then(|| small.init([1, self.d_model], device)),
            positions: (!is_rotary)
                .then(|| small.init([self.max_length + 1, self.d_model], device)),
            dropout: Dropout::new(self.dropout_input),
            blocks: (0..self.n_layers)
                .map(|_| EncoderBlock::new(&block, device))
                .collect(),
            norm: Norm::new(self.norm, self.d_model, device),
            heads: predicted
                .iter()
                .map(|modality| LinearConfig::new(self.d_model, modality.d_embedding).init(device))
                .collect(),
            weights: predicted.iter().map(|modality| modality.weight).collect(),
            similarity: self.similarity,
            attention: self.attention,
            max_length: self.max_length,
            n_heads: self.n_heads,
        }
    }
}

impl UserEncoderConfig {
    /// The figures of every block.
    ///
    /// # Panics
    ///
    /// Panics if there is no modality, or if `n_heads` does not divide `d_model`.
    pub(crate) fn block(&self) -> BlockConfig {
        assert!(
            !self.modalities.is_empty(),
            "`encoder.modalities` must name at least one"
        );
        assert!(
            self.n_heads > 0 && self.d_model.is_multiple_of(self.n_heads),
            "`encoder.n_heads` = {} must divide `encoder.d_model` = {}",
            self.n_heads,
            self.d_model
        );
        BlockConfig {
            d_model: self.d_model,
            d_ff: self.d_ff,
            n_heads: self.n_heads,
            norm: self.norm,
            feed_forward: self.feed_forward,
            dropout: self.dropout,
        }
    }
}

impl Similarity {
    /// What the scores of queries and rows of a table are the products of.
    ///
    /// # Shapes
    ///
    /// - queries, table, outputs: `[_, d]`
    pub(crate) fn sides(self, queries: Tensor<2>, table: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        match self {
            Self::Dot => (queries, table),
            Self::Cosine { temperature } => (direction(queries) / temperature, direction(table)),
        }
    }
}

/// A transformer over a history, with one embedding per event as its output.
///
/// ```text
/// slots:      BOS  e₁  e₂ … e_L          e: event embeddings, and their positions
/// hidden:     h₀   h₁  h₂ … h_L          pre-norm causal transformer
/// predicts:   e₁   e₂  e₃ … e_{L+1}      modality j: softmax(h W_j E_jᵀ)
/// ```
///
/// User-LLM, sections 3.2 and 3.3. The paper leaves open positions, norms and heads: here they
/// are choices of the config, pre-norm, and heads are tied to the modality tables `E_j` through
/// `W_j: d_model → d_j`.
///
/// Under [`AttentionKind::Bidirectional`] it is BERT4Rec's encoder: there is no BOS, masked events
/// are predicted at their own slots, and the next one at a mask after the history.
///
/// ```text
/// slots:      e₁  mask  e₃ … e_L         in training; to predict, e₁ … e_L mask
/// predicts:       e₂
/// ```
#[derive(Module, Debug)]
pub struct UserEncoder {
    /// From ids to one vector per event.
    pub embedding: EventEmbedding,
    bos: Option<Param<Tensor<2>>>,
    mask: Option<Param<Tensor<2>>>,
    positions: Option<Param<Tensor<2>>>,
    dropout: Dropout,
    blocks: Vec<EncoderBlock>,
    norm: Norm,
    heads: Vec<Linear>,
    #[module(skip)]
    pub(crate) weights: Vec<f64>,
    #[module(skip)]
    similarity: Similarity,
    #[module(skip)]
    attention: AttentionKind,
    max_length: usize,
    n_heads: usize,
}

impl UserEncoder {
    /// The same without dropout, for whoever learns to read it.
    pub fn without_dropout(mut self) -> Self {
        self.dropout = Dropout::new(0.0);
        for block in &mut self.blocks {
            block.dropout = Dropout::new(0.0);
        }
        self
    }

    /// Hidden states of all slots: BOS and the events, or the events of each history and the mask.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, 1 + length, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the batch is longer than `max_length`.
    pub fn forward(&self, events: &EventBatch) -> Tensor<3> {
        let (n_slots, device) = (1 + events.length(), self.device());
        self.assert_fits(events.length());
        let blank = self.blank_slots(events.batch());
        let slots = match self.attention {
            _ if events.length() == 0 => blank,
            AttentionKind::Causal => Tensor::cat(vec![blank, self.embedding.forward(events)], 1),
            AttentionKind::Bidirectional => {
                let slots = Tensor::cat(vec![self.embedding.forward(events), blank], 1);
                let is_next = |&n: &usize| (0..n_slots).map(move |slot| slot == n);
                self.with_blanks(slots, events.lengths.iter().flat_map(is_next))
            }
        };
        let slots = match &self.positions {
            Some(positions) => slots + positions.val().slice(0..n_slots).unsqueeze::<3>(),
            None => slots,
        };
        let rows: Vec<Vec<usize>> = events.lengths.iter().map(|&n| vec![n + 1]).collect();
        let seen = self.attention.seen(&rows, n_slots);
        let span = Span::new(seen, self.rotation(0, n_slots, &device), &device);
        self.read(slots, &span)
    }

    /// One embedding per event: under causal attention, of the events up to it and none after.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, length, d_model]`
    pub fn event_embeddings(&self, events: &EventBatch) -> Tensor<3> {
        let hidden = self.forward(events);
        let [batch, slots, d_model] = hidden.dims();
        let of_events = match self.attention {
            AttentionKind::Causal => 1..slots,
            AttentionKind::Bidirectional => 0..slots - 1,
        };
        hidden.slice([0..batch, of_events, 0..d_model])
    }

    /// Scores of every value of one modality for the event that follows each history.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, vocab_size]` of that modality
    ///
    /// # Panics
    ///
    /// Panics if there is no modality of that index.
    pub fn next_event_logits(&self, events: &EventBatch, modality: usize) -> Tensor<2> {
        self.head_logits(self.last_hidden(events), modality)
    }

    /// Hidden state from which the next event is predicted: of the last event of each history, of
    /// BOS where there is none; under bidirectional attention, of the mask after the history.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, d_model]`
    pub fn last_hidden(&self, events: &EventBatch) -> Tensor<2> {
        let device = self.device();
        if events.batch() <= AT_ONCE || device.is_autodiff() || !is_host(&device) {
            return self.last_hidden_at_once(events);
        }
        let starts = (0..events.batch()).step_by(AT_ONCE);
        let parts = starts.map(|at| events.rows(at..events.batch().min(at + AT_ONCE)));
        let hidden = parts.map(|events| self.last_hidden_at_once(&events));
        Tensor::cat(hidden.collect(), 0)
    }

    fn last_hidden_at_once(&self, events: &EventBatch) -> Tensor<2> {
        let hidden = self.forward(events);
        let [batch, slots, d_model] = hidden.dims();
        // With BOS in slot 0, the last of n events stands in slot n; without, the mask does.
        let last = events.lengths.iter().enumerate();
        let last = indices(last.map(|(row, n)| row * slots + n), &hidden.device());
        hidden.reshape([batch * slots, d_model]).select(0, last)
    }

    /// Hidden states from which each event is predicted by those before it, at all positions.
    ///
    /// # Shapes
    ///
    /// - output: `[rows * length, d_model]`
    ///
    /// # Panics
    ///
    /// Panics under bidirectional attention: the event is among what is seen.
    pub(crate) fn predicting(&self, events: &PackedEvents) -> Tensor<2> {
        assert_eq!(
            self.attention,
            AttentionKind::Causal,
            "a bidirectional encoder sees the next events that it should predict: mask them"
        );
        let (rows, length, device) = (events.rows.len(), events.length(), events.device());
        // Every slot holds the event before it, or BOS where a history begins.
        let before = events.modalities.iter().map(|ids| {
            let [_, _, values] = ids.dims();
            let none = Tensor::zeros([rows, 1, values], &device);
            Tensor::cat(
                vec![none, ids.clone().slice([0..rows, 0..length - 1, 0..values])],
                1,
            )
        });
        let before: Vec<_> = before.collect();
        let vectors = self.embedding.embed(&before, &events.vectors);
        let begins = events.positions().into_iter().map(|position| position == 0);
        self.read_packed(self.with_blanks(vectors, begins), events)
    }

    /// Hidden states of all positions, with the mask in place of some events: these are numbered
    /// row by row.
    ///
    /// # Shapes
    ///
    /// - output: `[rows * length, d_model]`
    ///
    /// # Panics
    ///
    /// Panics under causal attention, which has no mask.
    pub(crate) fn unmasking(&self, events: &PackedEvents, masked: &[usize]) -> Tensor<2> {
        assert_eq!(
            self.attention,
            AttentionKind::Bidirectional,
            "a causal encoder predicts next events, not masked ones"
        );
        let vectors = self.embedding.embed(&events.modalities, &events.vectors);
        let mut is_masked = vec![false; events.rows.len() * events.length()];
        masked.iter().for_each(|&at| is_masked[at] = true);
        self.read_packed(self.with_blanks(vectors, is_masked), events)
    }

    fn read_packed(&self, mut slots: Tensor<3>, events: &PackedEvents) -> Tensor<2> {
        let ([rows, length, d_model], device) = (slots.dims(), slots.device());
        let longest = events.rows.iter().flatten().max().copied().unwrap_or(0);
        // One of them is predicted, not read.
        self.assert_fits(longest.saturating_sub(1));
        if let Some(table) = &self.positions {
            let [n_positions, _] = table.dims();
            // Padding may count beyond the table; nobody reads it.
            let positions = events.positions().into_iter();
            let at = positions.map(|position| position.min(n_positions - 1));
            let vectors = table.val().select(0, indices(at, &device));
            slots = slots + vectors.reshape([rows, length, d_model]);
        }
        let seen = self.attention.seen(&events.rows, length);
        let span = Span::new(seen, self.rotation(0, length, &device), &device);
        self.read(slots, &span).reshape([rows * length, d_model])
    }

    /// Logits of one modality, tied to its table: `h W_j E_jᵀ`.
    ///
    /// # Shapes
    ///
    /// - hidden: `[n, d_model]`
    /// - output: `[n, vocab_size]`
    pub fn head_logits(&self, hidden: Tensor<2>, modality: usize) -> Tensor<2> {
        let (queries, table) = self.head(hidden, modality);
        queries.matmul(table.transpose())
    }

    /// What the logits of one modality are the products of: `h W_j` and `E_j`, or their directions
    /// under [`Similarity::Cosine`].
    ///
    /// # Shapes
    ///
    /// - hidden: `[n, d_model]`
    /// - output: `[n, d_j]` and `[vocab_size, d_j]`
    pub fn head(&self, hidden: Tensor<2>, modality: usize) -> (Tensor<2>, Tensor<2>) {
        assert_shape!(hidden, [_, self.d_model()]);
        let table = self.embedding.modalities[modality].table.weight.val();
        let queries = self.heads[modality].forward(hidden);
        self.similarity.sides(queries, table)
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Width of the event embeddings.
    pub fn d_model(&self) -> usize {
        self.embedding.d_model()
    }

    /// Start to read histories event by event; see [`read_next`](Self::read_next).
    ///
    /// # Panics
    ///
    /// Panics under bidirectional attention: later events change what earlier ones were read as.
    pub fn start(&self, batch: usize) -> EncoderState {
        assert_eq!(
            self.attention,
            AttentionKind::Causal,
            "only a causal encoder can go on from what it has read"
        );
        let mut state = EncoderState {
            n_slots: 0,
            blocks: vec![AttentionState::default(); self.blocks.len()],
        };
        let bos = self.blank_slots(batch);
        self.read_slots(bos, &mut state);
        state
    }

    /// Read the next events of histories whose past is in `state`, and add them to it: the
    /// embeddings are those of [`event_embeddings`](Self::event_embeddings) over the whole
    /// histories, for the work of the new events alone.
    ///
    /// Every row must have an event at every position: there is no padding in a state.
    ///
    /// # Shapes
    ///
    /// - events: `[batch, new, values]` per modality
    /// - output: `[batch, new, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the histories grow beyond `max_length`, or rows are of different lengths.
    pub fn read_next(&self, events: &EventBatch, state: &mut EncoderState) -> Tensor<3> {
        assert!(
            events.lengths.iter().all(|&n| n == events.length()),
            "a state holds no padding: all rows grow by the same number of events"
        );
        self.read_slots(self.embedding.forward(events), state)
    }

    fn read_slots(&self, slots: Tensor<3>, state: &mut EncoderState) -> Tensor<3> {
        let ([_, new, _], device) = (slots.dims(), slots.device());
        let (from, to) = (state.n_slots, state.n_slots + new);
        self.assert_fits(to - 1);
        let mut hidden = match &self.positions {
            Some(positions) => slots + positions.val().slice(from..to).unsqueeze::<3>(),
            None => slots,
        };
        let seen = Seen::causal(from, to);
        let span = Span::new(seen, self.rotation(from, to, &device), &device);
        for (block, kept) in self.blocks.iter().zip(&mut state.blocks) {
            hidden = block.forward_next(hidden, &span, kept);
        }
        state.n_slots = to;
        self.norm.forward(hidden)
    }

    fn read(&self, slots: Tensor<3>, span: &Span) -> Tensor<3> {
        let mut hidden = self.dropout.forward(slots);
        for block in &self.blocks {
            hidden = block.forward(hidden, span);
        }
        self.norm.forward(hidden)
    }

    /// What stands where no event does: BOS or the mask, `[1, 1, d_model]`.
    fn blank(&self) -> Tensor<3> {
        let blank = self.bos.as_ref().or(self.mask.as_ref());
        blank.expect("an encoder has one of them").val().unsqueeze()
    }

    fn blank_slots(&self, batch: usize) -> Tensor<3> {
        self.blank().expand([batch, 1, self.d_model()])
    }

    /// BOS or the mask in place of some of the slots `[rows, slots, d_model]`, row by row.
    fn with_blanks(&self, slots: Tensor<3>, is_blank: impl IntoIterator<Item = bool>) -> Tensor<3> {
        let [rows, n_slots, _] = slots.dims();
        let blanks: Vec<f32> = is_blank.into_iter().map(f32::from).collect();
        let blanks = TensorData::new(blanks, [rows, n_slots, 1]);
        let blanks = Tensor::<3>::from_data(blanks, &constant(&slots.device()));
        slots * (-blanks.clone() + 1.0) + blanks * self.blank()
    }

    fn rotation(&self, from: usize, to: usize, device: &Device) -> Option<Rotation> {
        let d_head = self.d_model() / self.n_heads;
        let is_rotary = self.positions.is_none();
        is_rotary.then(|| Rotation::new(from, to, d_head, device))
    }

    /// 0, as a value that depends on the encoder.
    pub(crate) fn nothing(&self) -> Tensor<1> {
        self.blank().sum() * 0.0
    }

    fn assert_fits(&self, length: usize) {
        assert!(
            length <= self.max_length,
            "a history of {length} events does not fit an encoder of `max_length` = {}",
            self.max_length
        );
    }
}

/// What an encoder has read of some histories: keys and values of every block.
#[derive(Clone, Debug)]
pub struct EncoderState {
    n_slots: usize,
    blocks: Vec<AttentionState>,
}

impl EncoderState {
    /// Number of events of each history that have been read.
    pub fn n_events(&self) -> usize {
        self.n_slots - 1
    }
}

/// Rows of length 1.
fn direction(rows: Tensor<2>) -> Tensor<2> {
    let length = (rows.clone().square().sum_dim(1) + 1e-12).sqrt();
    rows / length
}

/// Positions or ids as a tensor.
pub(crate) fn indices(at: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let at: Vec<i64> = at.map(|at| at as i64).collect();
    let n = at.len();
    Tensor::from_data(TensorData::new(at, [n]), device)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    pub(crate) fn tiny_config() -> UserEncoderConfig {
        let modalities = vec![
            ModalityConfig::new("item".into(), 13, 6),
            ModalityConfig::new("rating".into(), 7, 2),
            ModalityConfig::new("genres".into(), 5, 3),
        ];
        UserEncoderConfig::new(modalities)
            .with_max_length(11)
            .with_d_model(8)
            .with_d_ff(32)
            .with_n_heads(2)
            .with_n_layers(2)
    }

    pub(crate) fn tiny(device: &Device) -> UserEncoder {
        device.seed(3);
        tiny_config().init(device)
    }

    /// One of each kind that a config can choose.
    fn kinds(device: &Device) -> Vec<UserEncoder> {
        let modern = tiny_config()
            .with_norm(NormKind::Rms)
            .with_feed_forward(FeedForwardKind::SwiGlu)
            .with_positions(Positions::Rotary)
            .with_similarity(Similarity::Cosine { temperature: 0.1 });
        let sasrec = tiny_config().with_feed_forward(FeedForwardKind::Relu);
        vec![tiny(device), modern.init(device), sasrec.init(device)]
    }

    /// Rows of item ids; rating and genres follow from the item.
    pub(crate) fn events(rows: &[&[i64]], length: usize, device: &Device) -> EventBatch {
        let column = |n_values: usize, value: &dyn Fn(i64, usize) -> i64| {
            let ids: Vec<i64> = rows
                .iter()
                .flat_map(|row| (0..length).map(|at| row.get(at).copied().unwrap_or(0)))
                .flat_map(|item| {
                    (0..n_values).map(move |n| if item == 0 { 0 } else { value(item, n) })
                })
                .collect();
            Tensor::from_data(TensorData::new(ids, [rows.len(), length, n_values]), device)
        };
        EventBatch::new(
            vec![
                column(1, &|item, _| item),
                column(1, &|item, _| 2 + item % 5),
                column(2, &|item, n| {
                    if n == 1 && item % 2 == 0 {
                        0
                    } else {
                        2 + (item + n as i64) % 3
                    }
                }),
            ],
            rows.iter().map(|row| row.len()).collect(),
        )
    }

    #[test]
    fn future_events_do_not_influence_past_embeddings() {
        let device = Device::flex();
        let encoder = tiny(&device);
        let before = encoder.event_embeddings(&events(&[&[2, 3, 4, 5]], 4, &device));
        let after = encoder.event_embeddings(&events(&[&[2, 3, 4, 12]], 4, &device));
        let past = |t: Tensor<3>| t.slice([0..1, 0..3, 0..8]).into_data();
        past(before.clone()).assert_eq(&past(after.clone()), true);
        let last = (before - after)
            .slice([0..1, 3..4, 0..8])
            .abs()
            .max()
            .into_scalar::<f32>();
        assert!(
            last > 1e-4,
            "the last event does not influence its own embedding"
        );
    }

    #[test]
    fn padding_influences_no_real_event() {
        let device = Device::flex();
        let encoder = tiny(&device);
        let alone = encoder.event_embeddings(&events(&[&[2, 3, 4]], 3, &device));
        let padded = events(&[&[2, 3, 4], &[5, 6, 7, 8, 9, 10, 11]], 7, &device);
        let padded = encoder.event_embeddings(&padded).slice([0..1, 0..3, 0..8]);
        padded
            .into_data()
            .assert_approx_eq::<f32>(&alone.into_data(), Tolerance::absolute(1e-6));
    }

    #[test]
    fn the_next_event_is_read_at_the_last_real_slot() {
        let device = Device::flex();
        let encoder = tiny(&device);
        let alone = encoder.next_event_logits(&events(&[&[2, 3]], 2, &device), 0);
        let batch = encoder.next_event_logits(&events(&[&[5, 6, 7, 8], &[2, 3]], 4, &device), 0);
        batch
            .slice([1..2, 0..13])
            .into_data()
            .assert_approx_eq::<f32>(&alone.into_data(), Tolerance::absolute(1e-6));
    }

    #[test]
    fn histories_of_a_large_batch_are_read_as_if_each_were_alone() {
        let device = Device::flex();
        // All of the second four are empty.
        let histories: [&[i64]; 10] = [
            &[2, 3],
            &[4; 7],
            &[],
            &[5],
            &[],
            &[],
            &[],
            &[],
            &[6, 7, 8],
            &[10, 2, 11, 12],
        ];
        let causal = kinds(&device);
        let both_sides = [Positions::Learned, Positions::Rotary].map(|p| bidirectional(p, &device));
        for encoder in causal.into_iter().chain(both_sides) {
            let together = encoder.last_hidden(&events(&histories, 7, &device));
            for (at, history) in histories.into_iter().enumerate() {
                let alone = events(&[history], history.len(), &device);
                let difference = together.clone().slice(at..at + 1) - encoder.last_hidden(&alone);
                assert!(largest(difference) < 1e-5, "history {at}");
            }
        }
    }

    #[test]
    fn a_user_without_events_is_predicted_from_bos() {
        let device = Device::flex();
        let logits = tiny(&device).next_event_logits(&events(&[&[], &[2]], 1, &device), 0);
        assert!(logits.is_finite().all().into_scalar::<bool>());
    }

    #[test]
    #[should_panic(expected = "does not fit an encoder of `max_length` = 11")]
    fn a_history_that_is_too_long_is_refused() {
        let device = Device::flex();
        tiny(&device).forward(&events(&[&[2; 12]], 12, &device));
    }

    #[test]
    fn an_event_read_after_a_kept_state_is_embedded_as_if_all_were_read_afresh() {
        let device = Device::flex();
        let rows: [&[i64]; 2] = [&[2, 3, 4, 5, 6, 7], &[8, 3, 9, 10, 2, 12]];
        for encoder in kinds(&device) {
            let whole = encoder.event_embeddings(&events(&rows, 6, &device));
            let mut state = encoder.start(2);
            let parts = [0..3, 3..4, 4..6].map(|part| {
                let rows = rows.map(|row| &row[part.clone()]);
                encoder.read_next(&events(&rows, part.len(), &device), &mut state)
            });
            assert_eq!(state.n_events(), 6);
            Tensor::cat(parts.to_vec(), 1)
                .into_data()
                .assert_approx_eq::<f32>(&whole.into_data(), Tolerance::absolute(1e-5));
        }
    }

    fn bidirectional(positions: Positions, device: &Device) -> UserEncoder {
        device.seed(3);
        let config = tiny_config().with_attention(AttentionKind::Bidirectional);
        config.with_positions(positions).init(device)
    }

    fn largest(difference: Tensor<2>) -> f32 {
        difference.abs().max().into_scalar()
    }

    #[test]
    fn a_bidirectional_encoder_sees_later_events_and_no_padding() {
        let device = Device::flex();
        for positions in [Positions::Learned, Positions::Rotary] {
            let encoder = bidirectional(positions, &device);
            let first = |row: &[i64], length: usize| {
                let events = events(&[row, &[5; 9][..length]], length, &device);
                let hidden = encoder.event_embeddings(&events);
                assert_eq!(hidden.dims(), [2, length, 8]);
                hidden.slice([0..1, 0..1]).reshape([1, 8])
            };
            assert!(largest(first(&[2, 3, 4], 3) - first(&[2, 3, 12], 3)) > 1e-4);
            assert!(largest(first(&[2, 3, 4], 3) - first(&[2, 3, 4], 8)) < 1e-6);
        }
    }

    #[test]
    fn a_bidirectional_encoder_predicts_the_next_event_at_a_mask_after_each_history() {
        let device = Device::flex();
        let encoder = bidirectional(Positions::Learned, &device);
        let batch: [&[i64]; 3] = [&[5, 6, 7, 8], &[2, 3], &[]];
        let together = encoder.next_event_logits(&events(&batch, 4, &device), 0);
        for (at, history) in batch.into_iter().enumerate() {
            // As in training: the event to predict stands in its slot, whatever it is, masked.
            let whole = [history, &[9]].concat();
            let n = history.len();
            let packed = events(&[&whole], n + 1, &device).into();
            let hidden = encoder.unmasking(&packed, &[n]).slice(n..n + 1);
            let expected = encoder.head_logits(hidden, 0);
            assert!(largest(together.clone().slice(at..at + 1) - expected) < 1e-6);
        }
    }

    #[test]
    fn a_masked_event_has_no_part_in_its_prediction_and_all_others_have() {
        let device = Device::flex();
        let encoder = bidirectional(Positions::Learned, &device);
        let masked = |row: &[i64]| {
            let hidden = encoder.unmasking(&events(&[row], 4, &device).into(), &[1]);
            hidden.slice(1..2)
        };
        let hidden = masked(&[2, 3, 4, 5]);
        assert_eq!(largest(masked(&[2, 12, 4, 5]) - hidden.clone()), 0.0);
        for other in [[12, 3, 4, 5], [2, 3, 12, 5], [2, 3, 4, 12]] {
            assert!(largest(masked(&other) - hidden.clone()) > 1e-4);
        }
    }

    #[test]
    #[should_panic(expected = "mask them")]
    fn a_bidirectional_encoder_is_not_taught_what_it_sees() {
        let device = Device::flex();
        let encoder = bidirectional(Positions::Learned, &device);
        encoder.next_event_loss(&events(&[&[2, 3]], 2, &device));
    }

    #[test]
    fn rotary_positions_know_the_order_of_events() {
        let device = Device::flex();
        for encoder in kinds(&device) {
            let last = |rows: &[i64]| encoder.last_hidden(&events(&[rows], 3, &device));
            let difference = last(&[2, 3, 4]) - last(&[3, 2, 4]);
            assert!(difference.abs().max().into_scalar::<f32>() > 1e-6);
        }
    }
}
