//! Likelihoods of given sequences, one chain of tokens each.

use super::forest::{Branch, TokenForest};
use super::reader::{Normalisation, ReadForest, TokenScores};
use super::trie::{NodeId, TokenTrie};

/// The log-likelihood of each of `sequences` after each prompt of the forest: `[row][sequence]`.
///
/// Unlike [`beam_search`](super::beam_search), nothing is shared between sequences and nothing is
/// pruned, so it costs the sum of their lengths; for small catalogues, and to check the beam.
pub fn log_likelihoods(
    reader: &mut impl ReadForest,
    forest: TokenForest,
    trie: &TokenTrie,
    sequences: &[usize],
    normalisation: Normalisation,
) -> Vec<Vec<f32>> {
    let mut forest = forest;
    let batch = forest.batch();
    let device = reader.model().device();
    let scores = TokenScores::new(reader.model(), trie, normalisation, &device);
    let paths: Vec<Vec<NodeId>> = sequences
        .iter()
        .map(|&sequence| {
            let mut path = trie.path_of(sequence);
            if normalisation == Normalisation::Trie {
                // What follows a decided node has no alternative and costs nothing.
                let n_chosen = path.iter().position(|&node| trie.node(node).is_decided());
                path.truncate(n_chosen.map_or(path.len(), |last| last + 1));
            }
            path
        })
        .collect();

    // Chains one after the other: every token but the last of each is read.
    let n_prompt = forest.n_slots();
    let mut chains = Vec::new();
    let mut starts = Vec::new();
    for path in &paths {
        starts.push(n_prompt + chains.len());
        for (depth, &node) in path[..path.len() - 1].iter().enumerate() {
            let parent = (depth > 0).then(|| n_prompt + chains.len() - 1);
            chains.push(Branch {
                token: trie.node(node).token,
                node,
                parent,
            });
        }
    }
    forest.grow(&vec![chains; batch]);
    let step = forest.take(&device);
    let hidden = reader.read(&step);
    let [_, n_slots, d_model] = hidden.dims();
    let host = scores.after(reader.model(), hidden.reshape([batch * n_slots, d_model]));

    let likelihood = |row: usize, path: &[NodeId], start: usize| -> f32 {
        path.iter()
            .enumerate()
            .map(|(depth, &node)| {
                let state = if depth == 0 {
                    n_prompt - 1
                } else {
                    start + depth - 1
                };
                host.children(trie, row * n_slots + state, trie.node(node).parent)
                    .find_map(|(child, score)| (child == node).then_some(score))
                    .expect("a node is a child of its parent")
            })
            .sum()
    };
    (0..batch)
        .map(|row| {
            paths
                .iter()
                .zip(&starts)
                .map(|(path, &start)| likelihood(row, path, start))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::CachedReader;
    use crate::ranking::tiny::{END, log_softmax};
    use crate::ranking::tiny::{
        assert_close, indifferent, model, next_token, prompts, titles, trie,
    };

    fn of_all(trie: &TokenTrie, normalisation: Normalisation) -> Vec<Vec<f32>> {
        let model = model();
        let all: Vec<usize> = (0..trie.n_sequences()).collect();
        let forest = TokenForest::new(&prompts());
        log_likelihoods(
            &mut CachedReader::new(&model),
            forest,
            trie,
            &all,
            normalisation,
        )
    }

    #[test]
    fn over_the_vocabulary_it_is_the_likelihood_of_the_text() {
        let likelihoods = of_all(&trie(17), Normalisation::Vocabulary);
        for (prompt, likelihoods) in prompts().iter().zip(likelihoods) {
            for (title, likelihood) in titles(17).iter().zip(likelihoods) {
                let (mut text, mut by_hand) = (prompt.clone(), 0.0);
                for &token in title.iter().chain(&[END]) {
                    by_hand += next_token(&model(), &text)[token as usize];
                    text.push(token);
                }
                assert_close(&[likelihood], &[by_hand as f32], 1e-4);
            }
        }
    }

    #[test]
    fn over_the_trie_only_what_may_follow_is_weighed() {
        let likelihoods = of_all(&trie(17), Normalisation::Trie);
        let closed: Vec<Vec<u32>> = titles(17)
            .iter()
            .map(|title| [title.as_slice(), &[END]].concat())
            .collect();
        for (prompt, likelihoods) in prompts().iter().zip(likelihoods) {
            for (title, likelihood) in closed.iter().zip(likelihoods) {
                let (mut text, mut by_hand) = (prompt.clone(), 0.0);
                for depth in 0..title.len() {
                    let beginning = &title[..depth];
                    let mut next: Vec<u32> = closed
                        .iter()
                        .filter(|other| other.starts_with(beginning))
                        .map(|other| other[depth])
                        .collect();
                    next.sort_unstable();
                    next.dedup();
                    let after = next_token(&model(), &text);
                    let after: Vec<f32> = next
                        .iter()
                        .map(|&token| after[token as usize] as f32)
                        .collect();
                    let chosen = next.iter().position(|&token| token == title[depth]);
                    by_hand += log_softmax(&after)[chosen.expect("the title's own token")];
                    text.push(title[depth]);
                }
                assert_close(&[likelihood], &[by_hand as f32], 1e-4);
            }
        }
    }

    #[test]
    fn over_the_trie_the_probabilities_of_all_sequences_add_up_to_one() {
        for likelihoods in of_all(&trie(40), Normalisation::Trie) {
            let sum: f32 = likelihoods.iter().map(|likelihood| likelihood.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
    }

    #[test]
    fn a_choice_among_n_that_are_alike_costs_ln_n() {
        // Three titles begin with 5; after it, one ends and two go on; 6 ends or goes on.
        let titles = [vec![5], vec![5, 6], vec![5, 6, 7], vec![8, 9]];
        let trie = TokenTrie::new(&titles, END).unwrap();
        let model = indifferent();
        let read = |normalisation| {
            let forest = TokenForest::new(&[vec![1]]);
            log_likelihoods(
                &mut CachedReader::new(&model),
                forest,
                &trie,
                &[0, 1, 2, 3],
                normalisation,
            )
            .remove(0)
        };
        let ln = f32::ln;
        let expected = [-ln(4.0), -ln(8.0), -ln(8.0), -ln(2.0)];
        assert_close(&read(Normalisation::Trie), &expected, 1e-6);

        // Over a vocabulary of 19, every token costs as much, the end too.
        let expected = [2.0, 3.0, 4.0, 3.0].map(|n_tokens| -n_tokens * ln(19.0));
        assert_close(&read(Normalisation::Vocabulary), &expected, 1e-5);
    }
}
