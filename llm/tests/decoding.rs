//! Laws of the decoder: how tokens are given must not matter, only what they are.

mod common;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Bool, Device, Int, Tensor, TensorData, s},
};
use common::{TINY, distance, fixture, tiny, tokens};
use llm::{LanguageModel, generate::Decode, load::load};

const TOKENS: [u32; 9] = [3, 14, 15, 92, 65, 35, 89, 79, 32];

/// A batch with `lengths` of the [`TOKENS`] in its rows, behind padding made of `pad`.
fn padded_left(lengths: &[usize], pad: u32, device: &Device) -> (Tensor<2, Int>, Tensor<2, Bool>) {
    let width = *lengths.iter().max().unwrap();
    let rows: Vec<i64> = lengths
        .iter()
        .flat_map(|n| {
            let padding = std::iter::repeat_n(pad, width - n);
            padding.chain(TOKENS[..*n].iter().copied()).map(i64::from)
        })
        .collect();
    let hidden: Vec<bool> = lengths
        .iter()
        .flat_map(|n| (0..width).map(move |at| at < width - n))
        .collect();
    let shape = [lengths.len(), width];
    (
        Tensor::from_data(TensorData::new(rows, shape), device),
        Tensor::from_data(TensorData::new(hidden, shape), device),
    )
}

/// Logits of the first `n` [`TOKENS`], all at once.
fn alone(model: &LanguageModel, n: usize) -> Tensor<3> {
    model.forward(tokens(&TOKENS[..n], &model.device()), None)
}

#[test]
fn a_row_of_a_left_padded_batch_is_as_if_alone_whatever_the_padding_is_made_of() {
    let lengths = [9, 4, 1, 6];
    for name in TINY {
        let model = tiny(name).model;
        for pad in [0, 77] {
            let (batch, mask_pad) = padded_left(&lengths, pad, &model.device());
            let logits = model.forward(batch, Some(mask_pad));
            for (row, n) in lengths.into_iter().enumerate() {
                let found = logits.clone().slice([row..row + 1, 9 - n..9]);
                assert!(
                    distance(found, alone(&model, n)) < 1e-4,
                    "{name}, row {row}"
                );
            }
        }
    }
}

#[test]
fn padding_on_the_right_or_in_the_middle_changes_nothing_either() {
    let model = tiny("tiny-llama").model;
    let device = model.device();
    let batch = Tensor::from_data([[3, 50, 14, 15, 50, 50]], &device);
    let mask_pad = Tensor::from_data([[false, true, false, false, true, true]], &device);

    let logits = model.forward(batch, Some(mask_pad)).slice([0..1, 2..4]);
    assert!(distance(logits, alone(&model, 3).slice([0..1, 1..3])) < 1e-4);
}

#[test]
fn decoding_with_a_cache_is_decoding_without() {
    let lengths = [5, 2, 9];
    let width = 9;
    for name in TINY {
        let model = tiny(name).model;
        let (batch, mask_pad) = padded_left(&lengths, 0, &model.device());
        let whole = model.forward(batch.clone(), Some(mask_pad.clone()));

        // Once token by token, once a prompt with steps of several sizes after it.
        for steps in [vec![1; width], vec![4, 1, 3, 1]] {
            let mut cache = model.new_cache();
            let mut parts = Vec::new();
            for n_new in steps {
                let n_cached = cache.len();
                let seen = 0..n_cached + n_new;
                let mask_pad = mask_pad.clone().slice([0..3, seen.clone()]);
                let plan = model.plan_causal(3, n_new, n_cached, Some(mask_pad));
                let new = batch.clone().slice([0..3, n_cached..seen.end]);
                parts.push(model.logits(model.forward_cached(new, &plan, &mut cache)));
            }
            let cached = Tensor::cat(parts, 1);

            // What stands at padding is nobody's business.
            for (row, n) in lengths.into_iter().enumerate() {
                let real = [row..row + 1, width - n..width];
                let distance = distance(
                    cached.clone().slice(real.clone()),
                    whole.clone().slice(real),
                );
                assert!(distance < 1e-4, "{name}, row {row}: {distance}");
            }
        }
    }
}

