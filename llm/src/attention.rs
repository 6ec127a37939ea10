use burn::{
    config::Config,
    module::{Initializer, Module},
    nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig},
    tensor::{
        Bool, Device, Int, Tensor, activation::softmax, assert_shape, module::attention,
        ops::AttentionModuleOptions, s,
    },
};

use crate::{cache::LayerCache, precision::linear, rotary::Rotation};

/// Configuration to create a [`SelfAttention`] with [`init`](Self::init).
#[derive(Config, Debug)]
pub struct SelfAttentionConfig {
    /// Width of the model.
    pub d_model: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads, each shared by `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub d_head: usize,
    /// Whether query, key and value have a bias, as in Qwen2.
    #[config(default = false)]
    pub qkv_bias: bool,
    /// Epsilon of the norms that queries and keys have, as in Qwen3; `None` = they have none.
    pub qk_norm: Option<f64>,
    /// Whether queries and keys are turned to their positions.
    #[config(default = true)]
    pub has_rope: bool,
    /// How the weights start.
    #[config(default = "crate::model::INITIALIZER")]
    pub initializer: Initializer,
}

impl SelfAttentionConfig {
    /// Initialize a new [`SelfAttention`].
    ///
    /// # Panics
    ///
    /// Panics if `n_heads` is not a multiple of `n_kv_heads`, or `d_head` is odd.
    pub fn init(&self, device: &Device) -> SelfAttention {
        assert!(
            self.n_kv_heads > 0 && self.n_heads.is_multiple_of(self.n_kv_heads),
            "n_heads ({}) must be a multiple of n_kv_heads ({})",
            self.n_heads,
            self.n_kv_heads,
        );
        assert!(
            self.d_head.is_multiple_of(2),
            "d_head ({}) must be even, for rotary positions",
            self.d_head,
        );

        let linear = |d_input, d_output, bias| {
            LinearConfig::new(d_input, d_output)
                .with_bias(bias)
                .with_initializer(self.initializer.clone())
                .init(device)
        };
        let d_queries = self.n_heads * self.d_head;
        let d_keys = self.n_kv_heads * self.d_head;
        let norm = |epsilon| {
            RmsNormConfig::new(self.d_head)
                .with_epsilon(epsilon)
                .init(device)
        };

        SelfAttention {
            query: linear(self.d_model, d_queries, self.qkv_bias),
            key: linear(self.d_model, d_keys, self.qkv_bias),
            value: linear(self.d_model, d_keys, self.qkv_bias),
            output: linear(d_queries, self.d_model, false),
            query_norm: self.qk_norm.map(norm),
            key_norm: self.qk_norm.map(norm),
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            d_head: self.d_head,
            has_rope: self.has_rope,
        }
    }
}

/// Grouped-query self-attention with rotary positions and an optional cache.
///
/// `softmax(rotate(Q) @ rotate(K)^T / sqrt(d_head)) @ V`, where each of the `n_kv_heads` key and
/// value heads serves `n_heads / n_kv_heads` query heads
/// ([GQA](https://arxiv.org/abs/2305.13245)). Keys and values are not repeated: the query heads of
/// a group are neighbours, so `[batch, n_heads, new, d_head]` is read as
/// `[batch, n_kv_heads, group * new, d_head]`, and one matrix product serves the group.
///
/// Qwen3 normalises every head's queries and keys before they are turned; some blocks of SmolLM3
/// turn nothing ([NoPE](https://arxiv.org/abs/2501.18795)).
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `[d_model, n_heads * d_head]`
    pub query: Linear,
    /// `[d_model, n_kv_heads * d_head]`
    pub key: Linear,
    /// `[d_model, n_kv_heads * d_head]`
    pub value: Linear,
    /// `[n_heads * d_head, d_model]`
    pub output: Linear,
    /// Over each head's queries, `[d_head]`.
    pub query_norm: Option<RmsNorm>,
    /// Over each head's keys, `[d_head]`.
    pub key_norm: Option<RmsNorm>,
    n_heads: usize,
    n_kv_heads: usize,
    d_head: usize,
    has_rope: bool,
}

impl SelfAttention {
    /// Let every new token look at the tokens that `plan` shows it.
    ///
    /// With a cache, the new tokens come after those in it and are remembered; without, they are
    /// all there is.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, new, d_model]`
    /// - output: `[batch, new, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if `plan` was made for other batch, new or cached sizes.
    pub fn forward(
        &self,
        x: Tensor<3>,
        plan: &AttentionPlan,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let [batch, n_new, _] = x.dims();
        let group = self.n_heads / self.n_kv_heads;
        let heads = |x: Tensor<3>, n_heads: usize| {
            x.reshape([batch, n_new, n_heads, self.d_head])
                .swap_dims(1, 2)
        };

        let query = heads(linear(&self.query, x.clone()), self.n_heads);
        let key = heads(linear(&self.key, x.clone()), self.n_kv_heads);
        let value = heads(linear(&self.value, x), self.n_kv_heads);

        let placed = |heads: Tensor<4>, norm: &Option<RmsNorm>| {
            let heads = match norm {
                Some(norm) => norm.forward(heads),
                None => heads,
            };
            match self.has_rope {
                true => plan.rotation.forward(heads),
                false => heads,
            }
        };
        let query = placed(query, &self.query_norm);
        let key = placed(key, &self.key_norm);
        let (key, value) = match cache {
            Some(cache) => cache.append(key, value),
            None => (key, value),
        };

        let query = query.reshape([batch, self.n_kv_heads, group * n_new, self.d_head]);
        let context = attend(query, key, value, plan.mask.clone())
            .reshape([batch, self.n_heads, n_new, self.d_head])
            .swap_dims(1, 2)
            .reshape([batch, n_new, self.n_heads * self.d_head]);

        linear(&self.output, context)
    }
}

