//! Beam search over a trie.

use super::forest::{Branch, TokenForest};
use super::reader::{Normalisation, ReadForest, TokenScores};
use super::trie::{NodeId, TokenTrie};

/// Configuration of [`beam_search`].
#[derive(Clone, Copy, Debug)]
pub struct BeamConfig {
    /// Prefixes kept at every depth. With as many as the trie is wide, the search is exact.
    pub width: usize,
    /// Answers wanted per row.
    pub k: usize,
    /// Over what a token's probability is normalised.
    pub normalisation: Normalisation,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Which of the trie's sequences.
    pub sequence: usize,
    /// Natural logarithm of its probability.
    pub log_likelihood: f32,
}

/// The `k` likeliest sequences of the trie after each prompt of the forest, best first.
///
/// `excluded[row]` are sequences that are left out of the answer (films already seen); they keep
/// their share of the probability. Rows get fewer than `k` answers only when the beam is narrower
/// or fewer sequences are left. Equal scores are ordered by sequence, so that the answer depends
/// on nothing but its input.
///
/// # Panics
///
/// Panics if `excluded` has not one list per row, or if a score is not a number.
pub fn beam_search(
    reader: &mut impl ReadForest,
    forest: TokenForest,
    trie: &TokenTrie,
    excluded: &[Vec<usize>],
    config: &BeamConfig,
) -> Vec<Vec<Ranked>> {
    let mut forest = forest;
    let batch = forest.batch();
    assert_eq!(
        excluded.len(),
        batch,
        "one list of excluded sequences per row"
    );
    let device = reader.model().device();
    let scores = TokenScores::new(reader.model(), trie, config.normalisation, &device);
    let left_out: Vec<LeftOut> = excluded
        .iter()
        .map(|list| LeftOut::new(trie, list))
        .collect();
    let mut rows: Vec<Beam> = (0..batch).map(|_| Beam::default()).collect();

    // The states after which each row goes on: at first, only the prompt's last.
    let mut growing: Vec<Vec<Prefix>> = vec![vec![Prefix::root()]; batch];
    let step = forest.take(&device);
    let hidden = reader.read(&step);
    let [_, n_new, d_model] = hidden.dims();
    let mut hidden = hidden.slice([0..batch, n_new - 1..n_new, 0..d_model]);

    loop {
        let [_, n_states, d_model] = hidden.dims();
        let host = scores.after(reader.model(), hidden.reshape([batch * n_states, d_model]));
        let mut branches = vec![Vec::new(); batch];
        for (index, prefixes) in growing.iter_mut().enumerate() {
            let mut candidates: Vec<Prefix> = Vec::new();
            for (state, prefix) in prefixes.iter().enumerate() {
                for (node, score) in host.children(trie, index * n_states + state, prefix.node) {
                    assert!(
                        !score.is_nan(),
                        "the language model's scores are not numbers"
                    );
                    if !left_out[index].covers(trie, node) {
                        let score = prefix.score + score;
                        candidates.push(Prefix {
                            node,
                            score,
                            slot: prefix.slot,
                        });
                    }
                }
            }
            candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.node.cmp(&b.node)));
            candidates.truncate(config.width);
            let beam = &mut rows[index];
            *prefixes = candidates
                .into_iter()
                .filter(|prefix| !beam.finish(trie, prefix, config.normalisation))
                .collect();
            // Scores only fall: what is behind the k-th answer already can never pass it.
            let bar = beam.bar(config.k);
            prefixes.retain(|prefix| prefix.score >= bar);
            for (offset, prefix) in prefixes.iter_mut().enumerate() {
                let token = trie.node(prefix.node).token;
                branches[index].push(Branch {
                    token,
                    node: prefix.node,
                    parent: prefix.slot,
                });
                prefix.slot = Some(forest.n_slots() + offset);
            }
        }
        if growing.iter().all(Vec::is_empty) {
            break;
        }
        forest.grow(&branches);
        let step = forest.take(&device);
        hidden = reader.read(&step);
    }
    rows.into_iter().map(|beam| beam.best(config.k)).collect()
}

