//! One vector per event, from the embeddings of its modalities ("early fusion" in the paper).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use crate::batch::{EventBatch, PADDING};

/// One modality of an event: its name, vocabulary size and embedding width.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModalityConfig {
    /// What it is: `item`, `rating`, `genres`, …
    pub name: String,
    /// Number of ids, [`PADDING`] and [`UNKNOWN`](crate::UNKNOWN) included.
    pub vocab_size: usize,
    /// Width of its embedding, `d_j` in the paper.
    pub d_embedding: usize,
    /// Weight of its prediction in the loss; the paper has 1 for all. 0 makes it an input only.
    pub weight: f64,
    /// Width of vectors that its values have already, a text encoder's: they are read and do not
    /// train. Without, its values have a table that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_frozen: Option<usize>,
}

impl Config for ModalityConfig {}

impl ModalityConfig {
    /// A modality whose table trains, and whose prediction has weight 1.
    pub fn new(name: String, vocab_size: usize, d_embedding: usize) -> Self {
        Self {
            name,
            vocab_size,
            d_embedding,
            weight: 1.0,
            d_frozen: None,
        }
    }

    /// Set the weight of its prediction.
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Set the width of vectors that its values have already; they are not predicted.
    pub fn with_frozen(mut self, d_frozen: usize) -> Self {
        (self.d_frozen, self.weight) = (Some(d_frozen), 0.0);
        self
    }

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

/// A modality whose values have vectors already, which are no parameters: they do not train, no
/// optimizer keeps anything for them, and no checkpoint holds them. Their projection trains.
#[derive(Module, Debug)]
pub struct FrozenModality {
    /// `[vocab_size, d_frozen]`; none where they come with the events.
    vectors: Option<Tensor<2>>,
    projection: Linear,
}

impl FrozenModality {
    /// Embed ids, one value per event, which are rows of these vectors.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, length, 1]`
    /// - vectors: `[_, d_frozen]`
    /// - output: `[batch, length, d_embedding]`
    fn forward(&self, ids: Tensor<3, Int>, vectors: Tensor<2>) -> Tensor<3> {
        assert_shape!(ids, [_, _, 1]);
        let [batch, length, _] = ids.dims();
        // Without autodiff: nothing is to be learned of them.
        let rows = vectors
            .inner()
            .select(0, ids.inner().reshape([batch * length]));
        let [_, d_frozen] = rows.dims();
        self.projection
            .forward(rows.reshape([batch, length, d_frozen]))
    }
}

/// Concatenates the embeddings of all modalities and projects them to one vector per event.
#[derive(Module, Debug)]
pub struct EventEmbedding {
    /// One table per modality that has one.
    pub modalities: Vec<Modality>,
    projection: Linear,
    /// The modalities behind those, whose vectors are given.
    pub frozen: Vec<FrozenModality>,
}

impl EventEmbedding {
    pub(crate) fn new(modalities: &[ModalityConfig], d_model: usize, device: &Device) -> Self {
        let width = modalities.iter().map(|modality| modality.d_embedding).sum();
        let frozen = |modality: &ModalityConfig| {
            let d_frozen = modality.d_frozen?;
            assert!(
                d_frozen > 0,
                "the vectors of `{}` have not been computed yet",
                modality.name
            );
            Some(FrozenModality {
                vectors: None,
                projection: LinearConfig::new(d_frozen, modality.d_embedding).init(device),
            })
        };
        Self {
            modalities: trained(modalities)
                .iter()
                .map(|modality| modality.init(device))
                .collect(),
            projection: LinearConfig::new(width, d_model).init(device),
            frozen: modalities.iter().filter_map(frozen).collect(),
        }
    }