#[test]
fn the_decoder_gives_the_logits_after_its_last_token() {
    let model = tiny("tiny-qwen2").model;
    let mut decoder = model.decoder();
    for (end, new) in [(3, &TOKENS[..3]), (4, &TOKENS[3..4]), (9, &TOKENS[4..])] {
        let logits = decoder.push(new);
        let expected = alone(&model, end).slice([0..1, end - 1..end]).flatten(0, 2);
        assert!(distance(logits, expected) < 1e-4);
    }
}

#[test]
fn a_future_token_cannot_change_the_past() {
    let model = tiny("tiny-llama").model;
    let device = model.device();
    let mut changed = TOKENS;
    changed[6] = 1;

    let past = |ids: &[u32]| {
        model
            .forward(tokens(ids, &device), None)
            .slice([0..1, 0..6])
    };
    past(&changed)
        .into_data()
        .assert_eq(&past(&TOKENS).into_data(), true);
    let future = |ids: &[u32]| {
        model
            .forward(tokens(ids, &device), None)
            .slice([0..1, 6..9])
    };
    assert!(distance(future(&changed), future(&TOKENS)) > 1e-2);
}

#[test]
fn branches_of_a_tree_are_as_if_each_were_a_sequence_of_its_own() {
    // After a prompt of three: 10 with the children 11 and 12, and 20 with the child 21.
    //
    //   index   0  1  2  3  4
    //   token  10 11 12 20 21
    let tree = [10, 11, 12, 20, 21];
    let parents: [Option<usize>; 5] = [None, Some(0), Some(0), None, Some(3)];
    let prompt = &TOKENS[..3];

    for name in TINY {
        let model = tiny(name).model;
        let device = model.device();
        let mut cache = model.new_cache();
        let plan = model.plan_causal(1, 3, 0, None);
        model.forward_cached(tokens(prompt, &device), &plan, &mut cache);

        let path = |mut node: usize| {
            let mut path = vec![node];
            while let Some(parent) = parents[node] {
                path.insert(0, parent);
                node = parent;
            }
            path
        };
        let positions: Vec<i64> = (0..5).map(|node| 2 + path(node).len() as i64).collect();
        let hidden: Vec<bool> = (0..5)
            .flat_map(|node| (0..8).map(move |key| (node, key)))
            .map(|(node, key)| key >= 3 && !path(node).contains(&(key - 3)))
            .collect();
        let plan = model.plan(
            Tensor::from_data(TensorData::new(positions, [1, 5]), &device),
            Some(Tensor::from_data(
                TensorData::new(hidden, [1, 5, 8]),
                &device,
            )),
        );
        let logits = model.logits(model.forward_cached(tokens(&tree, &device), &plan, &mut cache));

        for node in 0..5 {
            let branch = path(node).into_iter().map(|node| tree[node]);
            let sequence: Vec<u32> = prompt.iter().copied().chain(branch).collect();
            let n = sequence.len();
            let expected = model
                .forward(tokens(&sequence, &device), None)
                .slice([0..1, n - 1..n]);
            let found = logits.clone().slice([0..1, node..node + 1]);
            assert!(distance(found, expected) < 1e-4, "{name}, node {node}");
        }
    }
}

#[test]
fn a_cache_can_be_cut_back_and_repeated_to_try_other_continuations() {
    let model = tiny("tiny-llama").model;
    let device = model.device();
    let mut cache = model.new_cache();
    let plan = model.plan_causal(1, 5, 0, None);
    model.forward_cached(tokens(&TOKENS[..5], &device), &plan, &mut cache);

    cache.truncate(3);
    cache.select(Tensor::from_data([0, 0], &device));
    let plan = model.plan_causal(2, 1, 3, None);
    let next = Tensor::from_data([[TOKENS[3]], [40]], &device);
    let logits = model.logits(model.forward_cached(next, &plan, &mut cache));

    for (row, next) in [TOKENS[3], 40].into_iter().enumerate() {
        let sequence = [&TOKENS[..3], &[next]].concat();
        let expected = model
            .forward(tokens(&sequence, &device), None)
            .slice([0..1, 3..4]);
        assert!(distance(logits.clone().slice(s![row]), expected) < 1e-4);
    }
}

