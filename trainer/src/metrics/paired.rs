//! Two contenders on the same people: how far apart, and whether it could be chance.

use serde::{Deserialize, Serialize};

use super::Z;

/// The difference of two contenders over the same people.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Mean difference; above 0 where the second is better.
    pub difference: f64,
    /// Lower end of its 95 % interval over people, normal.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// Two-sided, of [`sign_flip`].
    pub p: f64,
    /// People that were compared.
    pub people: usize,
}

impl Paired {
    /// Compare hits of the first and of the second contender, each person's over all questions that
    /// both were asked about them (one a seed); `questions` of all people together. People stay
    /// whole, however many questions are about them.
    ///
    /// # Panics
    ///
    /// Panics if there is nobody, or no question.
    pub fn of(hits: &[(u32, u32)], questions: usize) -> Self {
        assert!(!hits.is_empty() && questions > 0, "a comparison of nothing");
        let differences: Vec<i64> = hits
            .iter()
            .map(|&(first, second)| i64::from(second) - i64::from(first))
            .collect();
        let n = hits.len() as f64;
        let mean = differences.iter().sum::<i64>() as f64 / n;
        let squares = differences.iter().map(|&d| (d as f64 - mean).powi(2));
        let variance = squares.sum::<f64>() / (n - 1.0).max(1.0);
        let half = Z * (variance / n).sqrt();
        let per_person = questions as f64 / n;
        Self {
            difference: mean / per_person,
            low: (mean - half) / per_person,
            high: (mean + half) / per_person,
            p: sign_flip(&differences),
            people: hits.len(),
        }
    }
}

/// Two-sided p-value of differences whose signs mean nothing: the share of all ways to set the
/// signs that give a sum at least as far from 0.
///
/// Exact. Of hits and misses in one question each it is
/// [McNemar](https://doi.org/10.1007/BF02295996)'s exact test.
pub fn sign_flip(differences: &[i64]) -> f64 {
    let sizes: Vec<usize> = differences
        .iter()
        .map(|d| d.unsigned_abs() as usize)
        .filter(|&size| size > 0)
        .collect();
    let total: usize = sizes.iter().sum();
    // chance[k]: that the differences with a positive sign add up to k.
    let mut chance = vec![0.0; total + 1];
    chance[0] = 1.0;
    let mut most = 0;
    for size in sizes {
        most += size;
        for sum in (0..=most).rev() {
            let with = sum.checked_sub(size).map_or(0.0, |rest| chance[rest]);
            chance[sum] = (chance[sum] + with) / 2.0;
        }
    }
    let found = differences.iter().sum::<i64>().unsigned_abs() as usize;
    let is_as_far = |positive: usize| (2 * positive).abs_diff(total) >= found;
    let far = chance.iter().enumerate().filter(|(sum, _)| is_as_far(*sum));
    far.map(|(_, chance)| chance).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_is_mcnemar_s_exact_test() {
        // Five people gained, nobody lost: both ways of 2^5.
        assert_eq!(sign_flip(&[1, 1, 1, 1, 1, 0, 0]), 2.0 / 32.0);
        // 8 against 2: twice (1 + 10 + 45) of 2^10.
        let differences = [[1_i64; 8].as_slice(), &[-1; 2]].concat();
        assert!((sign_flip(&differences) - 112.0 / 1024.0).abs() < 1e-15);
        assert_eq!(sign_flip(&[1, -1]), 1.0);
        assert_eq!(sign_flip(&[0, 0]), 1.0);
    }

    #[test]
    fn several_questions_are_flipped_person_by_person() {
        // ±2 ±1 ±1: six of the eight sums are at least 2 away from 0.
        assert_eq!(sign_flip(&[2, 1, -1]), 0.75);
        assert_eq!(sign_flip(&[-2, -1, 1]), 0.75);
        // All of one sign: 2 of 8.
        assert_eq!(sign_flip(&[2, 1, 1]), 0.25);
    }

    #[test]
    fn many_people_neither_overflow_nor_vanish() {
        let even: Vec<i64> = (0..4000)
            .map(|at| if at % 2 == 0 { 1 } else { -1 })
            .collect();
        assert!(sign_flip(&even) > 0.99);
        let far = sign_flip(&vec![1; 3000]);
        assert!((0.0..1e-200).contains(&far), "{far}");
    }

    #[test]
    fn the_difference_is_a_share_of_the_questions_with_its_interval() {
        // Two questions each: +2, +1, 0, -1; mean 0.5, variance 5/3.
        let paired = Paired::of(&[(0, 2), (0, 1), (1, 1), (2, 1)], 8);
        assert_eq!((paired.difference, paired.people), (0.25, 4));
        let half = Z * (5.0_f64 / 3.0 / 4.0).sqrt() / 2.0;
        assert!((paired.high - (0.25 + half)).abs() < 1e-12);
        assert!((paired.low - (0.25 - half)).abs() < 1e-12);
        assert_eq!(paired.p, 0.75);
        // Where the third and the fourth were asked once, six questions: two more hits.
        let paired = Paired::of(&[(0, 2), (0, 1), (1, 1), (1, 0)], 6);
        assert!((paired.difference - 2.0 / 6.0).abs() < 1e-12);
    }
}