#[derive(Clone, Copy, Debug)]
struct Prefix {
    node: NodeId,
    score: f32,
    slot: Option<usize>,
}

impl Prefix {
    fn root() -> Self {
        Self {
            node: 0,
            score: 0.0,
            slot: None,
        }
    }
}

#[derive(Debug, Default)]
struct Beam {
    answers: Vec<Ranked>,
}

impl Beam {
    /// Take a prefix over as an answer if nothing that follows can change its score.
    fn finish(&mut self, trie: &TokenTrie, prefix: &Prefix, normalisation: Normalisation) -> bool {
        let is_done = match normalisation {
            Normalisation::Trie => trie.node(prefix.node).is_decided(),
            Normalisation::Vocabulary => trie.node(prefix.node).children.is_empty(),
        };
        if let (true, Some(sequence)) = (is_done, trie.decided(prefix.node)) {
            self.answers.push(Ranked {
                sequence,
                log_likelihood: prefix.score,
            });
        }
        is_done
    }

    fn bar(&mut self, k: usize) -> f32 {
        self.sort();
        self.answers
            .get(k.max(1) - 1)
            .map_or(f32::NEG_INFINITY, |last| last.log_likelihood)
    }

    fn best(mut self, k: usize) -> Vec<Ranked> {
        self.sort();
        self.answers.truncate(k);
        self.answers
    }

    fn sort(&mut self) {
        self.answers.sort_by(|a, b| {
            b.log_likelihood
                .total_cmp(&a.log_likelihood)
                .then(a.sequence.cmp(&b.sequence))
        });
    }
}

/// How many excluded sequences come before each position of the trie's order.
struct LeftOut {
    before: Vec<u32>,
}

impl LeftOut {
    fn new(trie: &TokenTrie, excluded: &[usize]) -> Self {
        let mut is_out = vec![false; trie.n_sequences()];
        for &sequence in excluded {
            is_out[sequence] = true;
        }
        let before = std::iter::once(0)
            .chain(trie.order().iter().scan(0, |count, &sequence| {
                *count += u32::from(is_out[sequence]);
                Some(*count)
            }))
            .collect();
        Self { before }
    }

