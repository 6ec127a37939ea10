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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::tiny::{assert_close, floats, model, prompts};
    use crate::ranking::{CachedReader, ReadForest};

    fn branch(token: u32, parent: Option<usize>) -> Branch {
        Branch {
            token,
            node: 0,
            parent,
        }
    }

    /// The state of one slot of a step.
    fn state(hidden: &Tensor<3>, row: usize, slot: usize) -> Vec<f32> {
        let [_, _, d_model] = hidden.dims();
        floats(
            hidden
                .clone()
                .slice([row..row + 1, slot..slot + 1, 0..d_model]),
        )
    }

    /// The state after the last token of a text, read alone.
    fn after(text: &[u32]) -> Vec<f32> {
        let model = model();
        let step = TokenForest::new(&[text.to_vec()]).take(&Device::flex());
        state(&CachedReader::new(&model).read(&step), 0, text.len() - 1)
    }

    #[test]
    fn a_token_sees_its_ancestors_and_stands_behind_them() {
        // "1 2", then 5 and 6 side by side, then 7 after 5; behind a soft prompt of one real
        // embedding of two.
        let mut forest = TokenForest::with_prefix(&[vec![1, 2]], 2, &[1]);
        forest.grow(&[vec![branch(5, None), branch(6, None), branch(7, Some(2))]]);
        let step = forest.take(&Device::flex());

        let tokens: Vec<i64> = step.tokens.into_data().iter().collect();
        let positions: Vec<i64> = step.positions.into_data().iter().collect();
        assert_eq!(tokens, [1, 2, 5, 6, 7]);
        assert_eq!(positions, [1, 2, 3, 3, 4]);
        assert_eq!(step.prompt_index, [0, 1, 0, 0, 0]);
        let shown: Vec<i32> = step
            .mask_attn
            .bool_not()
            .int()
            .into_data()
            .iter::<i32>()
            .collect();
        assert_eq!(
            shown,
            [
                [1, 0, 1, 0, 0, 0, 0],
                [1, 0, 1, 1, 0, 0, 0],
                [1, 0, 1, 1, 1, 0, 0],
                [1, 0, 1, 1, 0, 1, 0],
                [1, 0, 1, 1, 1, 0, 1],
            ]
            .concat()
        );
    }

    #[test]
    fn branches_of_a_row_do_not_see_each_other() {
        let model = model();
        let read = |neighbour: u32| {
            let mut forest = TokenForest::new(&[vec![1, 2, 3]]);
            forest.grow(&[vec![
                branch(neighbour, None),
                branch(5, None),
                branch(neighbour, Some(3)),
                branch(6, Some(4)),
            ]]);
            CachedReader::new(&model).read(&forest.take(&Device::flex()))
        };
        let hidden = read(7);
        assert_close(&state(&hidden, 0, 6), &after(&[1, 2, 3, 5, 6]), 1e-5);
        assert_close(&state(&hidden, 0, 5), &after(&[1, 2, 3, 7, 7]), 1e-5);
        assert_eq!(state(&read(8), 0, 6), state(&hidden, 0, 6));
        assert_ne!(state(&read(8), 0, 5), state(&hidden, 0, 5));
    }

    #[test]
    fn a_batch_with_left_padding_is_read_as_each_prompt_alone() {
        let model = model();
        let mut forest = TokenForest::new(&prompts());
        let mut reader = CachedReader::new(&model);
        let hidden = reader.read(&forest.take(&Device::flex()));
        for (row, prompt) in prompts().iter().enumerate() {
            assert_close(&state(&hidden, row, 4), &after(prompt), 1e-5);
        }

        // Rows that grow unevenly, twice.
        forest.grow(&[
            vec![branch(9, None)],
            vec![],
            vec![branch(7, None), branch(8, None)],
        ]);
        reader.read(&forest.take(&Device::flex()));
        forest.grow(&[
            vec![branch(5, Some(5))],
            vec![branch(6, None)],
            vec![branch(5, Some(6))],
        ]);
        let hidden = reader.read(&forest.take(&Device::flex()));
        assert_close(&state(&hidden, 0, 0), &after(&[1, 2, 3, 9, 5]), 1e-5);
        assert_close(&state(&hidden, 1, 0), &after(&[4, 6]), 1e-5);
        assert_close(&state(&hidden, 2, 0), &after(&[2, 2, 1, 4, 3, 8, 5]), 1e-5);
    }

    #[test]
    fn what_is_added_to_the_prompts_is_read_as_part_of_them() {
        let model = model();
        let mut forest = TokenForest::new(&prompts());
        let mut reader = CachedReader::new(&model);
        reader.read(&forest.take(&Device::flex()));
        forest.extend_prompts(&[9, 8]);
        let step = forest.take(&Device::flex());
        assert_eq!(step.prompt_index, [3, 4, 1, 2, 5, 6]);
        let hidden = reader.read(&step);
        for (row, prompt) in prompts().iter().enumerate() {
            let text = [prompt.as_slice(), &[9, 8]].concat();
            assert_close(&state(&hidden, row, 1), &after(&text), 1e-5);
        }

        forest.grow(&vec![vec![branch(5, None)]; 3]);
        let hidden = reader.read(&forest.take(&Device::flex()));
        assert_close(&state(&hidden, 1, 0), &after(&[4, 9, 8, 5]), 1e-5);
    }

    #[test]
    #[should_panic(expected = "a prompt has no token")]
    fn an_empty_prompt_is_refused() {
        TokenForest::new(&[vec![1], vec![]]);
    }

    #[test]
    #[should_panic(expected = "branches have grown already")]
    fn a_prompt_cannot_be_lengthened_under_its_branches() {
        let mut forest = TokenForest::new(&[vec![1]]);
        forest.grow(&[vec![branch(5, None)]]);
        forest.extend_prompts(&[2]);
    }
}
