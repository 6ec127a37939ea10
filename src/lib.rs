//! **User-LLM on burn**: a language model that reads user embeddings instead of a history written
//! as text ([arXiv 2402.13598](https://arxiv.org/abs/2402.13598)).
//!
//! ```text
//! history ─ user encoder ─ Perceiver ─ projector ─ user embeddings
//!                                                     │ gated cross-attention, or soft prompt
//! prompt ─────────────────────── language model ──────┴─ answer
//! ```
//!
//! This crate holds no code: it gathers the parts, each of which can be imported by itself.
//! `examples/movielens.rs` is the whole pipeline in a page.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use user_llm::llm::LanguageModelConfig;
//! use user_llm::llm_fusion::{Blocks, FusionConfig, FusionKind, UserLlmConfig};
//! use user_llm::user_encoder::{EventBatch, ModalityConfig, UserEncoderConfig};
//!
//! let device = Device::flex();
//! // A language model (load a real one with `llm::load`), and an encoder of films and ratings.
//! let llm = LanguageModelConfig::new(100, 32, 2, 4, 2, 8, 64).init(&device);
//! let encoder = UserEncoderConfig::new(vec![
//!     ModalityConfig::new("item".into(), 52, 16),
//!     ModalityConfig::new("rating".into(), 7, 4),
//! ])
//! .with_d_model(16)
//! .with_n_heads(2)
//! .init(&device);
//!
//! // Cross-attention in every block; `FusionKind::SoftPrompt` is the other way in.
//! let fusion = FusionConfig::new(FusionKind::CrossAttention, Blocks::All);
//! let model = UserLlmConfig::new(fusion).init(llm, encoder);
//!
//! // A person who watched film 5 and gave it rating 6, then film 9 with rating 3.
//! let item = Tensor::<3, Int>::from_data([[[5], [9]]], &device);
//! let rating = Tensor::<3, Int>::from_data([[[6], [3]]], &device);
//! let user = model.read_user(&EventBatch::new(vec![item, rating], vec![2]));
//!
//! let prompt = Tensor::<2, Int>::from_data([[1, 2, 3]], &device);
//! let plain = model.llm.forward(prompt.clone(), None);
//! let fused = model.forward(prompt, None, Some(&user));
//! // The gates are closed at first: the language model is untouched until training opens them.
//! fused.into_data().assert_eq(&plain.into_data(), true);
//! ```

pub use datasets;
pub use llm;
pub use llm_fusion;
pub use perceiver;
pub use text_encoder;
pub use trainer;
pub use user_encoder;

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
