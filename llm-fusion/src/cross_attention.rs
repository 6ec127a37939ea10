//! How one block of the language model reads the user.

use burn::module::{Module, Param};
use burn::nn::attention::{CrossAttention, CrossAttentionCache, CrossAttentionConfig};
use burn::nn::{Initializer, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};

use crate::user_llm::{FusionConfig, UserEmbeddings};

/// Cross-attention from the language model's hidden states to the user embeddings, behind a gate.
///
/// ```text
/// hidden = hidden + tanh(gate) · rms(hidden) · CrossAttention(query = norm(hidden), key = value = user)
/// ```
///
/// User-LLM, equations 1 to 4, after [Flamingo](https://arxiv.org/abs/2204.14198), section 3.1.2.
/// The gate starts at 0: the language model is untouched until training opens it. Every text
/// token sees every user embedding; nothing here is causal.
///
/// The factor `rms(hidden)`, one number per token and not differentiated, is ours: the residual
/// stream grows from block to block (to 35 per element in SmolLM2-135M), and an attention's output
/// of order one would take thousands of steps to be heard. With it the gate is the user's share of
/// the stream, in every block and every language model (`docs/LOG.md`).
#[derive(Module, Debug)]
pub struct GatedCrossAttention {
    norm: RmsNorm,
    attention: CrossAttention,
    /// `[1]`; `None` leaves the sum ungated, as in the paper's equation 3.
    pub gate: Option<Param<Tensor<1>>>,
}

impl GatedCrossAttention {
    pub(crate) fn new(
        config: &FusionConfig,
        d_model: usize,
        d_user: usize,
        device: &Device,
    ) -> Self {
        let (n_heads, d_head) = (config.n_heads, config.d_head);
        Self {
            norm: RmsNormConfig::new(d_model).init(device),
            attention: CrossAttentionConfig::new(d_model, d_user, n_heads, n_heads, d_head)
                .with_dropout(0.0)
                .init(device),
            gate: config.gated.then(|| Initializer::Zeros.init([1], device)),
        }
    }

    /// Add what the user embeddings have to say.
    ///
    /// With a cache, keys and values are computed at the first call and kept: a cache belongs to
    /// one batch of users.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, tokens, d_model]`
    /// - output: `[batch, tokens, d_model]`
    pub fn forward(
        &self,
        hidden: Tensor<3>,
        user: &UserEmbeddings,
        cache: Option<&mut CrossAttentionCache>,
    ) -> Tensor<3> {
        let query = self.norm.forward(hidden.clone());
        let (context, mask_pad) = (user.embeddings.clone(), user.mask_pad.clone());
        let read = match cache {
            Some(cache) => self
                .attention
                .forward_cache(query, context, mask_pad, cache),
            None => self.attention.forward(query, context, mask_pad),
        };
        let read = read * root_mean_square(hidden.clone()).detach();
        match &self.gate {
            Some(gate) => hidden + read * gate.val().tanh().unsqueeze::<3>(),
            None => hidden + read,
        }
    }
}

/// Root mean square of each token's state, `[batch, tokens, 1]`.
fn root_mean_square(hidden: Tensor<3>) -> Tensor<3> {
    hidden.powi_scalar(2).mean_dim(2).sqrt()
}
