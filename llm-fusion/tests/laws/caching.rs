//! Reading with a cache is reading without.

use burn::tensor::{Device, Tensor};
use llm::generate::Decode;
use llm::ranking::{Branch, ReadForest};
use llm_fusion::{UserDecoder, UserLlm, UserReader};

use crate::tiny::{Tiny, distance, histories, prompts, three_users, tokens};

const ROWS: [&[i64]; 3] = [&[2, 3, 4, 5], &[6], &[7, 8]];

/// Logits after a text for one user, by a plain pass.
fn after(model: &UserLlm, row: usize, text: &[u32]) -> Tensor<1> {
    let device = model.device();
    let user = model.read_user(&histories(&[ROWS[row]], ROWS[row].len(), &device));
    let logits = model.forward(tokens(&[text], &device), None, Some(&user));
    logits
        .slice([0..1, text.len() - 1..text.len()])
        .flatten(0, 2)
}

/// Logits of one slot.
fn logits(model: &UserLlm, hidden: &Tensor<3>, row: usize, slot: usize) -> Tensor<1> {
    let [_, _, d_model] = hidden.dims();
    let state = hidden
        .clone()
        .slice([row..row + 1, slot..slot + 1])
        .reshape([1, d_model]);
    model.llm.head_logits(state).flatten(0, 1)
}

#[test]
fn a_decoder_gives_token_by_token_what_a_whole_pass_gives() {
    let device = Device::flex();
    let text: Vec<u32> = (0..64).map(|n| n * 7 % 23).collect();
    // A prompt, then one token at a time, then a few at once, then one at a time again.
    let steps: Vec<usize> = [vec![3], vec![1; 20], vec![5, 2], vec![1; 34]].concat();
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let user = model.read_user(&histories(&[&[2, 3, 4]], 3, &device));
        for user in [None, Some(&user)] {
            let whole = model.forward(tokens(&[&text], &device), None, user);
            let mut decoder = UserDecoder::new(&model, user);
            let mut n_read = 0;
            for &n_new in &steps {
                let logits = decoder.push(&text[n_read..n_read + n_new]);
                n_read += n_new;
                let expected = whole
                    .clone()
                    .slice([0..1, n_read - 1..n_read])
                    .flatten(0, 2);
                assert!(distance(logits, expected) < 1e-4, "{tiny:?} at {n_read}");
            }
        }
    }
}

#[test]
fn a_prompt_that_is_read_in_parts_is_a_prompt_that_is_read_at_once() {
    let device = Device::flex();
    let n = llm::PREFILL_PART as u32 + 31;
    let text: Vec<u32> = (0..n).map(|n| n * 7 % 23).collect();
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let user = model.read_user(&histories(&[&[2, 3, 4]], 3, &device));
        let whole = model.forward(tokens(&[&text], &device), None, Some(&user));
        let last = whole.slice([0..1, text.len() - 1..text.len()]);
        let logits = UserDecoder::new(&model, Some(&user)).push(&text);
        assert!(distance(logits, last.flatten(0, 2)) < 1e-4, "{tiny:?}");
    }
}

#[test]
#[should_panic(expected = "one user without padding at a time")]
fn a_decoder_takes_one_user() {
    let device = Device::flex();
    let model = Tiny::soft_prompt().open(&device);
    let user = model.read_user(&three_users(&device));
    let _ = UserDecoder::new(&model, Some(&user));
}

#[test]
fn a_reader_gives_step_by_step_what_a_whole_forest_gives_and_each_user_alone() {
    let device = Device::flex();
    let branch = |token, parent| Branch {
        token,
        node: 0,
        parent,
    };
    // All prompts are five slots long; two branches grow, then one more from each.
    let first = vec![branch(5, None), branch(8, None)];
    let second = vec![branch(10, Some(6)), branch(6, Some(5))];
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let user = model.read_user(&three_users(&device));

        let mut forest = model.forest(&prompts(), &user);
        forest.grow(&vec![first.clone(); 3]);
        forest.grow(&vec![second.clone(); 3]);
        let whole = model.forward_forest(&forest.take(&device), &user, None);

        let mut reader = UserReader::new(&model, &user, None);
        let mut forest = reader.forest(&prompts());
        let mut steps = vec![reader.read(&forest.take(&device))];
        for branches in [&first, &second] {
            forest.grow(&vec![branches.clone(); 3]);
            steps.push(reader.read(&forest.take(&device)));
        }
        let steps = Tensor::cat(steps, 1);

        for (row, prompt) in prompts().iter().enumerate() {
            for (slot, end) in [
                (4, &[][..]),
                (5, &[5]),
                (6, &[8]),
                (7, &[8, 10]),
                (8, &[5, 6]),
            ] {
                let expected = after(&model, row, &[prompt.as_slice(), end].concat());
                for hidden in [&whole, &steps] {
                    let change = distance(logits(&model, hidden, row, slot), expected.clone());
                    assert!(change < 1e-4, "{tiny:?}, user {row}, slot {slot}: {change}");
                }
            }
        }
    }
}
