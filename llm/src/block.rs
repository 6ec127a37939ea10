use burn::{module::Module, nn::RmsNorm, tensor::Tensor};

use crate::{AttentionPlan, FeedForward, LayerCache, SelfAttention};

/// One decoder block, in two halves, so that something may come between them.
///
/// ```text
/// hidden = hidden + attention(norm(hidden))        Block::attend
/// hidden = hidden + feed_forward(norm(hidden))     Block::feed_forward
/// ```
#[derive(Module, Debug)]
pub struct Block {
    /// Before the attention.
    pub attention_norm: RmsNorm,
    /// Grouped-query self-attention.
    pub attention: SelfAttention,
    /// Before the feed-forward part.
    pub feed_forward_norm: RmsNorm,
    /// SwiGLU feed-forward part.
    pub feed_forward: FeedForward,
}

impl Block {
    /// The first half: add what each token reads from the others.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, new, d_model]`
    /// - output: `[batch, new, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if `plan` was made for other batch, new or cached sizes.
    pub fn attend(
        &self,
        hidden: Tensor<3>,
        plan: &AttentionPlan,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let normalised = self.attention_norm.forward(hidden.clone());
        hidden + self.attention.forward(normalised, plan, cache)
    }

    /// The second half: add what each token makes of itself.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, new, d_model]`
    /// - output: `[batch, new, d_model]`
    pub fn feed_forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let normalised = self.feed_forward_norm.forward(hidden.clone());
        hidden + self.feed_forward.forward(normalised)
    }
}
