//! A decoder-only language model of the Llama family on burn: weights, tokenizer, cache, generation, ranking.
#![recursion_limit = "256"]

mod attention;
mod block;
mod cache;
mod chat;
mod error;
mod feed_forward;
pub mod generate;
pub mod load;
mod model;
pub mod ranking;
mod rotary;
pub mod tokenizer;

pub use attention::{AttentionPlan, SelfAttention, SelfAttentionConfig};
pub use block::Block;
pub use cache::{KvCache, LayerCache};
pub use chat::{ChatTemplate, Message};
pub use error::Error;
pub use feed_forward::{FeedForward, FeedForwardConfig};
pub use model::{LanguageModel, LanguageModelConfig};
pub use rotary::{RotaryEmbedding, Rotation};
pub use tokenizer::Tokenizer;