    /// Whether every sequence under the node is excluded.
    fn covers(&self, trie: &TokenTrie, node: NodeId) -> bool {
        let leaves = &trie.node(node).leaves;
        (self.before[leaves.end] - self.before[leaves.start]) as usize == leaves.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::tiny::{
        END, Numbers, assert_close, indifferent, model, prompts, titles, trie,
    };
    use crate::ranking::{CachedReader, log_likelihoods};

    const NORMALISATIONS: [Normalisation; 2] = [Normalisation::Trie, Normalisation::Vocabulary];

    fn search(
        trie: &TokenTrie,
        prompts: &[Vec<u32>],
        excluded: &[Vec<usize>],
        config: &BeamConfig,
    ) -> Vec<Vec<Ranked>> {
        let model = model();
        let forest = TokenForest::new(prompts);
        beam_search(
            &mut CachedReader::new(&model),
            forest,
            trie,
            excluded,
            config,
        )
    }

    /// The same by the likelihood of every single sequence.
    fn exhaustive(
        trie: &TokenTrie,
        prompts: &[Vec<u32>],
        excluded: &[Vec<usize>],
        config: &BeamConfig,
    ) -> Vec<Vec<Ranked>> {
        let model = model();
        let all: Vec<usize> = (0..trie.n_sequences()).collect();
        let mut reader = CachedReader::new(&model);
        let forest = TokenForest::new(prompts);
        let rows = log_likelihoods(&mut reader, forest, trie, &all, config.normalisation);
        let best = |(likelihoods, excluded): (Vec<f32>, &Vec<usize>)| {
            let mut beam = Beam::default();
            for (sequence, log_likelihood) in likelihoods.into_iter().enumerate() {
                if !excluded.contains(&sequence) {
                    beam.answers.push(Ranked {
                        sequence,
                        log_likelihood,
                    });
                }
            }
            beam.best(config.k)
        };
        rows.into_iter().zip(excluded).map(best).collect()
    }

    /// Up to seven tokens.
    fn prompt(numbers: &mut Numbers) -> Vec<u32> {
        (0..=numbers.below(7))
            .map(|_| numbers.below(19) as u32)
            .collect()
    }

    fn sequences(row: &[Ranked]) -> Vec<usize> {
        row.iter().map(|answer| answer.sequence).collect()
    }

    fn likelihoods(row: &[Ranked]) -> Vec<f32> {
        row.iter().map(|answer| answer.log_likelihood).collect()
    }

    #[test]
    fn a_wide_beam_answers_what_the_likelihoods_of_all_sequences_say() {
        let trie = trie(40);
        let mut numbers = Numbers(3);
        let prompts: Vec<Vec<u32>> = (0..30).map(|_| prompt(&mut numbers)).collect();
        let excluded: Vec<Vec<usize>> = (0..30)
            .map(|row| (0..row).map(|_| numbers.below(40)).collect())
            .collect();
        for normalisation in NORMALISATIONS {
            for k in [1, 10, 40] {
                let config = BeamConfig {
                    width: trie.n_nodes(),
                    k,
                    normalisation,
                };
                let found = search(&trie, &prompts, &excluded, &config);
                let expected = exhaustive(&trie, &prompts, &excluded, &config);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(sequences(found), sequences(expected), "{config:?}");
                    assert_close(&likelihoods(found), &likelihoods(expected), 1e-4);
                }
            }
        }
    }

    #[test]
    fn a_narrow_beam_misses_answers_but_scores_those_it_gives_as_ever() {
        let trie = trie(40);
        let excluded = vec![Vec::new(); 3];
        for normalisation in NORMALISATIONS {
            let config = BeamConfig {
                width: 3,
                k: 10,
                normalisation,
            };
            let all = BeamConfig {
                width: 40,
                k: 40,
                normalisation,
            };
            let exact = exhaustive(&trie, &prompts(), &excluded, &all);
            for (found, exact) in search(&trie, &prompts(), &excluded, &config)
                .iter()
                .zip(exact)
            {
                assert!(!found.is_empty());
                for answer in found {
                    let same = exact.iter().find(|other| other.sequence == answer.sequence);
                    let same = same.expect("all sequences are scored");
                    assert_close(&[answer.log_likelihood], &[same.log_likelihood], 1e-4);
                }
            }
        }
    }

    #[test]
    fn a_batch_is_answered_as_each_prompt_alone() {
        let trie = trie(40);
        let config = BeamConfig {
            width: 6,
            k: 5,
            normalisation: Normalisation::Trie,
        };
        let excluded = vec![vec![], vec![3, 4], vec![9]];
        let batch = search(&trie, &prompts(), &excluded, &config);
        for (row, prompt) in prompts().into_iter().enumerate() {
            let alone = search(&trie, &[prompt], &excluded[row..=row], &config).remove(0);
            assert_eq!(sequences(&alone), sequences(&batch[row]));
            assert_close(&likelihoods(&alone), &likelihoods(&batch[row]), 1e-4);
        }
    }

