//! ROUGE as Google's Python package `rouge-score` computes it, to the same figures.

use std::collections::{BTreeSet, HashMap};

use super::porter::stem;

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RougeScore {
    /// Share of the prediction that is in the target.
    pub precision: f64,
    /// Share of the target that is in the prediction.
    pub recall: f64,
    /// Harmonic mean of both, which papers report.
    pub f1: f64,
}

/// How much a prediction has in common with a target
/// ([Lin, 2004](https://aclanthology.org/W04-1013)).
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rouge {
    /// Words.
    pub rouge_1: RougeScore,
    /// Pairs of words that stand together.
    pub rouge_2: RougeScore,
    /// The longest common subsequence of both texts.
    pub rouge_l: RougeScore,
    /// The same by lines: what any line of the prediction has in common with each of the target's.
    pub rouge_lsum: RougeScore,
}

impl Rouge {
    /// Compare a prediction with its target, the text that a person wrote.
    ///
    /// Words are runs of a to z and 0 to 9, in lower case; all else divides them, so that this is
    /// for English. With `use_stemmer`, words of more than three letters are stemmed first
    /// (`rouge-score`'s option of that name; published figures differ in it).
    ///
    /// ```
    /// use trainer::metrics::Rouge;
    ///
    /// let rouge = Rouge::new("The strings broke twice.", "The string broke.", true);
    /// assert_eq!((rouge.rouge_1.precision, rouge.rouge_1.recall), (1.0, 0.75));
    /// ```
    pub fn new(target: &str, prediction: &str, use_stemmer: bool) -> Self {
        let lines = |text: &str| -> Vec<Vec<String>> {
            let lines = text.split('\n').filter(|line| !line.is_empty());
            lines.map(|line| words(line, use_stemmer)).collect()
        };
        let (target_lines, prediction_lines) = (lines(target), lines(prediction));
        let (target, prediction) = (target_lines.concat(), prediction_lines.concat());
        Self {
            rouge_1: in_common::<1>(&target, &prediction),
            rouge_2: in_common::<2>(&target, &prediction),
            rouge_l: RougeScore::new(
                common_subsequence(&target, &prediction).len(),
                target.len(),
                prediction.len(),
            ),
            rouge_lsum: by_lines(&target_lines, &prediction_lines),
        }
    }
}

impl RougeScore {
    fn new(n_common: usize, n_target: usize, n_prediction: usize) -> Self {
        let share = |n: usize| n_common as f64 / n.max(1) as f64;
        let (precision, recall) = (share(n_prediction), share(n_target));
        let f1 = match precision + recall > 0.0 {
            true => 2.0 * precision * recall / (precision + recall),
            false => 0.0,
        };
        Self {
            precision,
            recall,
            f1,
        }
    }
}

fn words(text: &str, use_stemmer: bool) -> Vec<String> {
    let text = text.to_lowercase();
    let is_divider = |c: char| !matches!(c, 'a'..='z' | '0'..='9');
    let words = text.split(is_divider).filter(|word| !word.is_empty());
    words
        .map(|word| match use_stemmer && word.len() > 3 {
            true => stem(word),
            false => word.to_string(),
        })
        .collect()
}

/// Runs of `N` words that both have, as often as both have them.
fn in_common<const N: usize>(target: &[String], prediction: &[String]) -> RougeScore {
    let (target, prediction) = (counts(target.windows(N)), counts(prediction.windows(N)));
    let shared = |(run, n): (&&[String], &usize)| *n.min(prediction.get(run).unwrap_or(&0));
    let n_common = target.iter().map(shared).sum();
    RougeScore::new(n_common, target.values().sum(), prediction.values().sum())
}

fn counts<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}

/// Each word of a target's line that is in the longest common subsequence of it and any line of the
/// prediction; no word oftener than the prediction has it.
fn by_lines(target: &[Vec<String>], prediction: &[Vec<String>]) -> RougeScore {
    let n_words = |lines: &[Vec<String>]| lines.iter().map(Vec::len).sum();
    let mut left = counts(prediction.iter().flatten());
    let mut n_common = 0;
    for line in target {
        let places = prediction
            .iter()
            .flat_map(|other| common_subsequence(line, other));
        for place in places.collect::<BTreeSet<usize>>() {
            if let Some(left @ 1..) = left.get_mut(&line[place]) {
                *left -= 1;
                n_common += 1;
            }
        }
    }
    RougeScore::new(n_common, n_words(target), n_words(prediction))
}

/// Places in `a` of a longest common subsequence, descending. Of several the one that
/// `rouge-score` takes, since its union with others depends on it.
fn common_subsequence(a: &[String], b: &[String]) -> Vec<usize> {
    // lengths[i][j]: of the first i words of one and the first j of the other.
    let mut lengths = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, word) in a.iter().enumerate() {
        for (j, other) in b.iter().enumerate() {
            lengths[i + 1][j + 1] = match word == other {
                true => lengths[i][j] + 1,
                false => lengths[i][j + 1].max(lengths[i + 1][j]),
            };
        }
    }
    let (mut i, mut j, mut places) = (a.len(), b.len(), Vec::new());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            places.push(i);
        } else if lengths[i][j - 1] > lengths[i - 1][j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    /// What `scripts/generate_rouge_fixtures.py` wrote.
    #[derive(Deserialize)]
    struct Golden {
        stems: BTreeMap<String, String>,
        texts: Vec<Text>,
    }

    #[derive(Deserialize)]
    struct Text {
        target: String,
        prediction: String,
        /// Without and with the stemmer: precision, recall and F1 of ROUGE-1, 2, L and Lsum.
        scores: [[[f64; 3]; 4]; 2],
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../../tests/fixtures/rouge.json")).unwrap()
    }

    #[test]
    fn stems_are_those_of_nltk() {
        let stems = golden().stems;
        assert!(stems.len() > 500);
        for (word, expected) in stems {
            assert_eq!(stem(&word), expected, "{word}");
        }
    }

    #[test]
    fn scores_are_those_of_rouge_score() {
        let texts = golden().texts;
        assert!(texts.len() > 40);
        for text in texts {
            for (use_stemmer, expected) in [false, true].into_iter().zip(text.scores) {
                let rouge = Rouge::new(&text.target, &text.prediction, use_stemmer);
                let found = [
                    rouge.rouge_1,
                    rouge.rouge_2,
                    rouge.rouge_l,
                    rouge.rouge_lsum,
                ];
                let found = found.map(|score| [score.precision, score.recall, score.f1]);
                let pairs = found.as_flattened().iter().zip(expected.as_flattened());
                let distance = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let (target, prediction) = (&text.target, &text.prediction);
                assert!(
                    distance < 1e-9,
                    "{target:?} {prediction:?} {use_stemmer}: {found:?}, expected {expected:?}"
                );
            }
        }
    }

    #[test]
    fn texts_without_words_have_nothing_in_common() {
        for (target, prediction) in [("", ""), ("a", ""), ("", "a"), ("!?\n", "…")] {
            assert_eq!(Rouge::new(target, prediction, true), Rouge::default());
        }
    }
}
