//! What the encoder reads.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, assert_shape};

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
    /// Frozen vectors of events, `[rows, d_frozen]` for each modality whose vectors are too many for
    /// the encoder to have them all: its ids are rows of these, of which that of padding is zeros.
    pub vectors: Vec<Tensor<2>>,
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
            vectors: Vec::new(),
            lengths,
        }
    }

    /// Add the vectors that come with the events, in the order of their modalities.
    pub fn with_vectors(mut self, vectors: Vec<Tensor<2>>) -> Self {
        self.vectors = vectors;
        self
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

    /// Some of its rows, as long as the longest history among them.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let lengths = self.lengths[rows.clone()].to_vec();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // A tensor has at least one position, if only of padding.
        let longest = longest.max(1).min(self.length());
        let modalities = self.modalities.iter();
        Self {
            modalities: modalities
                .map(|ids| ids.clone().slice([rows.clone(), 0..longest]))
                .collect(),
            vectors: self.vectors.clone(),
            lengths,
        }
    }
}

/// Histories laid end to end in rows of one length, so that hardly any position is padding.
///
/// For pretraining alone: what stands in one row is kept apart by attention and positions, and the
/// losses are those of an [`EventBatch`] of the same histories.
#[derive(Clone, Debug)]
pub struct PackedEvents {
    /// Ids per modality, `[rows, length, values]` each, in the order of the encoder's modalities.
    pub modalities: Vec<Tensor<3, Int>>,
    /// As [`EventBatch::vectors`].
    pub vectors: Vec<Tensor<2>>,
    /// Lengths of the histories of each row, in their order; what remains is padding.
    pub rows: Vec<Vec<usize>>,
    /// Part of the batch that these are, by modality, counted in events that have it: losses are
    /// weighted by it, so that those of all parts add up to the batch's. 1 for a whole batch.
    pub shares: Vec<f64>,
}

impl PackedEvents {
    /// Which histories share a row: `length` is the row's, and no history may be longer.
    ///
    /// Each history goes to the first row that has room for it, the longest first, which leaves
    /// a few per cent of padding. Empty histories are left out.
    ///
    /// ```
    /// use user_encoder::PackedEvents;
    ///
    /// assert_eq!(PackedEvents::plan(&[2, 7, 4, 3], 7), [vec![1], vec![2, 3], vec![0]]);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if a history is longer than the row.
    pub fn plan(lengths: &[usize], length: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..lengths.len()).filter(|&at| lengths[at] > 0).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(lengths[at]));
        let mut rows: Vec<(usize, Vec<usize>)> = Vec::new();
        for at in order {
            assert!(
                lengths[at] <= length,
                "a history of {} events does not fit a row of {length}",
                lengths[at]
            );
            match rows.iter_mut().find(|(room, _)| *room >= lengths[at]) {
                Some((room, row)) => {
                    *room -= lengths[at];
                    row.push(at);
                }
                None => rows.push((length - lengths[at], vec![at])),
            }
        }
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Number of events.
    pub fn n_events(&self) -> usize {
        self.rows.iter().flatten().sum()
    }

    /// Positions of each row, padding included.
    pub fn length(&self) -> usize {
        self.modalities[0].dims()[1]
    }

    /// The device the ids are on.
    pub fn device(&self) -> Device {
        self.modalities[0].device()
    }

    /// Number of each position within its history, row by row; padding counts on.
    pub(crate) fn positions(&self) -> Vec<usize> {
        let length = self.length();
        let mut positions = Vec::with_capacity(self.rows.len() * length);
        for row in &self.rows {
            let end = positions.len() + length;
            for &n in row {
                positions.extend(0..n);
            }
            let next = row.last().copied().unwrap_or(0);
            let n_padding = end - positions.len();
            positions.extend(next..next + n_padding);
        }
        positions
    }

    /// Where real events stand in the flattened rows; `None` if there is no padding.
    pub(crate) fn real(&self) -> Option<Vec<usize>> {
        let length = self.length();
        if self.n_events() == self.rows.len() * length {
            return None;
        }
        let rows = self.rows.iter().enumerate();
        Some(
            rows.flat_map(|(at, row)| at * length..at * length + row.iter().sum::<usize>())
                .collect(),
        )
    }
}

impl From<EventBatch> for PackedEvents {
    fn from(events: EventBatch) -> Self {
        Self {
            shares: vec![1.0; events.modalities.len()],
            modalities: events.modalities,
            vectors: events.vectors,
            rows: events.lengths.into_iter().map(|n| vec![n]).collect(),
        }
    }
}
