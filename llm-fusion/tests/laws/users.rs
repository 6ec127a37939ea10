//! Who influences what: users, padding, order.

use burn::tensor::{Bool, Device, Tensor};
use llm_fusion::{Blocks, UserEmbeddings, UserLlm};
use user_encoder::EventBatch;

use crate::tiny::{
    Tiny, VOCAB_SIZE, bits, distance, floats, histories, prompts, three_users, tokens,
};

fn cross_attention() -> Tiny {
    Tiny::cross_attention(Blocks::Upper(2)).without_perceiver()
}

fn logits(model: &UserLlm, text: &[u32], history: &EventBatch) -> Tensor<3> {
    let user = model.read_user(history);
    model.forward(tokens(&[text], &model.device()), None, Some(&user))
}

/// Fused cross-attention elsewhere became causal without anyone noticing (transformers #48172).
#[test]
fn the_last_user_embedding_influences_the_first_text_token() {
    let device = Device::flex();
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let first = |history: &[i64]| {
            let length = history.len();
            logits(&model, &[1, 2, 3], &histories(&[history], length, &device)).slice([0..1, 0..1])
        };
        // The encoder is causal: the first five embeddings of the two users are the same.
        let change = distance(first(&[2, 3, 4, 5, 6, 7]), first(&[2, 3, 4, 5, 6, 12]));
        assert!(change > 1e-4, "{tiny:?}: {change}");
    }
}

#[test]
fn text_stays_causal_with_a_user() {
    let device = Device::flex();
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let past = |last: u32| {
            let text = logits(&model, &[1, 2, 3, last], &histories(&[&[2, 3]], 2, &device));
            bits(text.slice([0..1, 0..3]))
        };
        assert_eq!(past(4), past(9), "{tiny:?}");
    }
}

#[test]
fn cross_attention_does_not_see_the_order_of_user_embeddings_and_a_soft_prompt_does() {
    let device = Device::flex();
    for (tiny, sees_order) in [
        (cross_attention(), false),
        (Tiny::soft_prompt().without_perceiver(), true),
    ] {
        let model = tiny.open(&device);
        let user = model.read_user(&histories(&[&[2, 3, 4, 5, 6]], 5, &device));
        let turned = UserEmbeddings {
            embeddings: user.embeddings.clone().flip([1]),
            ..user.clone()
        };
        let text = tokens(&[&[1, 2, 3]], &device);
        let change = distance(
            model.forward(text.clone(), None, Some(&user)),
            model.forward(text, None, Some(&turned)),
        );
        assert_eq!(change > 1e-4, sees_order, "{tiny:?}: {change}");
    }
}

#[test]
fn padding_of_a_history_influences_nothing() {
    let device = Device::flex();
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let read = |length| {
            logits(
                &model,
                &[1, 2, 3],
                &histories(&[&[2, 3, 4]], length, &device),
            )
        };
        let change = distance(read(3), read(7));
        assert!(change < 1e-5, "{tiny:?}: {change}");
    }
}

#[test]
fn what_stands_in_padded_user_embeddings_influences_nothing() {
    let device = Device::flex();
    for tiny in [cross_attention(), Tiny::soft_prompt().without_perceiver()] {
        let model = tiny.open(&device);
        let user = model.read_user(&histories(&[&[2, 3]], 4, &device));
        let [batch, n, d_user] = user.embeddings.dims();
        let loud = Tensor::full([batch, n - 2, d_user], 30.0, &device);
        let changed = UserEmbeddings {
            embeddings: Tensor::cat(vec![user.embeddings.clone().slice([0..1, 0..2]), loud], 1),
            ..user.clone()
        };
        let text = tokens(&[&[1, 2, 3]], &device);
        let change = distance(
            model.forward(text.clone(), None, Some(&user)),
            model.forward(text, None, Some(&changed)),
        );
        assert!(change < 1e-5, "{tiny:?}: {change}");
    }
}

#[test]
fn a_batch_of_users_with_padded_prompts_is_read_as_each_user_alone() {
    let device = Device::flex();
    let rows: [&[i64]; 3] = [&[2, 3, 4, 5], &[6], &[7, 8]];
    let longest = 5;
    let padded: Vec<Vec<u32>> = prompts()
        .iter()
        .map(|p| [vec![0; longest - p.len()], p.clone()].concat())
        .collect();
    let padded: Vec<&[u32]> = padded.iter().map(Vec::as_slice).collect();
    let mask: Vec<[bool; 5]> = prompts()
        .iter()
        .map(|prompt| std::array::from_fn(|at| at < longest - prompt.len()))
        .collect();
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let user = model.read_user(&three_users(&device));
        let mask = Tensor::<2, Bool>::from_data([mask[0], mask[1], mask[2]], &device);
        let batch = model.forward(tokens(&padded, &device), Some(mask), Some(&user));
        for (row, prompt) in prompts().iter().enumerate() {
            let alone = logits(
                &model,
                prompt,
                &histories(&[rows[row]], rows[row].len(), &device),
            );
            let real = batch
                .clone()
                .slice([row..row + 1, longest - prompt.len()..longest]);
            let change = distance(real, alone);
            assert!(change < 2e-5, "{tiny:?}: {change}");
        }
    }
}

#[test]
fn a_user_without_a_past_is_answered_too() {
    let device = Device::flex();
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let user = model.read_user(&histories(&[&[], &[2, 3]], 2, &device));
        let output = model.forward(
            tokens(&[&[1, 2, 3], &[1, 2, 3]], &device),
            None,
            Some(&user),
        );
        assert_eq!(output.dims(), [2, 3, VOCAB_SIZE]);
        assert!(
            floats(output).iter().all(|logit| logit.is_finite()),
            "{tiny:?}"
        );
    }
}
