//! Self-attention over slots, whole rows at once or the newest slots after a kept state.

use std::ops::Range;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData, assert_shape};
use serde::{Deserialize, Serialize};

use crate::constant;
use crate::rows::{is_on_host, softmax_seen};

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
    /// What each slot sees, in rows that hold histories of these lengths and then padding.
    pub(crate) fn seen(self, rows: &[Vec<usize>], slots: usize) -> Seen {
        let is_shared = rows.iter().any(|row| row.len() > 1);
        // Padding comes last, so that causality alone keeps it out of a history.
        let alone = [Vec::new()];
        let rows = match self {
            Self::Causal if !is_shared => &alone,
            _ => rows,
        };
        let mut ranges = Vec::with_capacity(rows.len() * slots);
        for row in rows {
            let n_events: usize = row.iter().sum();
            let mut begin = 0;
            // Padding is a history of its own: it has to see something, and nobody reads it.
            for n in row.iter().copied().chain([slots - n_events]) {
                let end = begin + n;
                ranges.extend((begin..end).map(|query| match self {
                    Self::Causal => begin..query + 1,
                    Self::Bidirectional => begin..end,
                }));
                begin = end;
            }
        }
        Seen {
            ranges,
            n_queries: slots,
            n_keys: slots,
        }
    }
}

/// The keys that each query sees: one run of them, and at least itself.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Of all queries of each row, or of one row if all are alike.
    ranges: Vec<Range<usize>>,
    n_queries: usize,
    n_keys: usize,
}

impl Seen {
    /// Slots `from..to` see those before them and themselves.
    pub(crate) fn causal(from: usize, to: usize) -> Self {
        Self {
            ranges: (from..to).map(|query| 0..query + 1).collect(),
            n_queries: to - from,
            n_keys: to,
        }
    }

    /// What hides the rest where it is added to the scores, broadcast over heads:
    /// `[1 or rows, 1, queries, keys]`.
    fn bias(&self, device: &Device) -> Tensor<4> {
        let shape = [
            self.ranges.len() / self.n_queries,
            1,
            self.n_queries,
            self.n_keys,
        ];
        // Infinite, because the exponential of a merely large number is slow to underflow.
        let mut bias = vec![f32::NEG_INFINITY; self.ranges.len() * self.n_keys];
        for (row, seen) in bias.chunks_mut(self.n_keys).zip(&self.ranges) {
            row[seen.clone()].fill(0.0);
        }
        Tensor::from_data(TensorData::new(bias, shape), &constant(device))
    }

    /// What the query sees whose scores are row `at` of `[rows * heads * queries, keys]`.
    fn of_row(&self, at: usize, n_heads: usize) -> Range<usize> {
        let (row, query) = (at / (n_heads * self.n_queries), at % self.n_queries);
        let at = row * self.n_queries + query;
        // One row stands for all.
        self.ranges[at % self.ranges.len()].clone()
    }
}

/// What all blocks of one pass share: who sees whom, and where each slot stands.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    seen: Seen,
    /// The same as a tensor.
    bias: Tensor<4>,
    /// Rotation of queries and keys, where positions are rotary.
    pub(crate) rotation: Option<Rotation>,
}

impl Span {
    /// Of slots on that device.
    pub(crate) fn new(seen: Seen, rotation: Option<Rotation>, device: &Device) -> Self {
        Self {
            bias: seen.bias(device),
            seen,
            rotation,
        }
    }

    /// The share that each query gives to each key.
    ///
    /// # Shapes
    ///
    /// - scores, output: `[rows, heads, queries, keys]`
    fn weights(&self, scores: Tensor<4>) -> Tensor<4> {
        let [_, n_heads, _, _] = scores.dims();
        match is_on_host(&scores) {
            true => softmax_seen(scores, |at| self.seen.of_row(at, n_heads)),
            false => softmax(scores + self.bias.clone(), 3),
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
            let columns = at * d_model..(at + 1) * d_model;
            all.clone().slice([0..rows, 0..slots, columns])
        };
        let heads = |x: Tensor<3>| {
            x.reshape([rows, slots, self.n_heads, d_head])
                .swap_dims(1, 2)
        };
        // Scaled before heads are apart, while its rows are whole.
        let mut query = heads(part(0) * (d_head as f32).powf(-0.5));
        let mut key = heads(part(1));
        if let Some(rotation) = &span.rotation {
            query = rotation.forward(query);
            key = rotation.forward(key);
        }
        [query, key, heads(part(2))]
    }

    fn attend(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, span: &Span) -> Tensor<3> {
        let [rows, n_heads, slots, d_head] = query.dims();
        let scores = query.matmul(key.swap_dims(2, 3));
        assert_shape!(scores, [rows, n_heads, slots, _]);
        let attended = span.weights(scores).matmul(value);
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
