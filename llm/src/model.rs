use burn::{
    config::Config,
    module::{Initializer, Module},
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig},
    tensor::{Bool, DType, Device, Int, Tensor, TensorData, assert_shape},
};

use crate::{
    AttentionPlan, Block, FeedForwardConfig, KvCache, SelfAttentionConfig,
    attention::{causal_mask, causal_positions},
    generate::CachedDecoder,
    precision::{linear, product},
    rotary::{RopeScaling, RotaryEmbedding},
};

/// Tokens that [`LanguageModel::read_in_parts`] reads at a time: 2,778 tokens took SmolLM2-135M 42.6 s at
/// once, 24.7 s by 512, 17.5 s by 256 and 18.6 s by 128 (flex, a busy machine).
pub const PREFILL_PART: usize = 256;

/// How the weights of a fresh model start: `N(0, 0.02)`, as in Hugging Face's Llama.
pub(crate) const INITIALIZER: Initializer = Initializer::Normal {
    mean: 0.0,
    std: 0.02,
};

/// Configuration to create a [`LanguageModel`] with [`init`](Self::init).
///
/// [`load`](crate::load::load) makes it from the model's own files.
#[derive(Config, Debug, PartialEq)]
pub struct LanguageModelConfig {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads, each shared by `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub d_head: usize,
    /// Width inside the feed-forward part.
    pub d_ff: usize,
    /// Base of the rotary wavelengths.
    #[config(default = 10000.0)]
    pub rope_theta: f64,
    /// How the frequencies are slowed down for long texts, as in Llama 3.1.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square in every norm.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// Whether the head is the embedding, used the other way round.
    #[config(default = false)]
    pub tied_head: bool,
    /// Whether query, key and value have a bias, as in Qwen2.
    #[config(default = false)]
    pub qkv_bias: bool,
    /// Whether every head's queries and keys have a norm, as in Qwen3.
    #[config(default = false)]
    pub qk_norm: bool,
    /// Blocks, counted from 0, whose attention knows no positions (NoPE): in SmolLM3 every fourth.
    #[config(default = "Vec::new()")]
    pub nope_layers: Vec<usize>,
    /// Tokens of the longest text that the model was made for, where its files say so.
    pub context_length: Option<usize>,
}

impl LanguageModelConfig {
    /// Initialize a new [`LanguageModel`] with random weights.
    ///
    /// # Panics
    ///
    /// Panics if `n_heads` is not a multiple of `n_kv_heads`, `d_head` is odd, or `norm_epsilon` is
    /// not positive.
    pub fn init(&self, device: &Device) -> LanguageModel {
        let norm = || {
            RmsNormConfig::new(self.d_model)
                .with_epsilon(self.norm_epsilon)
                .init(device)
        };
        let attention =
            SelfAttentionConfig::new(self.d_model, self.n_heads, self.n_kv_heads, self.d_head)
                .with_qkv_bias(self.qkv_bias)
                .with_qk_norm(self.qk_norm.then_some(self.norm_epsilon));
        let feed_forward = FeedForwardConfig::new(self.d_model, self.d_ff);

        LanguageModel {
            embedding: EmbeddingConfig::new(self.vocab_size, self.d_model)
                .with_initializer(INITIALIZER)
                .init(device),
            blocks: (0..self.n_layers)
                .map(|index| Block {
                    attention_norm: norm(),
                    attention: attention
                        .clone()
                        .with_has_rope(!self.nope_layers.contains(&index))
                        .init(device),
                    feed_forward_norm: norm(),
                    feed_forward: feed_forward.init(device),
                })
                .collect(),
            norm: norm(),
            head: (!self.tied_head).then(|| {
                LinearConfig::new(self.d_model, self.vocab_size)
                    .with_bias(false)
                    .with_initializer(INITIALIZER)
                    .init(device)
            }),
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            rope: RotaryEmbedding {
                theta: self.rope_theta,
                d_head: self.d_head,
                scaling: self.rope_scaling,
            },
        }
    }
}

/// A decoder-only language model of the Llama family.
///
/// ```text
/// tokens ─ embedding ─ [ + attention(norm) ─ + feed_forward(norm) ] × n_layers ─ norm ─ head ─ logits
/// ```
///
/// Grouped-query attention with rotary positions, RMSNorm before each half of a block, SwiGLU
/// feed-forward, no biases but Qwen2's on query, key and value: Llama, Llama 3.1 with its slower
/// positions, Mistral without its window,
/// Qwen2, Qwen3 with its norms of queries and keys, SmolLM 1 to 3 with blocks that know no
/// positions. The parts are public, so that another crate can walk the blocks itself and put
/// something between their halves; see [`Block`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use llm::LanguageModelConfig;
///
/// let device = Device::flex();
/// let model = LanguageModelConfig::new(100, 32, 2, 4, 2, 8, 64).init(&device);
/// let tokens = Tensor::from_data([[5, 6, 7], [8, 9, 10]], &device);
/// assert_eq!(model.forward(tokens, None).dims(), [2, 3, 100]);
/// ```
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// One vector per token, `[vocab_size, d_model]`.
    pub embedding: Embedding,
    /// The decoder blocks, in order.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub norm: RmsNorm,
    /// Hidden state to logits, `[d_model, vocab_size]`; `None` where the embedding does it.
    pub head: Option<Linear>,
    n_heads: usize,
    n_kv_heads: usize,
    #[module(skip)]
    rope: RotaryEmbedding,
}

