//! Where negatives come from.

use crate::batch::UNKNOWN;
use crate::noise::uniform;

/// Draws items as negatives, by a probability that is known.
#[derive(Clone, Debug)]
pub struct NegativeSampler {
    /// Probabilities summed up, from the first item's id on.
    cumulative: Vec<f64>,
}

/// Ids below are padding and unknown.
const FIRST_ITEM: u32 = UNKNOWN + 1;

impl NegativeSampler {
    /// All items of a vocabulary alike.
    pub fn uniform(vocab_size: usize) -> Self {
        Self::weighted(std::iter::repeat_n(1.0, vocab_size - FIRST_ITEM as usize))
    }

    /// In proportion to `count^power`, one count per item: 1 draws as the data does, 0 evenly.
    /// An item that was never seen counts as seen once.
    pub fn by_popularity(counts: &[usize], power: f64) -> Self {
        Self::weighted(counts.iter().map(|&n| (n.max(1) as f64).powf(power)))
    }

    fn weighted(weights: impl Iterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        for upto in &mut cumulative {
            *upto /= sum;
        }
        Self { cumulative }
    }

    /// Ids of `n` items, drawn with replacement from this thread's noise
    /// ([`seed_dropout`](crate::seed_dropout)).
    pub fn draw(&self, n: usize) -> Vec<u32> {
        let last = self.cumulative.len() - 1;
        uniform(n)
            .into_iter()
            .map(|at| {
                self.cumulative
                    .partition_point(|&upto| upto <= at)
                    .min(last)
            })
            .map(|item| item as u32 + FIRST_ITEM)
            .collect()
    }

    /// Logarithm of how often each of these ids is expected among as many draws as they are.
    pub(crate) fn log_expected(&self, ids: &[u32]) -> Vec<f32> {
        let n = ids.len();
        let expected = |&id: &u32| (n as f64 * self.probability(id)).ln() as f32;
        ids.iter().map(expected).collect()
    }

    /// Number of items.
    pub(crate) fn n_items(&self) -> usize {
        self.cumulative.len()
    }

    /// Probability of an id in one draw.
    pub fn probability(&self, id: u32) -> f64 {
        let Some(item) = id.checked_sub(FIRST_ITEM) else {
            // Padding and unknown are never drawn; as targets they count as the rarest.
            return 1.0 / self.cumulative.len() as f64;
        };
        let item = item as usize;
        let before = if item == 0 {
            0.0
        } else {
            self.cumulative[item - 1]
        };
        self.cumulative[item] - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_drawn_as_often_as_their_probability_says() {
        crate::seed_dropout(3);
        let sampler = NegativeSampler::by_popularity(&[9, 0, 4, 16], 0.5);
        let drawn = sampler.draw(100_000);
        for (item, expected) in [0.3, 0.1, 0.2, 0.4].into_iter().enumerate() {
            let id = item as u32 + FIRST_ITEM;
            let share = drawn.iter().filter(|&&at| at == id).count() as f64 / 100_000.0;
            assert!((share - expected).abs() < 0.01, "{item}: {share}");
            assert!((sampler.probability(id) - expected).abs() < 1e-9);
        }
    }
}
