//! What all users share: the hidden states below the lowest block that reads the user.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use llm::ranking::{Branch, ForestStep, NodeId, TokenForest, TokenTrie};
use llm::{KvCache, LanguageModel};

use crate::user_llm::UserLlm;

/// Tokens that are read in one pass while a trunk is made, unless one subtree below what all answers
/// begin with has more.
const TOKENS_PER_PASS: usize = 256;

/// The states of one prompt and of every open trie node after it, as the lowest fused block
/// receives them.
///
/// With cross-attention in the upper blocks only, and a language model that does not train below
/// them, these states depend on the prompt and the answer alone: computed once, they serve every
/// user, every training step and every beam, exactly. What is left to compute is the upper blocks.
///
/// A node is open if more than one answer goes through it: the states of the others are never
/// asked for when probabilities are normalised over the trie.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// `[prompt tokens + open nodes, d_model]`
    states: Tensor<2>,
    prompt: Vec<u32>,
    /// Row of each open node, counted after the prompt.
    row_of: Vec<Option<usize>>,
}

impl UserLlm {
    /// Compute the trunk of a prompt and the answers that may follow it.
    ///
    /// Valid as long as the language model does not change below its lowest fused block, see
    /// [`TuningStrategy::freezes_below`](crate::TuningStrategy::freezes_below).
    ///
    /// # Panics
    ///
    /// Panics with a soft prompt, which nothing lies below.
    pub fn trunk(&self, prompt: &[u32], trie: &TokenTrie) -> Trunk {
        assert!(
            !self.is_soft_prompt(),
            "a soft prompt has nothing below it to share"
        );
        // Without autodiff: a constant to training, and nothing to trace in an evaluation.
        let llm = self.llm.valid();
        let n_below = self.lowest_fused();
        let device = llm.device();
        let mut cache = llm.new_cache();
        let mut row_of = vec![None; trie.n_nodes()];
        let mut slot_of = vec![None; trie.n_nodes()];

        // The prompt, and what all answers begin with.
        let stem = stem(trie);
        let mut common = TokenForest::new(&[prompt.to_vec()]);
        common.grow(&[branches(trie, &stem, common.n_slots(), &mut slot_of)]);
        let n_common = common.n_slots();
        for (row, &node) in stem.iter().enumerate() {
            row_of[node] = Some(row);
        }
        let step = common.take(&device);
        let mut states = vec![below(n_below, &llm, &step, &mut cache)];

        let mut n_rows = stem.len();
        for group in groups(trie, stem.last().copied().unwrap_or(0)) {
            let mut forest = common.clone();
            forest.grow(&[branches(trie, &group, n_common, &mut slot_of)]);
            for (offset, &node) in group.iter().enumerate() {
                row_of[node] = Some(n_rows + offset);
            }
            n_rows += group.len();
            let step = forest.take(&device);
            states.push(below(n_below, &llm, &step, &mut cache));
            cache.truncate(n_common);
        }
        Trunk {
            states: Tensor::cat(states, 0),
            prompt: prompt.to_vec(),
            row_of,
        }
    }
}

/// States of one row of tokens after the lowest `n_blocks` blocks.
fn below(
    n_blocks: usize,
    llm: &LanguageModel,
    step: &ForestStep,
    cache: &mut KvCache,
) -> Tensor<2> {
    let plan = llm.plan(step.positions.clone(), Some(step.mask_attn.clone()));
    let mut hidden = llm.embed(step.tokens.clone());
    for (block, cache) in llm.blocks[..n_blocks].iter().zip(&mut cache.layers) {
        hidden = block.attend(hidden, &plan, Some(cache));
        hidden = block.feed_forward(hidden);
    }
    hidden.squeeze_dim::<2>(0)
}

/// The open nodes below the root that all answers go through, in their order: the words before the
/// name in a template.
fn stem(trie: &TokenTrie) -> Vec<NodeId> {
    let next = |node: &NodeId| {
        let children = &trie.node(*node).children;
        let only = (children.len() == 1).then_some(children.start)?;
        (!trie.node(only).is_decided()).then_some(only)
    };
    std::iter::successors(next(&0), next).collect()
}

/// Nodes as branches of a row, the first at `first_slot`, each behind its parent's slot.
fn branches(
    trie: &TokenTrie,
    nodes: &[NodeId],
    first_slot: usize,
    slot_of: &mut [Option<usize>],
) -> Vec<Branch> {
    let branch = |(offset, &node): (usize, &NodeId)| {
        slot_of[node] = Some(first_slot + offset);
        Branch {
            token: trie.node(node).token,
            node,
            parent: slot_of[trie.node(node).parent],
        }
    };
    nodes.iter().enumerate().map(branch).collect()
}

/// Open nodes below `from` in groups of whole subtrees of its children, parents before children.
fn groups(trie: &TokenTrie, from: NodeId) -> Vec<Vec<NodeId>> {
    let mut groups: Vec<Vec<NodeId>> = Vec::new();
    for child in trie.node(from).children.clone() {
        let mut subtree = vec![child];
        let mut next = 0;
        while next < subtree.len() {
            subtree.extend(trie.node(subtree[next]).children.clone());
            next += 1;
        }
        subtree.retain(|&node| !trie.node(node).is_decided());
        match groups.last_mut() {
            Some(group) if group.len() + subtree.len() <= TOKENS_PER_PASS => group.extend(subtree),
            _ => groups.push(subtree),
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

impl Trunk {
    /// Refuse other prompts: their states would be taken from this one's in silence.
    pub(crate) fn assert_made_for(&self, prompts: &[Vec<u32>]) {
        assert!(
            prompts.iter().all(|prompt| *prompt == self.prompt),
            "the trunk was made for another prompt"
        );
    }

    /// The same on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        Self {
            states: self.states.clone().to_device(device),
            ..self.clone()
        }
    }

    /// The states of a step's tokens.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, new, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if a token stands for a node that is not open.
    pub fn states(&self, step: &ForestStep) -> Tensor<3> {
        let [batch, n_new] = step.tokens.dims();
        let rows: Vec<i64> = step
            .nodes
            .iter()
            .zip(&step.prompt_index)
            .map(|(node, &prompt_index)| match node {
                None => prompt_index as i64,
                Some(node) => {
                    let row = self.row_of[*node].expect("a trunk has open nodes only");
                    (self.prompt.len() + row) as i64
                }
            })
            .collect();
        let rows = Tensor::<1, Int>::from_data(
            TensorData::new(rows, [batch * n_new]),
            &self.states.device(),
        );
        let [_, d_model] = self.states.dims();
        self.states
            .clone()
            .select(0, rows)
            .reshape([batch, n_new, d_model])
    }
}