/// Scaled dot-product attention, `softmax(Q @ K^T / sqrt(d_head)) @ V`.
///
/// burn's fused kernel does it without keeping the scores, on flex in half to a third of the time of
/// the separate steps; but there it also copies keys and values out of the cache first, which for a
/// single new token costs more than all the rest. So few queries take the separate steps. Under
/// autodiff burn takes them itself.
///
/// # Shapes
///
/// - query: `[batch, heads, queries, d_head]`
/// - key, value: `[batch, heads, keys, d_head]`
/// - mask: `[batch, heads, queries, keys]`, `true` = hidden
/// - output: `[batch, heads, queries, d_head]`
fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, queries, d_head] = query.dims();
    let [_, _, keys, _] = key.dims();
    if let Some(mask) = &mask {
        assert_shape!(mask, [batch, heads, queries, keys]);
    }
    // burn-tch 0.22.1 hands the mask to PyTorch as it is, where `true` means shown, not hidden.
    let is_inverted = mask.is_some() && format!("{:?}", query.device()).contains("LibTorch");
    if queries >= keys && !is_inverted {
        return attention(
            query,
            key,
            value,
            mask,
            None,
            AttentionModuleOptions::default(),
        );
    }

    let scores = (query / (d_head as f64).sqrt()).matmul(key.transpose());
    let scores = match mask {
        Some(mask) => scores.mask_fill(mask, f32::NEG_INFINITY),
        None => scores,
    };
    softmax(scores, 3).matmul(value)
}

/// What one forward pass has in common for every block: where its new tokens stand and what they
/// see. Made once per pass by [`LanguageModel::plan`](crate::LanguageModel::plan) or
/// [`plan_causal`](crate::LanguageModel::plan_causal).
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    rotation: Rotation,
    /// `[batch, n_kv_heads, group * new, cached + new]`, as the scores are; `None` where nothing is
    /// hidden.
    mask: Option<Tensor<4, Bool>>,
}

impl AttentionPlan {
    /// A plan for `n_kv_heads` key and value heads that serve `group` query heads each.
    pub(crate) fn new(
        rotation: Rotation,
        mask_attn: Option<Tensor<3, Bool>>,
        n_kv_heads: usize,
        group: usize,
    ) -> Self {
        let mask = mask_attn.map(|mask_attn| {
            let mask = except_itself(mask_attn).unsqueeze_dim::<4>(1);
            mask.repeat(&[1, n_kv_heads, group, 1])
        });
        Self { rotation, mask }
    }
}

/// The mask with every new token shown to itself: a row that hides everything, as at padding, would
/// have a softmax of NaN, which the next block would spread over the batch.
fn except_itself(mask_attn: Tensor<3, Bool>) -> Tensor<3, Bool> {
    let [batch, n_new, total] = mask_attn.dims();
    let device = mask_attn.device();
    let others = Tensor::<2, Bool>::diag_mask([n_new, total], (total - n_new) as i64, &device);

    mask_attn.bool_and(others.unsqueeze::<3>().expand([batch, n_new, total]))
}

/// Positions of `n_new` tokens after `n_cached`: counted from 0 without the padding, so that the
/// first real token stands at 0 whatever comes before it.
///
/// # Shapes
///
/// - mask_pad: `[batch, n_cached + n_new]`
/// - output: `[batch, n_new]`
pub(crate) fn causal_positions(
    batch: usize,
    n_new: usize,
    n_cached: usize,
    mask_pad: Option<&Tensor<2, Bool>>,
    device: &Device,
) -> Tensor<2, Int> {
    let total = n_cached + n_new;
    match mask_pad {
        None => Tensor::<1, Int>::arange(n_cached as i64..total as i64, device)
            .unsqueeze::<2>()
            .expand([batch, n_new]),
        Some(mask_pad) => {
            let n_real = mask_pad.clone().bool_not().int().cumsum(1);
            (n_real - 1).clamp_min(0).slice(s![.., n_cached..total])
        }
    }
}

/// Hides from each of `n_new` tokens what comes after it, and padding; `None` if that is nothing.
///
/// # Shapes
///
/// - mask_pad: `[batch, n_cached + n_new]`
/// - output: `[batch, n_new, n_cached + n_new]`
pub(crate) fn causal_mask(
    batch: usize,
    n_new: usize,
    n_cached: usize,
    mask_pad: Option<Tensor<2, Bool>>,
    device: &Device,
) -> Option<Tensor<3, Bool>> {
    let total = n_cached + n_new;
    let full = |mask: Tensor<3, Bool>| mask.expand([batch, n_new, total]);

    let padding = mask_pad.map(|mask_pad| full(mask_pad.unsqueeze_dim::<3>(1)));
    let future = (n_new > 1).then(|| {
        let seen = Tensor::<2, Bool>::tril_mask([n_new, total], n_cached as i64, device);
        full(seen.unsqueeze::<3>())
    });
    match (padding, future) {
        (Some(padding), Some(future)) => Some(padding.bool_or(future)),
        (padding, future) => padding.or(future),
    }
}
