//! What ranking asks of a language model.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::forest::ForestStep;
use super::trie::{NodeId, TokenTrie};
use crate::{KvCache, LanguageModel};

/// A language model that reads a growing forest and remembers what it has read.
pub trait ReadForest {
    /// Final hidden states of the new tokens, normalised: what the head multiplies.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, new, d_model]`
    fn read(&mut self, step: &ForestStep) -> Tensor<3>;

    /// The language model whose head scores the states.
    fn model(&self) -> &LanguageModel;
}

/// Over what the probability of a token is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// Over the tokens that the trie allows next: the answers' probabilities add up to one, and a
    /// token without an alternative costs nothing.
    #[default]
    Trie,
    /// Over the whole vocabulary: the likelihood of the text as the language model has it.
    Vocabulary,
}

/// A plain language model with its cache. A clone goes on from the same text on its own.
#[derive(Clone, Debug)]
pub struct CachedReader<'a> {
    model: &'a LanguageModel,
    cache: KvCache,
}

impl<'a> CachedReader<'a> {
    /// Nothing read yet.
    pub fn new(model: &'a LanguageModel) -> Self {
        Self {
            model,
            cache: model.new_cache(),
        }
    }
}

impl ReadForest for CachedReader<'_> {
    fn read(&mut self, step: &ForestStep) -> Tensor<3> {
        let plan = self
            .model
            .plan(step.positions.clone(), Some(step.mask_attn.clone()));
        let hidden = self
            .model
            .forward_cached(step.tokens.clone(), &plan, &mut self.cache);
        self.model.normalise(hidden)
    }

    fn model(&self) -> &LanguageModel {
        self.model
    }
}

/// Log-probabilities of a trie's tokens after hidden states.
pub(super) struct TokenScores<'a> {
    trie: &'a TokenTrie,
    normalisation: Normalisation,
    /// `[d_model, alphabet]`
    head: Tensor<2>,
}

impl<'a> TokenScores<'a> {
    pub(super) fn new(
        model: &LanguageModel,
        trie: &'a TokenTrie,
        normalisation: Normalisation,
        device: &Device,
    ) -> Self {
        let alphabet: Vec<i64> = trie
            .alphabet()
            .iter()
            .map(|&token| i64::from(token))
            .collect();
        let n = alphabet.len();
        let alphabet = Tensor::<1, Int>::from_data(TensorData::new(alphabet, [n]), device);
        Self {
            trie,
            normalisation,
            head: model.head_rows(alphabet).transpose(),
        }
    }

    /// Scores after every state, on the host.
    ///
    /// # Shapes
    ///
    /// - hidden: `[n, d_model]`, normalised
    pub(super) fn after(&self, model: &LanguageModel, hidden: Tensor<2>) -> HostScores {
        let logits = hidden.clone().matmul(self.head.clone());
        let normaliser = match self.normalisation {
            Normalisation::Trie => None,
            Normalisation::Vocabulary => {
                let all = model.head_logits(hidden);
                let most = all.clone().max_dim(1);
                let sum = (all - most.clone()).exp().sum_dim(1).log() + most;
                Some(floats(sum.into_data()))
            }
        };
        HostScores {
            logits: floats(logits.into_data()),
            normaliser,
            width: self.trie.alphabet().len(),
        }
    }
}

/// Scores of the alphabet after some states.
pub(super) struct HostScores {
    logits: Vec<f32>,
    normaliser: Option<Vec<f32>>,
    width: usize,
}

impl HostScores {
    /// Log-probability of each child of `node` after state `index`.
    pub(super) fn children<'a>(
        &'a self,
        trie: &'a TokenTrie,
        index: usize,
        node: NodeId,
    ) -> impl Iterator<Item = (NodeId, f32)> + 'a {
        let logits = &self.logits[index * self.width..(index + 1) * self.width];
        let children = trie.node(node).children.clone();
        let normaliser = match &self.normaliser {
            Some(normaliser) => normaliser[index],
            None => {
                let scores = children.clone().map(|child| logits[trie.symbol(child)]);
                let most = scores.clone().fold(f32::NEG_INFINITY, f32::max);
                scores.map(|score| (score - most).exp()).sum::<f32>().ln() + most
            }
        };
        children.map(move |child| (child, logits[trie.symbol(child)] - normaliser))
    }
}

fn floats(data: TensorData) -> Vec<f32> {
    data.convert::<f32>()
        .try_into_vec()
        .expect("the data was converted to f32")
}
