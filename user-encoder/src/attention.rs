//! Self-attention over slots, whole rows at once or the newest slots after a kept state.

use crate::constant;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor, TensorData, assert_shape};
use serde::{Deserialize, Serialize};

/// What an event sees of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionKind {
    /// The events up to it: each slot predicts the next event, as in
    /// [SASRec](https://arxiv.org/abs/1808.09781).
    Causal,
    /// All events: masked events are predicted from both sides, as in
    /// [BERT4Rec](https://arxiv.org/abs/1904.06690).
    Bidirectional,
}

impl AttentionKind {
    /// `true` where a slot does not see another, for rows that hold histories of these lengths
    /// and then padding: `[1, 1, slots, slots]` where all rows are alike, else one mask per row.
    pub(crate) fn mask_attn(
        self,
        rows: &[Vec<usize>],
        slots: usize,
        device: &Device,
    ) -> Tensor<4, Bool> {
        let is_shared = rows.iter().any(|row| row.len() > 1);
        // Padding comes last, so that causality alone keeps it out of a history.
        let alone = [Vec::new()];
        let rows = match self {
            Self::Causal if !is_shared => &alone,
            _ => rows,
        };
        let mut mask = Vec::with_capacity(rows.len() * slots * slots);
        for row in rows {
            let n_events: usize = row.iter().sum();
            let mut begin = 0;
            // Padding is a history of its own: it has to see something, and nobody reads it.
            for n in row.iter().copied().chain([slots - n_events]) {
                let end = begin + n;
                for query in begin..end {
                    let last = match self {
                        Self::Causal => query,
                        Self::Bidirectional => end - 1,
                    };
                    mask.extend((0..slots).map(|key| key < begin || key > last));
                }
                begin = end;
            }
        }
        let mask = TensorData::new(mask, [rows.len(), 1, slots, slots]);
        Tensor::from_data(mask, &constant(device))
    }
}

/// What all blocks of one pass share: who sees whom, and where each slot stands.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Added to the scores, broadcast over heads: `[1 or rows, 1, queries, keys]`.
    pub(crate) bias: Tensor<4>,
    /// Rotation of queries and keys, where positions are rotary.
    pub(crate) rotation: Option<Rotation>,
}

impl Span {
    /// `mask_attn`: `true` where a query does not see a key. Every query sees one: itself.
    pub(crate) fn new(mask_attn: Tensor<4, Bool>, rotation: Option<Rotation>) -> Self {
        let bias = Tensor::zeros(mask_attn.dims(), &mask_attn.device());
        Self {
            // Infinite, because the exponential of a merely large number is slow to underflow.
            bias: bias.mask_fill(mask_attn, f32::NEG_INFINITY),
            rotation,
        }
    }
}

/// Rotary positions ([RoFormer](https://arxiv.org/abs/2104.09864)): coordinates `(i, i + d/2)` of
/// a query or key turn by `position · 10000^(−2i/d)`, so that a score depends on the distance of
/// two slots and not on where they stand.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// `[1, 1, slots, d_head]`, both halves alike.
    cos: Tensor<4>,
    /// `[1, 1, slots, d_head]`: minus the sine, then the sine.
    sin: Tensor<4>,
}

impl Rotation {
    /// For slots at positions `from..to`.
    pub(crate) fn new(from: usize, to: usize, d_head: usize, device: &Device) -> Self {
        let n_pairs = d_head / 2;
        let angles = |position: usize| {
            (0..n_pairs)
                .map(move |pair| position as f64 * 10_000_f64.powf(-(pair as f64) / n_pairs as f64))
        };
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in from..to {
            cos.extend(
                angles(position)
                    .chain(angles(position))
                    .map(|a| a.cos() as f32),
            );
            sin.extend(angles(position).map(|a| -a.sin() as f32));
            sin.extend(angles(position).map(|a| a.sin() as f32));
        }
        let (shape, device) = ([1, 1, to - from, d_head], &constant(device));
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
        }
    }

    /// Turn queries or keys `[rows, heads, slots, d_head]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut halves = x.clone().chunk(2, 3);
        halves.reverse();
        x * self.cos.clone() + Tensor::cat(halves, 3) * self.sin.clone()
    }
}

/// Multi-head self-attention.
///
/// burn's `MultiHeadAttention` has no rotary positions and no state to go on from.
#[derive(Module, Debug)]
pub(crate) struct SelfAttention {
    /// Queries, keys and values in one product: `d_model → 3 d_model`.
    query_key_value: Linear,
    output: Linear,
    n_heads: usize,
}

impl SelfAttention {
    pub(crate) fn new(d_model: usize, n_heads: usize, device: &Device) -> Self {
        Self {
            query_key_value: LinearConfig::new(d_model, 3 * d_model).init(device),
            output: LinearConfig::new(d_model, d_model).init(device),
            n_heads,
        }
    }

    /// Attend over whole rows.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, slots, d_model]`
    pub(crate) fn forward(&self, x: Tensor<3>, span: &Span) -> Tensor<3> {
        let [query, key, value] = self.project(x, span);
        self.attend(query, key, value, span)
    }

    /// Attend from new slots over those kept in `state` and the new ones, which are kept too.
    pub(crate) fn forward_next(
        &self,
        x: Tensor<3>,
        span: &Span,
        state: &mut AttentionState,
    ) -> Tensor<3> {
        let [query, key, value] = self.project(x, span);
        let (key, value) = state.append(key, value);
        self.attend(query, key, value, span)
    }

    /// Queries, keys and values, each `[rows, heads, slots, d_head]`.
    fn project(&self, x: Tensor<3>, span: &Span) -> [Tensor<4>; 3] {
        let [rows, slots, d_model] = x.dims();
        let d_head = d_model / self.n_heads;
        let all = self.query_key_value.forward(x);
        let part = |at: usize| {
            all.clone()
                .slice([0..rows, 0..slots, at * d_model..(at + 1) * d_model])
                .reshape([rows, slots, self.n_heads, d_head])
                .swap_dims(1, 2)
        };
        let [mut query, mut key] = [part(0), part(1)];
        if let Some(rotation) = &span.rotation {
            query = rotation.forward(query);
            key = rotation.forward(key);
        }
        [query * (d_head as f32).powf(-0.5), key, part(2)]
    }

    fn attend(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, span: &Span) -> Tensor<3> {
        let [rows, n_heads, slots, d_head] = query.dims();
        let scores = query.matmul(key.swap_dims(2, 3)) + span.bias.clone();
        assert_shape!(scores, [rows, n_heads, slots, _]);
        let attended = softmax(scores, 3).matmul(value);
        let attended = attended
            .swap_dims(1, 2)
            .reshape([rows, slots, n_heads * d_head]);
        self.output.forward(attended)
    }
}

/// Keys and values of the slots that a block has read, `[rows, heads, slots, d_head]` each.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttentionState {
    kept: Option<(Tensor<4>, Tensor<4>)>,
}

impl AttentionState {
    fn append(&mut self, key: Tensor<4>, value: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let (key, value) = match self.kept.take() {
            Some((keys, values)) => (
                Tensor::cat(vec![keys, key], 2),
                Tensor::cat(vec![values, value], 2),
            ),
            None => (key, value),
        };
        self.kept = Some((key.clone(), value.clone()));
        (key, value)
    }
}
