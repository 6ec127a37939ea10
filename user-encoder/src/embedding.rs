//! One vector per event, from the embeddings of its modalities ("early fusion" in the paper).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, assert_shape};

use crate::batch::{EventBatch, PADDING};

/// One modality of an event: its name, vocabulary size and embedding width.
#[derive(Config, Debug)]
pub struct ModalityConfig {
    /// What it is: `item`, `rating`, `genres`, …
    pub name: String,
    /// Number of ids, [`PADDING`] and [`UNKNOWN`](crate::UNKNOWN) included.
    pub vocab_size: usize,
    /// Width of its embedding, `d_j` in the paper.
    pub d_embedding: usize,
    /// Weight of its prediction in the loss; the paper has 1 for all. 0 makes it an input only.
    #[config(default = 1.0)]
    pub weight: f64,
}

impl ModalityConfig {
    /// Create the modality's table on a device.
    pub fn init(&self, device: &Device) -> Modality {
        Modality {
            table: EmbeddingConfig::new(self.vocab_size, self.d_embedding)
                // Small, because the same table is the output layer: logits start near zero.
                .with_initializer(Initializer::Normal {
                    mean: 0.0,
                    std: 0.02,
                })
                .init(device),
        }
    }
}

/// The table of one modality.
#[derive(Module, Debug)]
pub struct Modality {
    /// `[vocab_size, d_embedding]`; row 0 is padding.
    pub table: Embedding,
}

impl Modality {
    /// Add rows behind the table's, for values that were unknown when it was trained.
    ///
    /// # Shapes
    ///
    /// - rows: `[values, d_embedding]`
    pub fn append(&mut self, rows: Tensor<2>) {
        let table = Tensor::cat(vec![self.table.weight.val(), rows], 0);
        self.table.weight = Param::from_tensor(table);
    }

    /// Embed ids; several values of one event are averaged, and padding does not count.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, length, values]`
    /// - output: `[batch, length, d_embedding]`
    pub fn forward(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let [batch, length, values] = ids.dims();
        let [_, d_embedding] = self.table.weight.dims();
        let embedded = self
            .table
            .forward(ids.clone().reshape([batch, length * values]));
        if values == 1 {
            return embedded;
        }
        let real = ids.inner().not_equal_scalar(PADDING).float();
        let real = real.unsqueeze_dim::<4>(3);
        let count = real.clone().sum_dim(2).clamp_min(1.0);
        let sum = (embedded.reshape([batch, length, values, d_embedding]) * real).sum_dim(2);
        (sum / count).squeeze_dim::<3>(2)
    }
}

/// Concatenates the embeddings of all modalities and projects them to one vector per event.
#[derive(Module, Debug)]
pub struct EventEmbedding {
    /// One table per modality.
    pub modalities: Vec<Modality>,
    projection: Linear,
}

impl EventEmbedding {
    pub(crate) fn new(modalities: &[ModalityConfig], d_model: usize, device: &Device) -> Self {
        let width = modalities.iter().map(|modality| modality.d_embedding).sum();
        Self {
            modalities: modalities
                .iter()
                .map(|modality| modality.init(device))
                .collect(),
            projection: LinearConfig::new(width, d_model).init(device),
        }
    }

    /// The device of the tables.
    pub(crate) fn device(&self) -> Device {
        self.projection.weight.device()
    }

    /// Width of an event's vector.
    pub(crate) fn d_model(&self) -> usize {
        self.projection.weight.dims()[1]
    }

    /// One vector per event.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, length, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the batch has another number of modalities than this module.
    pub fn forward(&self, events: &EventBatch) -> Tensor<3> {
        let vector = self.embed(&events.modalities);
        assert_shape!(vector, [events.batch(), events.length(), _]);
        vector
    }

    /// As [`forward`](Self::forward), from the ids of each modality alone.
    pub(crate) fn embed(&self, ids: &[Tensor<3, Int>]) -> Tensor<3> {
        assert_eq!(
            ids.len(),
            self.modalities.len(),
            "the batch and the encoder disagree on the number of modalities"
        );
        let modalities = self.modalities.iter().zip(ids);
        let embedded = modalities.map(|(modality, ids)| modality.forward(ids.clone()));
        self.projection.forward(Tensor::cat(embedded.collect(), 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    #[test]
    fn several_values_are_averaged_without_their_padding() {
        let device = Device::flex();
        let mut modality = ModalityConfig::new("genres".into(), 5, 1).init(&device);
        modality.table.weight = Param::from_data([[100.0], [7.0], [2.0], [4.0], [8.0]], &device);
        let ids = Tensor::<3, Int>::from_data([[[2, 4, 0], [3, 0, 0], [0, 0, 0]]], &device);
        modality.forward(ids).into_data().assert_approx_eq::<f32>(
            &Tensor::<3>::from_data([[[5.0], [4.0], [0.0]]], &device).into_data(),
            Tolerance::absolute(1e-6),
        );
    }
}
