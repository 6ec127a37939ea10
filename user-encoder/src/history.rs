//! What reads a history for a language model: either of the paper's encoders.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::batch::EventBatch;
use crate::dual::DualEncoder;
use crate::embedding::Modality;
use crate::encoder::UserEncoder;

/// An encoder of histories, whichever it is.
#[derive(Module, Debug)]
pub enum HistoryEncoder {
    /// The autoregressive one: an embedding per event.
    NextEvent(UserEncoder),
    /// The dual one: a few embeddings per history.
    Dual(DualEncoder),
}

impl HistoryEncoder {
    /// Embeddings of each history and how many of them are real; the rest is padding, behind them.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, n, d_model]`, `n` events of the longest history, or the dual encoder's
    ///   `n_embeddings`
    ///
    /// # Panics
    ///
    /// Panics if the batch is longer than `max_length`.
    pub fn embeddings(&self, events: &EventBatch) -> (Tensor<3>, Vec<usize>) {
        match self {
            Self::NextEvent(encoder) => (encoder.event_embeddings(events), events.lengths.clone()),
            Self::Dual(encoder) => {
                let embeddings = encoder.user_embeddings(events);
                let [batch, n, _] = embeddings.dims();
                (embeddings, vec![n; batch])
            }
        }
    }

    /// Width of the embeddings.
    pub fn d_model(&self) -> usize {
        match self {
            Self::NextEvent(encoder) => encoder.d_model(),
            Self::Dual(encoder) => encoder.d_model(),
        }
    }

    /// A modality's table, by its place in the config.
    pub fn modality_mut(&mut self, modality: usize) -> &mut Modality {
        match self {
            Self::NextEvent(encoder) => &mut encoder.embedding.modalities[modality],
            Self::Dual(encoder) => &mut encoder.modalities[modality],
        }
    }

    /// The same without dropout, for whoever learns to read it.
    pub fn without_dropout(self) -> Self {
        match self {
            Self::NextEvent(encoder) => Self::NextEvent(encoder.without_dropout()),
            Self::Dual(encoder) => Self::Dual(encoder.without_dropout()),
        }
    }
}

impl From<UserEncoder> for HistoryEncoder {
    fn from(encoder: UserEncoder) -> Self {
        Self::NextEvent(encoder)
    }
}

impl From<DualEncoder> for HistoryEncoder {
    fn from(encoder: DualEncoder) -> Self {
        Self::Dual(encoder)
    }
}
