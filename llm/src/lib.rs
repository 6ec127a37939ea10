//! A decoder-only language model of the Llama family on burn: weights, tokenizer, cache, generation, ranking.
//!
//! [`LanguageModel`] is the model: an embedding, [`Block`]s whose two halves are called one after the
//! other, a norm and a head. A forward pass is planned once ([`AttentionPlan`]: who stands where and
//! sees whom) and walks the blocks; a [`KvCache`] lets it go on from where it stopped. [`load()`](load::load)
//! brings a model from a GGUF file or a Hugging Face folder with its [`Tokenizer`] and chat template,
//! [`save_hugging_face`](save::save_hugging_face) writes such a folder, [`adapter`] exchanges LoRA with PEFT,
//! [`generate()`](generate::generate) lets it write, and [`ranking`] lets it choose among given texts.
//!
//! # Example
//!
//! ```
//! use std::{ops::ControlFlow, path::Path};
//! use burn::tensor::Device;
//! use llm::{Message, generate::{GenerationConfig, generate}, load::load};
//!
//! # fn main() -> Result<(), llm::Error> {
//! let folder = Path::new("tests/fixtures/tiny-llama");
//! let llm::load::LoadedModel { model, tokenizer, .. } = load(folder, &Device::flex())?;
//!
//! let prompt = tokenizer.chat(&[Message::user("the way home")], true)?;
//! let prompt = tokenizer.encode_bare(&prompt)?;
//! let config = GenerationConfig::new(8).with_stop(tokenizer.stop().to_vec());
//! let answer = generate(&mut model.decoder(), &prompt, &config, |_| ControlFlow::Continue(()));
//! println!("{}", tokenizer.decode(&answer)?);
//! # Ok(())
//! # }
//! ```
#![recursion_limit = "256"]

pub mod adapter;
mod attention;
mod block;
mod cache;
mod chat;
mod error;
mod feed_forward;
pub mod generate;
pub mod load;
mod model;
mod perplexity;
mod precision;
pub mod ranking;
mod rotary;
pub mod save;
pub mod tokenizer;

pub use attention::{AttentionPlan, SelfAttention, SelfAttentionConfig};
pub use block::Block;
pub use cache::{KvCache, LayerCache};
pub use chat::{ChatTemplate, Message};
pub use error::Error;
pub use feed_forward::{FeedForward, FeedForwardConfig};
pub use model::{LanguageModel, LanguageModelConfig, PREFILL_PART};
pub use rotary::{RopeScaling, RotaryEmbedding, Rotation};
pub use tokenizer::Tokenizer;
