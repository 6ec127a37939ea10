//! Ranking metrics with one relevant item, their intervals and differences; ROUGE of texts.

mod paired;
mod porter;
mod rouge;

pub use paired::{Paired, sign_flip};
pub use rouge::{Rouge, RougeScore};

use std::cmp::Ordering::Less;

/// 1-based rank of `target` among the scored items, those in `excluded` (each once) left out; the
/// target itself is never left out.
///
/// Ties are counted against the target: an item of equal score stands before it. So a model that
/// scores everything alike, or whose scores are not numbers, gets the last rank, not the first.
///
/// # Panics
///
/// Panics if `target` or an excluded item is not among the scores.
pub fn rank(scores: &[f32], target: usize, excluded: &[usize]) -> usize {
    let own = scores[target];
    let is_before = |score: f32| score.partial_cmp(&own) != Some(Less);
    // The target counts itself.
    let all = scores.iter().filter(|&&score| is_before(score)).count();
    let excluded = excluded
        .iter()
        .filter(|&&item| item != target && is_before(scores[item]));
    all - excluded.count()
}

/// Whether the target is among the first `k`: 1 or 0. `None` is a target that was not ranked.
///
/// With one relevant item per user, recall, hit rate and accuracy@k are the same.
pub fn recall_at(rank: Option<usize>, k: usize) -> f64 {
    f64::from(rank.is_some_and(|rank| rank <= k))
}

/// `1 / log2(1 + rank)` within the first `k`, else 0: NDCG with one relevant item.
pub fn ndcg_at(rank: Option<usize>, k: usize) -> f64 {
    match rank {
        Some(rank) if rank <= k => 1.0 / ((1 + rank) as f64).log2(),
        _ => 0.0,
    }
}

/// `1 / rank`, or 0 without a rank.
pub fn mrr(rank: Option<usize>) -> f64 {
    rank.map_or(0.0, |rank| 1.0 / rank as f64)
}

/// A mean over users with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figure {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Standard normal quantile of 97.5 %.
const Z: f64 = 1.959_963_985;

impl Figure {
    /// Mean of one value per user.
    ///
    /// Zeros and ones get the [Wilson](https://doi.org/10.2307/2276774) score interval, which
    /// holds for small shares; other values the normal interval of their mean.
    ///
    /// # Panics
    ///
    /// Panics if there are no values.
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "a mean over nobody");
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        if values.iter().all(|&value| value == 0.0 || value == 1.0) {
            let denominator = 1.0 + Z * Z / n;
            let centre = (mean + Z * Z / (2.0 * n)) / denominator;
            let half = Z * (mean * (1.0 - mean) / n + Z * Z / (4.0 * n * n)).sqrt() / denominator;
            return Self {
                mean,
                low: (centre - half).max(0.0),
                high: (centre + half).min(1.0),
            };
        }
        let variance = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / (n - 1.0).max(1.0);
        let half = Z * (variance / n).sqrt();
        // Every metric here is within 0 and 1.
        Self {
            mean,
            low: (mean - half).max(0.0),
            high: (mean + half).min(1.0),
        }
    }

    /// Whether this interval lies above another one.
    pub fn is_above(&self, other: &Self) -> bool {
        self.low > other.high
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.mean, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_counts_better_items_and_ties_but_not_excluded_ones() {
        let scores = [0.9, 0.5, 0.7, 0.5, 0.1];
        assert_eq!(rank(&scores, 1, &[]), 4);
        assert_eq!(rank(&scores, 1, &[0, 3]), 2);
        assert_eq!(rank(&scores, 0, &[0]), 1);
        assert_eq!(rank(&scores, 4, &[0, 2, 4]), 3);
    }

    #[test]
    fn scores_that_are_no_numbers_never_help() {
        let nan = f32::NAN;
        assert_eq!(rank(&[nan, nan, nan], 1, &[]), 3);
        assert_eq!(rank(&[0.1, nan, 0.2], 1, &[]), 3);
        assert_eq!(rank(&[0.1, 0.5, nan], 1, &[]), 2);
    }

    #[test]
    fn figures_at_the_ends_stay_within_0_and_1_and_are_not_certain() {
        let zeros = Figure::of(&[0.0; 7]);
        // Wilson at a share of 0: from 0 to z² / (n + z²).
        assert_eq!((zeros.mean, zeros.low), (0.0, 0.0));
        assert!((zeros.high - Z * Z / (7.0 + Z * Z)).abs() < 1e-12);
        let ones = Figure::of(&[1.0; 7]);
        assert_eq!((ones.mean, ones.high), (1.0, 1.0));
        assert!((ones.low - 7.0 / (7.0 + Z * Z)).abs() < 1e-12);
        assert!(ones.is_above(&zeros) && !zeros.is_above(&ones) && !ones.is_above(&ones));
    }

    #[test]
    fn a_figure_of_one_user_is_finite() {
        let one = Figure::of(&[1.0]);
        assert_eq!((one.mean, one.high), (1.0, 1.0));
        assert!((one.low - 1.0 / (1.0 + Z * Z)).abs() < 1e-12);
        let half = Figure::of(&[0.5]);
        assert_eq!((half.mean, half.low, half.high), (0.5, 0.5, 0.5));
        assert_eq!(half.to_string(), "0.500 [0.500, 0.500]");
    }

    #[test]
    #[should_panic(expected = "a mean over nobody")]
    fn a_figure_of_nobody_is_refused() {
        Figure::of(&[]);
    }

    #[test]
    fn metrics_of_a_rank_are_what_the_formulas_say() {
        assert_eq!(recall_at(Some(5), 5), 1.0);
        assert_eq!(recall_at(Some(6), 5), 0.0);
        assert_eq!(recall_at(None, 5), 0.0);
        assert_eq!(ndcg_at(Some(1), 10), 1.0);
        assert_eq!(ndcg_at(Some(3), 10), 0.5); // 1 / log2(4)
        assert_eq!(ndcg_at(Some(11), 10), 0.0);
        assert_eq!(mrr(Some(4)), 0.25);
        assert_eq!(mrr(None), 0.0);
    }

    #[test]
    fn the_interval_of_a_share_is_wilson_s() {
        // 10 of 100: (0.0552, 0.1744), a textbook value.
        let values: Vec<f64> = (0..100).map(|i| f64::from(i < 10)).collect();
        let figure = Figure::of(&values);
        assert!((figure.low - 0.0552).abs() < 1e-4 && (figure.high - 0.1744).abs() < 1e-4);
    }

    #[test]
    fn the_interval_of_other_values_is_normal() {
        let figure = Figure::of(&[0.0, 0.5, 1.0, 0.5]);
        let half = Z * (0.5_f64 / 3.0 / 4.0).sqrt();
        assert!((figure.mean - 0.5).abs() < 1e-12);
        assert!((figure.high - (0.5 + half)).abs() < 1e-12);
    }
}