impl LanguageModel {
    /// The vectors of tokens, as the first block wants them.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, tokens]`, each in `0..vocab_size`: check ids before they reach a device,
    ///   for wgpu gives zeros in silence where they are out of range
    /// - output: `[batch, tokens, d_model]`
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.embedding.forward(tokens).cast(self.dtype())
    }

    /// Plan a forward pass with any positions and any mask.
    ///
    /// Keys come in the order in which they were given to the cache, the new ones last. Position
    /// and order are two things: branches of a tree stand at the same positions, one after the
    /// other in the cache, each hidden from the others. A new token always sees itself, whatever
    /// the mask says.
    ///
    /// # Shapes
    ///
    /// - positions: `[batch, new]`
    /// - mask_attn: `[batch, new, cached + new]`, `true` = hidden; `None` = nothing is hidden
    ///
    /// # Panics
    ///
    /// Panics if the first two axes of the two differ.
    pub fn plan(
        &self,
        positions: Tensor<2, Int>,
        mask_attn: Option<Tensor<3, Bool>>,
    ) -> AttentionPlan {
        let [batch, n_new] = positions.dims();
        if let Some(mask_attn) = &mask_attn {
            assert_shape!(mask_attn, [batch, n_new, _]);
        }
        AttentionPlan::new(
            self.rope.rotation(positions),
            mask_attn,
            self.n_kv_heads,
            self.n_heads / self.n_kv_heads,
        )
    }

    /// Plan a plain causal pass: `n_new` tokens that follow `n_cached`, each seeing itself and what
    /// came before it.
    ///
    /// Padding is seen by no other token and takes no position, so that it changes nothing wherever
    /// it stands; a batch of prompts of several lengths is padded on the left.
    ///
    /// # Shapes
    ///
    /// - mask_pad: `[batch, n_cached + n_new]`, `true` at padding
    ///
    /// # Panics
    ///
    /// Panics if `mask_pad` has another shape.
    pub fn plan_causal(
        &self,
        batch: usize,
        n_new: usize,
        n_cached: usize,
        mask_pad: Option<Tensor<2, Bool>>,
    ) -> AttentionPlan {
        if let Some(mask_pad) = &mask_pad {
            let total = n_cached + n_new;
            assert_shape!(mask_pad, [batch, total]);
        }
        let device = self.device();
        let positions = causal_positions(batch, n_new, n_cached, mask_pad.as_ref(), &device);
        let mask_attn = causal_mask(batch, n_new, n_cached, mask_pad, &device);
        self.plan(positions, mask_attn)
    }

    /// The logits of every next token over the whole vocabulary: final norm and head.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, tokens, d_model]`, after the last block
    /// - output: `[batch, tokens, vocab_size]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [batch, n_new, d_model] = hidden.dims();
        let hidden = self.normalise(hidden).reshape([batch * n_new, d_model]);
        self.head_logits(hidden)
            .reshape([batch, n_new, self.vocab_size()])
    }

    /// The head alone: logits of hidden states that are normalised already.
    ///
    /// # Shapes
    ///
    /// - hidden: `[n, d_model]`, from [`normalise`](Self::normalise)
    /// - output: `[n, vocab_size]`
    pub fn head_logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => linear(head, hidden),
            None => product(hidden, self.embedding.weight.val().transpose()),
        }
    }

    /// Number of tokens that the model knows.
    pub fn vocab_size(&self) -> usize {
        self.embedding.weight.dims()[0]
    }

    /// The final norm alone, for use with [`head_rows`](Self::head_rows).
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, tokens, d_model]`, after the last block
    /// - output: `[batch, tokens, d_model]`
    pub fn normalise(&self, hidden: Tensor<3>) -> Tensor<3> {
        self.norm.forward(hidden)
    }

    /// The head's weights of some tokens, where only their logits matter: the logit of token `i` is
    /// the product of row `i` with the normalised hidden state.
    ///
    /// # Shapes
    ///
    /// - tokens: `[n]`
    /// - output: `[n, d_model]`
    pub fn head_rows(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        let rows = match &self.head {
            Some(head) => head.weight.val().select(1, tokens).transpose(),
            None => self.embedding.weight.val().select(0, tokens),
        };
        rows.cast(self.dtype())
    }

    /// The logits of every next token of whole sequences, as in training.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, tokens]`
    /// - mask_pad: `[batch, tokens]`, `true` at padding
    /// - output: `[batch, tokens, vocab_size]`
    pub fn forward(&self, tokens: Tensor<2, Int>, mask_pad: Option<Tensor<2, Bool>>) -> Tensor<3> {
        let [batch, n_new] = tokens.dims();
        let plan = self.plan_causal(batch, n_new, 0, mask_pad);

        let mut hidden = self.embed(tokens);
        for block in &self.blocks {
            hidden = block.attend(hidden, &plan, None);
            hidden = block.feed_forward(hidden);
        }
        self.logits(hidden)
    }

    /// The hidden states of new tokens after the last block, before the final norm; the tokens are
    /// remembered in `cache`.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, new]`
    /// - output: `[batch, new, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if `plan` or `cache` was made for other sizes.
    pub fn forward_cached(
        &self,
        tokens: Tensor<2, Int>,
        plan: &AttentionPlan,
        cache: &mut KvCache,
    ) -> Tensor<3> {
        assert_eq!(
            cache.layers.len(),
            self.blocks.len(),
            "the cache has another number of layers than the model",
        );

        let mut hidden = self.embed(tokens);
        for (block, cache) in self.blocks.iter().zip(&mut cache.layers) {
            hidden = block.attend(hidden, plan, Some(cache));
            hidden = block.feed_forward(hidden);
        }
        hidden
    }

    /// Read the tokens of one sequence, however many, and give the hidden state of the last, before
    /// the final norm.
    ///
    /// Long texts are read in parts of [`PREFILL_PART`] tokens: attention's scratch memory then
    /// grows with the text and not with its square.
    ///
    /// # Shapes
    ///
    /// - output: `[1, 1, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if there is no token.
    pub fn prefill(&self, tokens: &[u32], cache: &mut KvCache) -> Tensor<3> {
        self.read_in_parts(tokens, |ids| {
            let [batch, n] = ids.dims();
            let plan = self.plan_causal(batch, n, cache.len(), None);
            self.forward_cached(ids, &plan, cache)
        })
    }

    /// Read a text in parts of [`PREFILL_PART`] tokens; the hidden state of the last token.
    ///
    /// `read` has the ids of a part, `[1, part]`, and gives its hidden states.
    ///
    /// # Shapes
    ///
    /// - output: `[1, 1, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if there is no token.
    pub fn read_in_parts(
        &self,
        tokens: &[u32],
        mut read: impl FnMut(Tensor<2, Int>) -> Tensor<3>,
    ) -> Tensor<3> {
        let device = self.device();
        let mut last = None;
        for part in tokens.chunks(PREFILL_PART) {
            let ids: Vec<i64> = part.iter().map(|&token| i64::from(token)).collect();
            let ids = Tensor::from_data(TensorData::new(ids, [1, part.len()]), &device);
            last = Some(read(ids).slice([0..1, part.len() - 1..part.len()]));
        }
        last.expect("there is a token to read")
    }

    /// An empty cache for [`forward_cached`](Self::forward_cached).
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(self.blocks.len())
    }

    /// A sequence to be decoded by [`generate`](crate::generate::generate).
    pub fn decoder(&self) -> CachedDecoder<'_> {
        CachedDecoder::new(self)
    }

    /// The float type of hidden states and logits: that of the norms.
    fn dtype(&self) -> DType {
        self.norm.gamma.val().dtype()
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.embedding.weight.lazy_device()
    }
}
