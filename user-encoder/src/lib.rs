//! The user encoder of User-LLM: a person's history of events, turned into one embedding per event.
//!
//! Every event has several *modalities* (item, rating, genres, …), each with its own vocabulary and
//! table, or with vectors that are given, such as those of titles by a text encoder. Their
//! embeddings are concatenated and projected to one vector per event, a causal transformer reads
//! the vectors in time order, and its pretraining needs no labels: every position predicts every
//! modality of the next event.
//!
//! Read in this order: [`EventBatch`] (what goes in), [`EventEmbedding`] (one vector per event),
//! [`UserEncoder`] (the transformer), [`UserEncoder::next_event_loss`] (the objective). The same
//! transformer is BERT4Rec's under [`AttentionKind::Bidirectional`]; the paper's other encoder is
//! [`DualEncoder`], and [`HistoryEncoder`] is either, for a language model.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use user_encoder::{EventBatch, ModalityConfig, UserEncoderConfig};
//!
//! let device = Device::flex();
//! let modalities = vec![
//!     ModalityConfig::new("item".into(), 102, 32), // ids 0 = padding, 1 = unknown, then 100 items
//!     ModalityConfig::new("rating".into(), 7, 8),
//! ];
//! let encoder = UserEncoderConfig::new(modalities).with_d_model(32).with_n_heads(4).init(&device);
//!
//! // One user with two events: item 5 rated 6, then item 9 rated 3.
//! let item = Tensor::<3, Int>::from_data([[[5], [9]]], &device);
//! let rating = Tensor::<3, Int>::from_data([[[6], [3]]], &device);
//! let events = EventBatch::new(vec![item, rating], vec![2]);
//!
//! assert_eq!(encoder.event_embeddings(&events).dims(), [1, 2, 32]);
//! assert_eq!(encoder.next_event_logits(&events, 0).dims(), [1, 102]); // modality 0: items
//! ```
//!
//! `examples/library/own-data` is a project of its own that trains one on its own data.

mod attention;
mod batch;
mod block;
mod dual;
mod embedding;
mod encoder;
mod history;
mod item_rows;
mod noise;
mod objective;
mod rows;
mod sampler;
mod softmax;

pub use attention::AttentionKind;
pub use batch::{EventBatch, PADDING, PackedEvents, UNKNOWN};
pub use block::{EncoderBlock, FeedForward, FeedForwardKind, Norm, NormKind};
pub use dual::{DualEncoder, DualEncoderConfig};
pub use embedding::{EventEmbedding, FrozenModality, Modality, ModalityConfig};
pub use encoder::{EncoderState, Positions, Similarity, UserEncoder, UserEncoderConfig};
pub use history::HistoryEncoder;
pub use item_rows::ItemRows;
pub use noise::{Dropout, seed_dropout};
pub use objective::{Draws, EncoderTask, ItemLoss, NextEventLoss, NextEventObjective};
pub use sampler::NegativeSampler;
pub use softmax::softmax_cross_entropy;

/// Where what is no parameter is made: autodiff keeps track even of what follows from constants
/// alone, and burn 0.22.1 forgets it only bit by bit.
pub(crate) fn constant(device: &burn::tensor::Device) -> burn::tensor::Device {
    device.clone().without_autodiff()
}
