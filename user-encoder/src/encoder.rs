//! The causal transformer over a history.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    Dropout, DropoutConfig, Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::tensor::{Device, Int, Tensor, TensorData, assert_shape};

use crate::batch::EventBatch;
use crate::embedding::{EventEmbedding, ModalityConfig};

/// Configuration to create a [`UserEncoder`] with [`init`](Self::init).
///
/// The defaults are the paper's size: 6 layers, 128 wide, 8 heads, histories of 50 events.
#[derive(Config, Debug)]
pub struct UserEncoderConfig {
    /// The modalities of an event.
    pub modalities: Vec<ModalityConfig>,
    /// Longest history that can be read; there is one position embedding for each event and BOS.
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
    /// Inner width of the feed-forward network, as a multiple of `d_model`.
    #[config(default = 4)]
    pub ff_multiplier: usize,
    /// Dropout on the event vectors as they enter.
    #[config(default = 0.1)]
    pub dropout_input: f64,
    /// Dropout inside the transformer layers.
    #[config(default = 0.0)]
    pub dropout: f64,
}

impl UserEncoderConfig {
    /// Create the module on a device.
    ///
    /// # Panics
    ///
    /// Panics if there is no modality or if `n_heads` does not divide `d_model`.
    pub fn init(&self, device: &Device) -> UserEncoder {
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
        let small = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        UserEncoder {
            embedding: EventEmbedding::new(&self.modalities, self.d_model, device),
            bos: small.init([1, self.d_model], device),
            positions: small.init([self.max_length + 1, self.d_model], device),
            dropout: DropoutConfig::new(self.dropout_input).init(),
            transformer: TransformerEncoderConfig::new(
                self.d_model,
                self.ff_multiplier * self.d_model,
                self.n_heads,
                self.n_layers,
            )
            .with_norm_first(true)
            .with_dropout(self.dropout)
            .init(device),
            norm: LayerNormConfig::new(self.d_model).init(device),
            heads: self
                .modalities
                .iter()
                .map(|modality| LinearConfig::new(self.d_model, modality.d_embedding).init(device))
                .collect(),
        }
    }
}

/// A causal transformer over a history, with one embedding per event as its output.
///
/// ```text
/// slots:      BOS  e₁  e₂ … e_L          e: event embeddings, plus a position embedding
/// hidden:     h₀   h₁  h₂ … h_L          pre-norm causal transformer
/// predicts:   e₁   e₂  e₃ … e_{L+1}      modality j: softmax(h W_j E_jᵀ)
/// ```
///
/// User-LLM, sections 3.2 and 3.3. The paper leaves open positions, norms and heads: here they
/// are learned, pre-norm, and tied to the modality tables `E_j` through `W_j: d_model → d_j`.
///
/// Histories are padded on the right, so causality alone keeps padding out of every real event.
#[derive(Module, Debug)]
pub struct UserEncoder {
    /// From ids to one vector per event.
    pub embedding: EventEmbedding,
    bos: Param<Tensor<2>>,
    positions: Param<Tensor<2>>,
    dropout: Dropout,
    transformer: TransformerEncoder,
    norm: LayerNorm,
    pub(crate) heads: Vec<Linear>,
}

impl UserEncoder {
    /// Hidden states of all slots, BOS first.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, 1 + length, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the batch is longer than `max_length`.
    pub fn forward(&self, events: &EventBatch) -> Tensor<3> {
        let [n_positions, d_model] = self.positions.dims();
        let (batch, length) = (events.batch(), events.length());
        assert!(
            length < n_positions,
            "a history of {length} events does not fit an encoder of `max_length` = {}",
            n_positions - 1
        );
        let bos = self.bos.val().unsqueeze::<3>().expand([batch, 1, d_model]);
        let slots = match length {
            0 => bos,
            _ => Tensor::cat(vec![bos, self.embedding.forward(events)], 1),
        };
        let positions = self.positions.val().slice(0..length + 1).unsqueeze::<3>();
        let slots = self.dropout.forward(slots + positions);
        let mask_attn = generate_autoregressive_mask(batch, length + 1, &slots.device());
        let hidden = self
            .transformer
            .forward(TransformerEncoderInput::new(slots).mask_attn(mask_attn));
        self.norm.forward(hidden)
    }

    /// One embedding per event, each of the events up to it and none after.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, length, d_model]`
    pub fn event_embeddings(&self, events: &EventBatch) -> Tensor<3> {
        let hidden = self.forward(events);
        let [batch, slots, d_model] = hidden.dims();
        hidden.slice([0..batch, 1..slots, 0..d_model])
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
        let hidden = self.forward(events);
        let [batch, slots, d_model] = hidden.dims();
        // With BOS in slot 0, the last of n events stands in slot n.
        let last: Vec<i64> = events
            .lengths
            .iter()
            .enumerate()
            .map(|(row, n)| (row * slots + n) as i64)
            .collect();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [batch]), &hidden.device());
        let hidden = hidden.reshape([batch * slots, d_model]).select(0, last);
        self.head_logits(hidden, modality)
    }

    /// Logits of one modality, tied to its table: `h W_j E_jᵀ`.
    ///
    /// # Shapes
    ///
    /// - hidden: `[n, d_model]`
    /// - output: `[n, vocab_size]`
    pub fn head_logits(&self, hidden: Tensor<2>, modality: usize) -> Tensor<2> {
        assert_shape!(hidden, [_, self.d_model()]);
        let table = self.embedding.modalities[modality].table.weight.val();
        self.heads[modality]
            .forward(hidden)
            .matmul(table.transpose())
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.positions.device()
    }

    /// Width of the event embeddings.
    pub fn d_model(&self) -> usize {
        self.positions.dims()[1]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    pub(crate) fn tiny(device: &Device) -> UserEncoder {
        device.seed(3);
        let modalities = vec![
            ModalityConfig::new("item".into(), 13, 6),
            ModalityConfig::new("rating".into(), 7, 2),
            ModalityConfig::new("genres".into(), 5, 3),
        ];
        UserEncoderConfig::new(modalities)
            .with_max_length(11)
            .with_d_model(8)
            .with_n_heads(2)
            .with_n_layers(2)
            .init(device)
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
}
