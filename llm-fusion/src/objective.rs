//! The tuning objective: the likelihood of answers after a prompt, with the user attached.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use llm::ranking::{Branch, NodeId, Normalisation, TokenTrie};

use crate::trunk::Trunk;
use crate::user_llm::{UserEmbeddings, UserLlm};

/// What a batch of users is to answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerTargets {
    /// The prompt of every row.
    pub prompts: Vec<Vec<u32>>,
    /// Answers of every row, as sequences of the trie: each is taught token by token.
    pub answers: Vec<Vec<usize>>,
    /// A teacher's probabilities of all sequences, row by row, which the targets are mixed with;
    /// empty without a teacher.
    pub teacher: Vec<Vec<f32>>,
}

/// How answers are taught.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLoss<'a> {
    /// The answers that exist.
    pub trie: &'a TokenTrie,
    /// Over what a token's probability is normalised.
    pub normalisation: Normalisation,
    /// Weight of the teacher's distribution against the row's own answers, from 0 to 1.
    pub teacher_weight: f32,
}

/// A place where the model has to choose: a slot of a row, and the node it stands at.
struct Choice {
    row: usize,
    slot: usize,
    node: NodeId,
    /// Probability of each child, in order.
    target: Vec<f32>,
}

impl AnswerLoss<'_> {
    /// Mean over the rows of the cross-entropy of all their choices.
    ///
    /// All answers of a row stand behind one prompt as branches of a tree, so the prompt is read
    /// once. At every node that they pass, the target over its children is
    /// `(1 − w) · (the share of the row's answers that goes there) + w · (the teacher's share)`.
    ///
    /// # Panics
    ///
    /// Panics if rows and lists disagree, if a row has no answer, or if the trunk was made for
    /// another prompt.
    pub fn forward(
        &self,
        model: &UserLlm,
        user: &UserEmbeddings,
        targets: &AnswerTargets,
        trunk: Option<&Trunk>,
    ) -> Tensor<1> {
        if let Some(trunk) = trunk {
            trunk.assert_made_for(&targets.prompts);
        }
        let device = model.device();
        let mut forest = model.forest(&targets.prompts, user);
        let n_prompt = forest.n_slots();
        let mut choices = Vec::new();
        let mut branches = Vec::new();
        for (row, answers) in targets.answers.iter().enumerate() {
            assert!(!answers.is_empty(), "row {row} has no answer to learn");
            let teacher = targets
                .teacher
                .get(row)
                .map(|teacher| cumulative(self.trie, teacher));
            branches.push(self.tree(row, n_prompt, answers, teacher.as_deref(), &mut choices));
        }
        forest.grow(&branches);
        let step = forest.take(&device);
        let hidden = model.forward_forest(&step, user, trunk);

        let [batch, n_slots, d_model] = hidden.dims();
        let places: Vec<i64> = choices
            .iter()
            .map(|choice| (choice.row * n_slots + choice.slot) as i64)
            .collect();
        let n = places.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [n]), &device);
        let hidden = hidden.reshape([batch * n_slots, d_model]).select(0, places);
        let likelihood = self.log_probabilities(model, hidden, &choices, &device);
        let target = self.dense(&choices, &device);
        -(likelihood * target).sum() / batch as f32
    }

    /// The tree of a row's answers, one branch per node that has to be read.
    fn tree(
        &self,
        row: usize,
        n_prompt: usize,
        answers: &[usize],
        teacher: Option<&[f64]>,
        choices: &mut Vec<Choice>,
    ) -> Vec<Branch> {
        let trie = self.trie;
        // Node, its slot, and how many answers pass it; the prompt's last slot stands at the root.
        let mut passed: Vec<(NodeId, usize, f32)> = vec![(0, n_prompt - 1, 0.0)];
        let mut arrivals: Vec<Vec<(NodeId, f32)>> = vec![Vec::new()];
        let mut branches = Vec::new();
        for &answer in answers {
            let mut at = 0;
            for node in trie.path_of(answer) {
                if self.is_settled(passed[at].0) {
                    break;
                }
                passed[at].2 += 1.0;
                match arrivals[at].iter_mut().find(|(child, _)| *child == node) {
                    Some((_, count)) => *count += 1.0,
                    None => arrivals[at].push((node, 1.0)),
                }
                if self.is_settled(node) {
                    break;
                }
                at = match passed.iter().position(|&(known, _, _)| known == node) {
                    Some(known) => known,
                    None => {
                        let parent = (at > 0).then(|| passed[at].1);
                        passed.push((node, n_prompt + branches.len(), 0.0));
                        arrivals.push(Vec::new());
                        branches.push(Branch {
                            token: trie.node(node).token,
                            node,
                            parent,
                        });
                        passed.len() - 1
                    }
                };
            }
        }
        let weight = if teacher.is_some() {
            self.teacher_weight
        } else {
            0.0
        };
        for ((node, slot, count), arrivals) in passed.into_iter().zip(arrivals) {
            // A choice that more answers pass weighs more, as if each had been its own row.
            let share = count / answers.len() as f32;
            let total = teacher.map_or(0.0, |before| mass(trie, before, node));
            let target = trie
                .node(node)
                .children
                .clone()
                .map(|child| {
                    let own = arrivals
                        .iter()
                        .find(|(to, _)| *to == child)
                        .map_or(0.0, |(_, n)| n / count);
                    let taught = match teacher {
                        Some(before) if total > 0.0 => (mass(trie, before, child) / total) as f32,
                        _ => own,
                    };
                    share * ((1.0 - weight) * own + weight * taught)
                })
                .collect();
            choices.push(Choice {
                row,
                slot,
                node,
                target,
            });
        }
        branches
    }

    /// Whether no choice is left at a node.
    fn is_settled(&self, node: NodeId) -> bool {
        match self.normalisation {
            Normalisation::Trie => self.trie.node(node).is_decided(),
            Normalisation::Vocabulary => self.trie.node(node).children.is_empty(),
        }
    }

    /// `[choices, alphabet]`; what is not allowed has log-probability 0, so that it adds nothing.
    fn log_probabilities(
        &self,
        model: &UserLlm,
        hidden: Tensor<2>,
        choices: &[Choice],
        device: &Device,
    ) -> Tensor<2> {
        let alphabet: Vec<i64> = self
            .trie
            .alphabet()
            .iter()
            .map(|&token| i64::from(token))
            .collect();
        let width = alphabet.len();
        let alphabet = Tensor::<1, Int>::from_data(TensorData::new(alphabet, [width]), device);
        match self.normalisation {
            Normalisation::Vocabulary => {
                let all = log_softmax(model.llm.head_logits(hidden), 1);
                all.select(1, alphabet)
            }
            Normalisation::Trie => {
                let logits = hidden.matmul(model.llm.head_rows(alphabet).transpose());
                let mut is_hidden = vec![true; choices.len() * width];
                for (index, choice) in choices.iter().enumerate() {
                    for child in self.trie.node(choice.node).children.clone() {
                        is_hidden[index * width + self.trie.symbol(child)] = false;
                    }
                }
                let is_hidden = TensorData::new(is_hidden, [choices.len(), width]);
                let is_hidden = Tensor::<2, Bool>::from_data(is_hidden, device);
                let logits = logits.mask_fill(is_hidden.clone(), -1e9);
                log_softmax(logits, 1).mask_fill(is_hidden, 0.0)
            }
        }
    }

    /// The targets as `[choices, alphabet]`.
    fn dense(&self, choices: &[Choice], device: &Device) -> Tensor<2> {
        let width = self.trie.alphabet().len();
        let mut dense = vec![0.0_f32; choices.len() * width];
        for (index, choice) in choices.iter().enumerate() {
            let children = self.trie.node(choice.node).children.clone();
            for (child, &target) in children.zip(&choice.target) {
                dense[index * width + self.trie.symbol(child)] = target;
            }
        }
        Tensor::from_data(TensorData::new(dense, [choices.len(), width]), device)
    }
}

/// Probability of all sequences before each position of the trie's order; in f64, for what is
/// wanted are small differences.
fn cumulative(trie: &TokenTrie, teacher: &[f32]) -> Vec<f64> {
    let sums = trie.order().iter().scan(0.0, |sum, &sequence| {
        *sum += f64::from(teacher[sequence]);
        Some(*sum)
    });
    std::iter::once(0.0).chain(sums).collect()
}

/// Probability of all sequences below a node.
fn mass(trie: &TokenTrie, before: &[f64], node: NodeId) -> f64 {
    let leaves = &trie.node(node).leaves;
    (before[leaves.end] - before[leaves.start]).max(0.0)
}
