//! User-LLM: a language model that reads user embeddings instead of a history written as text.
//!
//! ```text
//! history ─ UserEncoder ─ PerceiverResampler ─ Projector ─ user embeddings
//!                                                            │ cross-attention, or soft prompt
//! prompt ────────────────────────────────── LanguageModel ───┴─ answer
//! ```
//!
//! Read in this order: [`UserLlm`] (the whole), [`GatedCrossAttention`] and [`Projector`] (its
//! fresh parts), [`TuningStrategy`] (what trains), [`Trunk`] (what all users share),
//! [`AnswerLoss`] (the objective where the answers that exist are known) and [`TextTargets`] (where
//! they are free).

mod blocks;
mod cross_attention;
mod objective;
mod projector;
mod reader;
mod strategy;
mod text_loss;
mod trunk;
mod user_llm;

pub use blocks::Blocks;
pub use cross_attention::GatedCrossAttention;
pub use objective::{AnswerLoss, AnswerTargets};
pub use projector::Projector;
pub use reader::{UserDecoder, UserReader};
pub use strategy::{LoraConfig, TuningStrategy, trained_parameters};
pub use text_loss::TextTargets;
pub use trunk::Trunk;
pub use user_llm::{FusionConfig, FusionKind, UserEmbeddings, UserLlm, UserLlmConfig};
