//! What the encoder reads.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData, assert_shape};

/// The id of a value that is not there.
pub const PADDING: u32 = 0;
/// The id of a value that the vocabulary does not have.
pub const UNKNOWN: u32 = 1;

/// A batch of histories, padded on the right to one length.
///
/// Every modality is a `[batch, length, values]` tensor of ids: `values` is 1 for an item or a
/// rating and as many as it takes for genres, filled up with [`PADDING`].
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// Ids per modality, in the order of the encoder's modalities.
    pub modalities: Vec<Tensor<3, Int>>,
    /// Number of real events of each row; the rest of the row is padding.
    pub lengths: Vec<usize>,
}

impl EventBatch {
    /// Gather modalities and lengths.
    ///
    /// # Panics
    ///
    /// Panics if there is no modality, if their shapes disagree, or if a length exceeds the row.
    pub fn new(modalities: Vec<Tensor<3, Int>>, lengths: Vec<usize>) -> Self {
        assert!(
            !modalities.is_empty(),
            "an event needs at least one modality"
        );
        let [batch, length, _] = modalities[0].dims();
        for modality in &modalities {
            assert_shape!(modality, [batch, length, _]);
        }
        assert_eq!(lengths.len(), batch, "one length per row");
        assert!(
            lengths.iter().all(|&n| n <= length),
            "a row has more events than the {length} positions of the batch"
        );
        Self {
            modalities,
            lengths,
        }
    }

    /// Number of histories.
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }

    /// Number of positions, padding included.
    pub fn length(&self) -> usize {
        self.modalities[0].dims()[1]
    }

    /// The device the ids are on.
    pub fn device(&self) -> Device {
        self.modalities[0].device()
    }

    /// The same histories without the last position of the batch.
    pub(crate) fn without_last(&self) -> Self {
        let (batch, length) = (self.batch(), self.length() - 1);
        let modalities = self
            .modalities
            .iter()
            .map(|ids| ids.clone().slice([0..batch, 0..length, 0..ids.dims()[2]]))
            .collect();
        let lengths = self.lengths.iter().map(|&n| n.min(length)).collect();
        Self {
            modalities,
            lengths,
        }
    }

    /// `[batch, length]`, `true` at padding; `None` if no row has any.
    pub fn mask_pad(&self) -> Option<Tensor<2, Bool>> {
        let length = self.length();
        if self.lengths.iter().all(|&n| n == length) {
            return None;
        }
        let mask: Vec<bool> = self
            .lengths
            .iter()
            .flat_map(|&n| (0..length).map(move |position| position >= n))
            .collect();
        Some(Tensor::from_data(
            TensorData::new(mask, [self.batch(), length]),
            &self.device(),
        ))
    }
}
