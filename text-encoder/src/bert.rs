//! The transformer: token, position and type embeddings, then post-norm blocks.

use burn::config::Config;
use burn::module::Module;
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Int, Tensor};

/// Configuration to create a [`Bert`] with [`init`](Self::init).
#[derive(Config, Debug)]
pub struct BertConfig {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of a token's vector.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Number of attention heads; must divide `d_model`.
    pub n_heads: usize,
    /// Inner width of the feed-forward network.
    pub d_ff: usize,
    /// Tokens of the longest text.
    #[config(default = 512)]
    pub max_length: usize,
    /// Kinds of segments; a text by itself is of the first.
    #[config(default = 2)]
    pub n_types: usize,
    /// What keeps the norms from dividing by 0.
    #[config(default = 1e-12)]
    pub norm_epsilon: f64,
}

impl BertConfig {
    /// Create the module on a device.
    ///
    /// # Panics
    ///
    /// Panics if `n_heads` does not divide `d_model`.
    pub fn init(&self, device: &Device) -> Bert {
        let table = |n: usize| EmbeddingConfig::new(n, self.d_model).init(device);
        Bert {
            tokens: table(self.vocab_size),
            positions: table(self.max_length),
            types: table(self.n_types),
            norm: LayerNormConfig::new(self.d_model)
                .with_epsilon(self.norm_epsilon)
                .init(device),
            blocks: TransformerEncoderConfig::new(
                self.d_model,
                self.d_ff,
                self.n_heads,
                self.n_layers,
            )
            .with_dropout(0.0)
            .with_layer_norm_eps(self.norm_epsilon)
            .init(device),
        }
    }
}

/// The encoder of [BERT](https://arxiv.org/abs/1810.04805) without its heads, to be read from and
/// not to be trained: it has no dropout.
#[derive(Module, Debug)]
pub struct Bert {
    tokens: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    blocks: TransformerEncoder,
}

impl Bert {
    /// One vector per token. `mask_pad` is `true` at padding.
    ///
    /// # Shapes
    ///
    /// - tokens, mask_pad: `[batch, length]`
    /// - output: `[batch, length, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the texts are longer than `max_length`.
    pub fn forward(&self, tokens: Tensor<2, Int>, mask_pad: Tensor<2, Bool>) -> Tensor<3> {
        let [_, length] = tokens.dims();
        let [max_length, _] = self.positions.weight.dims();
        assert!(
            length <= max_length,
            "a text of {length} tokens does not fit a model of `max_length` = {max_length}"
        );
        let positions = self.positions.weight.val().slice(0..length);
        let first_type = self.types.weight.val().slice(0..1);
        let embedded = self.tokens.forward(tokens) + (positions + first_type).unsqueeze();
        let input = TransformerEncoderInput::new(self.norm.forward(embedded));
        self.blocks.forward(input.mask_pad(mask_pad))
    }

    /// Width of a token's vector.
    pub fn d_model(&self) -> usize {
        self.tokens.weight.dims()[1]
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.tokens.weight.device()
    }
}