    #[test]
    fn ten_thousand_answers_of_an_untrained_model_are_all_real_titles() {
        let trie = trie(60);
        let mut numbers = Numbers(5);
        let prompts: Vec<Vec<u32>> = (0..1000).map(|_| prompt(&mut numbers)).collect();
        let excluded: Vec<Vec<usize>> = (0..1000)
            .map(|_| (0..20).map(|_| numbers.below(60)).collect())
            .collect();
        let config = BeamConfig {
            width: 30,
            k: 10,
            normalisation: Normalisation::Trie,
        };

        let mut n_answers = 0;
        for (row, excluded) in search(&trie, &prompts, &excluded, &config)
            .iter()
            .zip(&excluded)
        {
            let mut seen = sequences(row);
            assert!(
                seen.iter()
                    .all(|sequence| *sequence < 60 && !excluded.contains(sequence))
            );
            assert!(
                row.windows(2)
                    .all(|pair| pair[0].log_likelihood >= pair[1].log_likelihood)
            );
            n_answers += seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), row.len(), "an answer came up twice");
        }
        assert_eq!(n_answers, 10_000);
    }

    #[test]
    fn what_nobody_may_answer_is_left_out_down_to_an_empty_list() {
        let trie = trie(5);
        let excluded = vec![(0..5).collect(), vec![0, 1, 3, 4, 4], vec![]];
        for normalisation in NORMALISATIONS {
            let config = BeamConfig {
                width: 5,
                k: 4,
                normalisation,
            };
            let rows = search(&trie, &prompts(), &excluded, &config);
            assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 4]);
            assert_eq!(rows[1][0].sequence, 2);
        }
    }

    #[test]
    fn what_is_left_out_keeps_its_share_of_the_probability() {
        let trie = trie(12);
        let config = BeamConfig {
            width: 12,
            k: 12,
            normalisation: Normalisation::Trie,
        };
        let all = search(&trie, &prompts(), &vec![Vec::new(); 3], &config);
        let few = search(
            &trie,
            &prompts(),
            &vec![vec![1, 2, 3, 5, 8, 11]; 3],
            &config,
        );
        for (all, few) in all.iter().zip(&few) {
            let kept: Vec<Ranked> = all
                .iter()
                .filter(|answer| few.iter().any(|f| f.sequence == answer.sequence))
                .copied()
                .collect();
            assert_eq!(few, &kept);
        }
    }

    #[test]
    fn equals_are_ordered_by_sequence() {
        let titles: Vec<Vec<u32>> = [9, 5, 8, 7].iter().map(|&token| vec![token]).collect();
        let trie = TokenTrie::new(&titles, END).unwrap();
        let model = indifferent();
        let config = BeamConfig {
            width: 4,
            k: 3,
            normalisation: Normalisation::Trie,
        };
        let forest = TokenForest::new(&[vec![1]]);
        let rows = beam_search(
            &mut CachedReader::new(&model),
            forest,
            &trie,
            &[vec![]],
            &config,
        );
        assert_eq!(sequences(&rows[0]), [0, 1, 2]);
        assert_close(&likelihoods(&rows[0]), &[-4.0_f32.ln(); 3], 1e-6);
    }

    #[test]
    fn a_single_title_is_answered_with_certainty() {
        let trie = TokenTrie::new(&titles(1), END).unwrap();
        let config = BeamConfig {
            width: 1,
            k: 10,
            normalisation: Normalisation::Trie,
        };
        let rows = search(&trie, &prompts(), &vec![Vec::new(); 3], &config);
        assert!(rows.iter().all(|row| *row
            == [Ranked {
                sequence: 0,
                log_likelihood: 0.0
            }]));
    }

    #[test]
    #[should_panic(expected = "the language model's scores are not numbers")]
    fn a_broken_model_is_not_ranked_with() {
        let mut model = model();
        model.norm.gamma = model.norm.gamma.map(|gamma| gamma * f32::NAN);
        let config = BeamConfig {
            width: 4,
            k: 3,
            normalisation: Normalisation::Trie,
        };
        let forest = TokenForest::new(&[vec![1]]);
        beam_search(
            &mut CachedReader::new(&model),
            forest,
            &trie(9),
            &[vec![]],
            &config,
        );
    }
}