#[test]
fn rows_of_the_head_give_the_logits_of_their_tokens() {
    for name in TINY {
        let model = tiny(name).model;
        let device = model.device();
        let chosen = Tensor::<1, Int>::from_data([95, 4, 4, 17], &device);
        let hidden = model.embed(tokens(&TOKENS, &device));

        let all = model.logits(hidden.clone()).select(2, chosen.clone());
        let rows = model.head_rows(chosen).transpose().unsqueeze::<3>();
        let some = model.normalise(hidden).matmul(rows);
        assert!(distance(some, all) < 1e-5, "{name}");
    }
}

/// Names of the parameters of a module, and of those that a backward pass gave a gradient.
fn parameters(model: &LanguageModel, gradients: &burn::tensor::Gradients) -> [Vec<String>; 2] {
    struct Names<'a>(&'a burn::tensor::Gradients, Vec<String>, [Vec<String>; 2]);
    impl ModuleVisitor for Names<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.1.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.1.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.2[0].push(self.1.join("."));
            if param.val().grad(self.0).is_some() {
                self.2[1].push(self.1.join("."));
            }
        }
    }
    let mut names = Names(gradients, Vec::new(), Default::default());
    model.visit(&mut names);
    names.2
}

#[test]
fn every_weight_learns_unless_frozen_and_then_only_what_comes_in_does() {
    for name in TINY {
        let device = Device::flex().autodiff();
        let loaded = load(&fixture(name), &device).unwrap();
        let (model, config) = (loaded.model, loaded.config);
        let loss = model
            .forward(tokens(&TOKENS, &device), None)
            .powi_scalar(2)
            .mean();
        let [all, learning] = parameters(&model, &loss.backward());
        assert_eq!(all, learning, "{name}");
        let in_block = 9 + 3 * usize::from(config.qkv_bias) + 2 * usize::from(config.qk_norm);
        // Embedding, norm and perhaps a head.
        let n = config.n_layers * in_block + 2 + usize::from(!config.tied_head);
        assert_eq!(all.len(), n, "the rotary angles are no parameter");
        assert!(
            all.contains(&"blocks.1.attention.query.weight".to_string()),
            "{all:?}"
        );

        let frozen = model.freeze();
        let input = frozen
            .embed(tokens(&TOKENS, &device))
            .detach()
            .require_grad();
        let plan = frozen.plan_causal(1, TOKENS.len(), 0, None);
        let hidden = frozen.blocks.iter().fold(input.clone(), |hidden, block| {
            block.feed_forward(block.attend(hidden, &plan, None))
        });
        let gradients = frozen.logits(hidden).powi_scalar(2).mean().backward();
        let [_, learning] = parameters(&frozen, &gradients);
        assert!(learning.is_empty(), "{learning:?}");
        let gradient = input
            .grad(&gradients)
            .unwrap()
            .abs()
            .min()
            .into_scalar::<f32>();
        assert!(gradient.is_finite() && gradient > 0.0);
    }
}

#[test]
fn training_computes_the_same_as_inference() {
    let model = tiny("tiny-llama").model;
    let device = Device::flex().autodiff();
    let (batch, mask_pad) = padded_left(&[9, 3], 0, &device);
    let training = model.clone().train().forward(batch, Some(mask_pad)).inner();
    let (batch, mask_pad) = padded_left(&[9, 3], 0, &model.device());
    assert!(distance(training, model.forward(batch, Some(mask_pad))) < 1e-4);
}

#[test]
fn a_long_prompt_that_is_read_in_parts_gives_the_logits_of_one_pass() {
    let model = tiny(TINY[0]).model;
    let n = 2 * llm::PREFILL_PART as u32 + 31;
    let long: Vec<u32> = (0..n).map(|at| (at * 7 + at / 5) % 90).collect();
    let in_parts = model.decoder().push(&long);
    let at_once = model.forward(tokens(&long, &model.device()), None);
    let at_once = at_once.slice([0..1, n as usize - 1..n as usize]);
    assert!(distance(in_parts.reshape([1, 1, -1]), at_once) < 1e-4);
}
