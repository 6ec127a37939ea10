//! Prompts with branches that grow from their ends, read as one batch ("tree attention").
//!
//! A row holds a prompt and any number of branches, one token after the other in the same cache.
//! A token sees its own ancestors only, and its position is its distance from the start: so all
//! branches of a prompt share its keys and values, nothing is copied when a beam splits, and one
//! matrix product serves all branches of all rows.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::trie::NodeId;

/// One more token on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The token.
    pub token: u32,
    /// The trie node that it stands for.
    pub node: NodeId,
    /// The slot of the row it follows; `None` follows the prompt's last token.
    pub parent: Option<usize>,
}

/// Tokens that are new to the model, with what each may see.
#[derive(Clone, Debug)]
pub struct ForestStep {
    /// `[batch, new]`
    pub tokens: Tensor<2, Int>,
    /// `[batch, new]`
    pub positions: Tensor<2, Int>,
    /// `[batch, new, cached + new]`, `true` = hidden.
    pub mask_attn: Tensor<3, Bool>,
    /// The trie node of every new token, row by row; `None` for tokens of the prompt and padding.
    pub nodes: Vec<Option<NodeId>>,
    /// For tokens of the prompt, which of its tokens it is; 0 elsewhere.
    pub prompt_index: Vec<usize>,
}

/// A batch of prompts and what has grown from them.
#[derive(Clone, Debug)]
pub struct TokenForest {
    rows: Vec<Row>,
    n_prefix: usize,
    n_read: usize,
}

#[derive(Clone, Debug)]
struct Row {
    /// Positions before the prompt that are already cached and real: a soft prompt.
    prefix: usize,
    slots: Vec<Slot>,
    last_of_prompt: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    token: u32,
    node: Option<NodeId>,
    prompt_index: usize,
    parent: Option<usize>,
    position: usize,
    is_padding: bool,
}

impl TokenForest {
    /// Prompts alone, padded on the left to one length.
    ///
    /// # Panics
    ///
    /// Panics if there is no prompt or one is empty.
    pub fn new(prompts: &[Vec<u32>]) -> Self {
        Self::with_prefix(prompts, 0, &vec![0; prompts.len()])
    }

    /// Prompts behind `n_prefix` cached positions, of which the first `real[row]` may be seen.
    ///
    /// # Panics
    ///
    /// Panics if there is no prompt or one is empty.
    pub fn with_prefix(prompts: &[Vec<u32>], n_prefix: usize, real: &[usize]) -> Self {
        let longest = prompts
            .iter()
            .map(Vec::len)
            .max()
            .expect("a forest needs a prompt");
        assert!(
            prompts.iter().all(|prompt| !prompt.is_empty()),
            "a prompt has no token"
        );
        assert_eq!(prompts.len(), real.len(), "one prefix length per prompt");
        let rows = prompts
            .iter()
            .zip(real)
            .map(|(prompt, &prefix)| {
                let n_padding = longest - prompt.len();
                let padding = (0..n_padding).map(|_| Slot::padding());
                let tokens = prompt.iter().enumerate().map(|(index, &token)| Slot {
                    token,
                    node: None,
                    prompt_index: index,
                    parent: (index > 0).then(|| n_padding + index - 1),
                    position: prefix + index,
                    is_padding: false,
                });
                Row {
                    prefix,
                    slots: padding.chain(tokens).collect(),
                    last_of_prompt: longest - 1,
                }
            })
            .collect();
        Self {
            rows,
            n_prefix,
            n_read: 0,
        }
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.rows.len()
    }

    /// Number of slots of every row, prompt and padding included: the next branch gets this one.
    pub fn n_slots(&self) -> usize {
        self.rows[0].slots.len()
    }

    /// Let every row grow; rows with fewer branches than others are filled up with padding.
    ///
    /// The i-th branch of a row gets slot `n_slots() + i`.
    ///
    /// # Panics
    ///
    /// Panics if there is not one list per row, or a parent is not a slot yet.
    pub fn grow(&mut self, branches: &[Vec<Branch>]) {
        assert_eq!(branches.len(), self.batch(), "one list of branches per row");
        let most = branches.iter().map(Vec::len).max().unwrap_or(0);
        for (row, branches) in self.rows.iter_mut().zip(branches) {
            let n_slots = row.slots.len();
            for branch in branches {
                let parent = branch.parent.unwrap_or(row.last_of_prompt);
                let position = row.slots[parent].position + 1;
                row.slots.push(Slot {
                    token: branch.token,
                    node: Some(branch.node),
                    prompt_index: 0,
                    parent: Some(parent),
                    position,
                    is_padding: false,
                });
            }
            row.slots.resize(n_slots + most, Slot::padding());
        }
    }

    /// Lengthen every prompt by the same tokens: a question after a text that was read already.
    ///
    /// # Panics
    ///
    /// Panics if branches have grown, or `tokens` is empty.
    pub fn extend_prompts(&mut self, tokens: &[u32]) {
        assert!(!tokens.is_empty(), "there is nothing to add");
        for row in &mut self.rows {
            assert_eq!(
                row.last_of_prompt + 1,
                row.slots.len(),
                "branches have grown already"
            );
            for &token in tokens {
                let last = row.slots[row.last_of_prompt];
                row.slots.push(Slot {
                    token,
                    prompt_index: last.prompt_index + 1,
                    parent: Some(row.last_of_prompt),
                    position: last.position + 1,
                    ..last
                });
                row.last_of_prompt += 1;
            }
        }
    }

    /// Everything that has not been handed out yet.
    pub fn take(&mut self, device: &Device) -> ForestStep {
        let (batch, n_slots) = (self.batch(), self.n_slots());
        let (n_new, total) = (n_slots - self.n_read, self.n_prefix + n_slots);
        let mut hidden = vec![true; batch * n_new * total];
        for (index, row) in self.rows.iter().enumerate() {
            for slot in self.n_read..n_slots {
                if row.slots[slot].is_padding {
                    continue;
                }
                let start = (index * n_new + slot - self.n_read) * total;
                hidden[start..start + row.prefix].fill(false);
                let mut ancestor = Some(slot);
                while let Some(at) = ancestor {
                    hidden[start + self.n_prefix + at] = false;
                    ancestor = row.slots[at].parent;
                }
            }
        }
        let new = |value: fn(&Slot) -> i64| -> Tensor<2, Int> {
            let values: Vec<i64> = self
                .rows
                .iter()
                .flat_map(|row| row.slots[self.n_read..].iter().map(value))
                .collect();
            Tensor::from_data(TensorData::new(values, [batch, n_new]), device)
        };
        let step = ForestStep {
            tokens: new(|slot| i64::from(slot.token)),
            positions: new(|slot| slot.position as i64),
            mask_attn: Tensor::from_data(TensorData::new(hidden, [batch, n_new, total]), device),
            nodes: self.new_slots().map(|slot| slot.node).collect(),
            prompt_index: self.new_slots().map(|slot| slot.prompt_index).collect(),
        };
        self.n_read = n_slots;
        step
    }

    fn new_slots(&self) -> impl Iterator<Item = &Slot> {
        self.rows.iter().flat_map(|row| &row.slots[self.n_read..])
    }
}

impl Slot {
    /// A filler that nothing sees.
    fn padding() -> Self {
        Self {
            token: 0,
            node: None,
            prompt_index: 0,
            parent: None,
            position: 0,
            is_padding: true,
        }
    }
}