    /// Give the vectors of the frozen modalities, in their order; none for one whose vectors come
    /// [with the events](EventBatch::vectors).
    ///
    /// # Shapes
    ///
    /// - vectors: `[vocab_size, d_frozen]` each; more rows are values that training did not know
    ///
    /// # Panics
    ///
    /// Panics if there are not as many of them, or of another width.
    pub fn set_vectors(&mut self, vectors: Vec<Option<Tensor<2>>>) {
        assert_eq!(
            vectors.len(),
            self.frozen.len(),
            "vectors are not as many as frozen modalities"
        );
        for (modality, vectors) in self.frozen.iter_mut().zip(vectors) {
            let [d_frozen, _] = modality.projection.weight.dims();
            if let Some(vectors) = &vectors {
                assert_shape!(vectors, [_, d_frozen]);
            }
            modality.vectors = vectors;
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
    /// Panics if the batch has another number of modalities than this module, or if a frozen one
    /// has no vectors: neither [here](Self::set_vectors) nor in the batch.
    pub fn forward(&self, events: &EventBatch) -> Tensor<3> {
        let vector = self.embed(&events.modalities, &events.vectors);
        assert_shape!(vector, [events.batch(), events.length(), _]);
        vector
    }

    /// As [`forward`](Self::forward), from the ids of each modality and the vectors that come with
    /// the events.
    pub(crate) fn embed(&self, ids: &[Tensor<3, Int>], vectors: &[Tensor<2>]) -> Tensor<3> {
        let n_trained = self.modalities.len();
        assert_eq!(
            ids.len(),
            n_trained + self.frozen.len(),
            "the batch and the encoder disagree on the number of modalities"
        );
        let (trained, frozen) = ids.split_at(n_trained);
        let trained = self.modalities.iter().zip(trained);
        let trained = trained.map(|(modality, ids)| modality.forward(ids.clone()));
        let frozen = self.frozen.iter().zip(frozen);
        let mut with_events = vectors.iter();
        let frozen = frozen.map(|(modality, ids)| {
            let vectors = modality.vectors.as_ref().or_else(|| with_events.next());
            let vectors = vectors.expect("a frozen modality has no vectors yet: `set_vectors`");
            modality.forward(ids.clone(), vectors.clone())
        });
        let embedded = trained.chain(frozen).collect();
        self.projection.forward(Tensor::cat(embedded, 2))
    }
}

/// The modalities that have tables of their own, which can be predicted: those before the frozen.
///
/// # Panics
///
/// Panics if there is none, if one stands behind a frozen one, or if a frozen one has a weight.
pub(crate) fn trained(modalities: &[ModalityConfig]) -> &[ModalityConfig] {
    let is_trained = |modality: &ModalityConfig| modality.d_frozen.is_none();
    let n = modalities.iter().filter(|one| is_trained(one)).count();
    let (trained, frozen) = modalities.split_at(n);
    assert!(
        n > 0 && trained.iter().all(is_trained),
        "modalities with frozen vectors stand behind the others, of which there is at least one"
    );
    assert!(
        frozen.iter().all(|modality| modality.weight == 0.0),
        "frozen vectors are read and not predicted: their modality's weight is 0"
    );
    trained
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

    fn with_texts(device: &Device) -> EventEmbedding {
        let modalities = [
            ModalityConfig::new("item".into(), 5, 3),
            ModalityConfig::new("text".into(), 5, 2).with_frozen(4),
        ];
        EventEmbedding::new(&modalities, 6, device)
    }

    fn vectors(device: &Device) -> Tensor<2> {
        Tensor::<1, Int>::arange(0..20, device)
            .float()
            .reshape([5, 4])
    }

    #[test]
    fn frozen_vectors_are_looked_up_and_projected() {
        let device = Device::flex();
        let mut embedding = with_texts(&device);
        let frozen = &mut embedding.frozen[0];
        let weight = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]];
        frozen.projection.weight = Param::from_data(weight, &device);
        frozen.projection.bias = Some(Param::from_data([0.5, 0.0], &device));
        let ids = Tensor::<3, Int>::from_data([[[2], [4]]], &device);
        // Rows 8 9 10 11 and 16 17 18 19.
        frozen
            .forward(ids, vectors(&device))
            .into_data()
            .assert_approx_eq::<f32>(
                &Tensor::<3>::from_data([[[19.5, 9.0], [35.5, 17.0]]], &device).into_data(),
                Tolerance::absolute(1e-6),
            );
    }

    #[test]
    fn frozen_vectors_are_no_parameters_and_change_the_event() {
        let device = Device::flex().autodiff();
        let mut embedding = with_texts(&device);
        // 5 × 3 of the table, (3 + 2) × 6 + 6 and 4 × 2 + 2 of the projections.
        let n_parameters = 15 + 36 + 10;
        assert_eq!(embedding.num_params(), n_parameters);
        embedding.set_vectors(vec![Some(vectors(&Device::flex()))]);
        assert_eq!(embedding.num_params(), n_parameters);

        let ids = Tensor::<3, Int>::from_data([[[2], [3]]], &device);
        let embed = |embedding: &EventEmbedding| embedding.embed(&[ids.clone(), ids.clone()], &[]);
        let before = embed(&embedding);
        let grads = before.clone().sum().backward();
        let weight = embedding.frozen[0].projection.weight.val();
        assert!(
            weight.grad(&grads).is_some(),
            "the projection does not train"
        );

        // What a copy for another thread, and for validation, goes through.
        let copy = embedding.valid().train();
        let close = Tolerance::absolute(1e-6);
        let again = embed(&copy).into_data();
        again.assert_approx_eq::<f32>(&before.to_data(), close);
        embedding.set_vectors(vec![Some(vectors(&Device::flex()) * 2.0)]);
        let moved: f32 = (embed(&embedding) - before).abs().max().into_scalar();
        assert!(moved > 0.1);
    }

    #[test]
    fn vectors_that_come_with_the_events_are_read_like_those_of_a_table() {
        let device = Device::flex();
        let modalities = [
            ModalityConfig::new("item".into(), 5, 3),
            ModalityConfig::new("review".into(), 2, 2).with_frozen(4),
            ModalityConfig::new("title".into(), 5, 2).with_frozen(4),
        ];
        let mut embedding = EventEmbedding::new(&modalities, 6, &device);
        let ids = |ids: [[[i64; 1]; 3]; 1]| Tensor::<3, Int>::from_data(ids, &device);
        let (items, rows) = (ids([[[2], [4], [2]]]), ids([[[1], [0], [2]]]));
        let table = Some(vectors(&device));
        // As if there were a table with row 3 first, and row 1 behind the row of padding.
        let some = vectors(&device).select(0, Tensor::from_data([3, 0, 1], &device));
        embedding.set_vectors(vec![Some(some.clone()), table.clone()]);
        let all = [items.clone(), rows, items];
        let expected = embedding.embed(&all, &[]).into_data();

        embedding.set_vectors(vec![None, table]);
        let read = embedding.embed(&all, &[some]).into_data();
        read.assert_eq(&expected, true);
    }

    #[test]
    #[should_panic(expected = "no vectors yet")]
    fn a_frozen_modality_without_vectors_is_not_read_as_zeros() {
        let device = Device::flex();
        let ids = Tensor::<3, Int>::from_data([[[2]]], &device);
        with_texts(&device).embed(&[ids.clone(), ids], &[]);
    }

    #[test]
    #[should_panic(expected = "behind the others")]
    fn a_table_behind_a_frozen_modality_is_refused() {
        let frozen = ModalityConfig::new("text".into(), 5, 2).with_frozen(4);
        let item = ModalityConfig::new("item".into(), 5, 3);
        EventEmbedding::new(&[frozen, item], 6, &Device::flex());
    }
}
