//! One block of the encoder: attention over the events so far, then a feed-forward network.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::activation::{gelu, relu, silu};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::attention::{AttentionState, SelfAttention, Span};
use crate::noise::Dropout;

/// How vectors are normalised before attention, feed-forward and heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Mean and variance: [Layer Normalization](https://arxiv.org/abs/1607.06450).
    Layer,
    /// Root mean square alone: [RMSNorm](https://arxiv.org/abs/1910.07467).
    Rms,
}

/// The network after attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardKind {
    /// `W₂ relu(W₁ x)`, as in SASRec.
    Relu,
    /// `W₂ gelu(W₁ x)`.
    Gelu,
    /// `W₂ (silu(W₁ x) ∘ W₃ x)`: [GLU variants](https://arxiv.org/abs/2002.05202).
    SwiGlu,
}

/// A normalisation of the last dimension.
#[derive(Module, Debug)]
pub enum Norm {
    /// See [`NormKind::Layer`].
    Layer(LayerNorm),
    /// See [`NormKind::Rms`].
    Rms(RmsNorm),
}

impl Norm {
    pub(crate) fn new(kind: NormKind, d_model: usize, device: &Device) -> Self {
        match kind {
            NormKind::Layer => Self::Layer(LayerNormConfig::new(d_model).init(device)),
            NormKind::Rms => Self::Rms(RmsNormConfig::new(d_model).init(device)),
        }
    }

    /// Normalise, whatever the leading dimensions.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

/// The position-wise network of a block.
#[derive(Module, Debug)]
pub struct FeedForward {
    inner: Linear,
    outer: Linear,
    #[module(skip)]
    kind: FeedForwardKind,
}

impl FeedForward {
    fn new(kind: FeedForwardKind, d_model: usize, d_ff: usize, device: &Device) -> Self {
        // Gate and value of a SwiGLU come out of one product.
        let width = if kind == FeedForwardKind::SwiGlu {
            2 * d_ff
        } else {
            d_ff
        };
        Self {
            inner: LinearConfig::new(d_model, width).init(device),
            outer: LinearConfig::new(d_ff, d_model).init(device),
            kind,
        }
    }

    /// Apply the network.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, slots, d_model]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let inner = self.inner.forward(x);
        let inner = match self.kind {
            FeedForwardKind::Relu => relu(inner),
            FeedForwardKind::Gelu => gelu(inner),
            FeedForwardKind::SwiGlu => {
                let mut halves = inner.chunk(2, 2).into_iter();
                let (gate, value) = (halves.next(), halves.next());
                silu(gate.expect("two halves")) * value.expect("two halves")
            }
        };
        self.outer.forward(inner)
    }
}

/// Pre-norm transformer block: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
pub struct EncoderBlock {
    norm_attention: Norm,
    attention: SelfAttention,
    norm_feed_forward: Norm,
    feed_forward: FeedForward,
    pub(crate) dropout: Dropout,
}

/// The figures of a block.
pub(crate) struct BlockConfig {
    pub(crate) d_model: usize,
    pub(crate) d_ff: usize,
    pub(crate) n_heads: usize,
    pub(crate) norm: NormKind,
    pub(crate) feed_forward: FeedForwardKind,
    pub(crate) dropout: f64,
}

impl EncoderBlock {
    pub(crate) fn new(config: &BlockConfig, device: &Device) -> Self {
        let BlockConfig { d_model, d_ff, .. } = *config;
        Self {
            norm_attention: Norm::new(config.norm, d_model, device),
            attention: SelfAttention::new(d_model, config.n_heads, device),
            norm_feed_forward: Norm::new(config.norm, d_model, device),
            feed_forward: FeedForward::new(config.feed_forward, d_model, d_ff, device),
            dropout: Dropout::new(config.dropout),
        }
    }

    /// Read whole rows.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, slots, d_model]`
    pub(crate) fn forward(&self, x: Tensor<3>, span: &Span) -> Tensor<3> {
        let attended = self
            .attention
            .forward(self.norm_attention.forward(x.clone()), span);
        self.rest(x, attended)
    }

    /// Read new slots after those that `state` has kept.
    pub(crate) fn forward_next(
        &self,
        x: Tensor<3>,
        span: &Span,
        state: &mut AttentionState,
    ) -> Tensor<3> {
        let normed = self.norm_attention.forward(x.clone());
        let attended = self.attention.forward_next(normed, span, state);
        self.rest(x, attended)
    }

    fn rest(&self, x: Tensor<3>, attended: Tensor<3>) -> Tensor<3> {
        let x = x + self.dropout.forward(attended);
        let inner = self
            .feed_forward
            .forward(self.norm_feed_forward.forward(x.clone()));
        x + self.dropout.forward(inner)
    }
}
