//! What each strategy trains, to the parameter.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use llm::ranking::Normalisation;
use llm_fusion::{AnswerLoss, Blocks, LoraConfig, TuningStrategy, UserLlm, trained_parameters};

use crate::tiny::{Moved, Tiny, bits, distance, step_targets, three_users, tokens, trie};

const BLOCK: [&str; 9] = [
    "attention_norm.gamma",
    "attention.query.weight",
    "attention.key.weight",
    "attention.value.weight",
    "attention.output.weight",
    "feed_forward_norm.gamma",
    "feed_forward.gate.weight",
    "feed_forward.up.weight",
    "feed_forward.down.weight",
];

const ADAPTERS: [&str; 8] = [
    "attention.query.weight.lora.a",
    "attention.query.weight.lora.b",
    "attention.key.weight.lora.a",
    "attention.key.weight.lora.b",
    "attention.value.weight.lora.a",
    "attention.value.weight.lora.b",
    "attention.output.weight.lora.a",
    "attention.output.weight.lora.b",
];

/// All but `encoder.NextEvent.heads`, which predict events and have no part in an answer.
const ENCODER: [&str; 20] = [
    "embedding.modalities.0.table.weight",
    "embedding.modalities.1.table.weight",
    "embedding.projection.weight",
    "embedding.projection.bias",
    "bos",
    "positions",
    "blocks.0.norm_attention.Layer.gamma",
    "blocks.0.norm_attention.Layer.beta",
    "blocks.0.attention.query_key_value.weight",
    "blocks.0.attention.query_key_value.bias",
    "blocks.0.attention.output.weight",
    "blocks.0.attention.output.bias",
    "blocks.0.norm_feed_forward.Layer.gamma",
    "blocks.0.norm_feed_forward.Layer.beta",
    "blocks.0.feed_forward.inner.weight",
    "blocks.0.feed_forward.inner.bias",
    "blocks.0.feed_forward.outer.weight",
    "blocks.0.feed_forward.outer.bias",
    "norm.Layer.gamma",
    "norm.Layer.beta",
];

const PERCEIVER_LAYER: [&str; 16] = [
    "norm_attention.gamma",
    "norm_attention.beta",
    "attention.query.weight",
    "attention.query.bias",
    "attention.key.weight",
    "attention.key.bias",
    "attention.value.weight",
    "attention.value.bias",
    "attention.output.weight",
    "attention.output.bias",
    "norm_feed_forward.gamma",
    "norm_feed_forward.beta",
    "feed_forward.linear_inner.weight",
    "feed_forward.linear_inner.bias",
    "feed_forward.linear_outer.weight",
    "feed_forward.linear_outer.bias",
];

const PROJECTOR: [&str; 4] = ["norm.gamma", "norm.beta", "linear.weight", "linear.bias"];

const CROSS_ATTENTION: [&str; 10] = [
    "norm.gamma",
    "attention.query.weight",
    "attention.query.bias",
    "attention.key.weight",
    "attention.key.bias",
    "attention.value.weight",
    "attention.value.bias",
    "attention.output.weight",
    "attention.output.bias",
    "gate",
];

/// The paths under some modules.
fn under(modules: &[&str], paths: &[&str]) -> Vec<String> {
    modules
        .iter()
        .flat_map(|m| paths.iter().map(move |path| format!("{m}.{path}")))
        .collect()
}

fn language_model() -> Vec<String> {
    [
        under(&["llm"], &["embedding.weight"]),
        under(&["llm.blocks.0", "llm.blocks.1", "llm.blocks.2"], &BLOCK),
        under(&["llm"], &["norm.gamma", "head.weight"]),
    ]
    .concat()
}

fn adapters() -> Vec<String> {
    under(&["llm.blocks.0", "llm.blocks.1", "llm.blocks.2"], &ADAPTERS)
}

fn encoder() -> Vec<String> {
    under(&["encoder.NextEvent"], &ENCODER)
}

/// Perceiver, projector, and the cross-attention of some blocks.
fn fresh(fused: &[&str]) -> Vec<String> {
    [
        under(
            &["resampler"],
            &["latents", "norm_input.gamma", "norm_input.beta"],
        ),
        under(
            &["resampler.layers.0", "resampler.layers.1"],
            &PERCEIVER_LAYER,
        ),
        under(&["resampler"], &["norm.gamma", "norm.beta"]),
        under(&["projector"], &PROJECTOR),
        under(fused, &CROSS_ATTENTION),
    ]
    .concat()
}

fn apply(strategy: TuningStrategy, tiny: &Tiny) -> UserLlm {
    apply_to(strategy, &Blocks::All, tiny)
}

fn apply_to(strategy: TuningStrategy, blocks: &Blocks, tiny: &Tiny) -> UserLlm {
    let model = tiny.open(&Device::flex().autodiff());
    strategy.apply(model, blocks, &LoraConfig::new().with_rank(2))
}

#[test]
fn these_and_no_other_parameters_receive_a_gradient() {
    let cases = [
        (
            Tiny::cross_attention(Blocks::Upper(2)),
            &["fusion.1", "fusion.2"][..],
        ),
        (Tiny::cross_attention(Blocks::Only(vec![0])), &["fusion.0"]),
        (Tiny::soft_prompt(), &[]),
    ];
    for (tiny, fused) in cases {
        for (strategy, expected) in [
            (
                TuningStrategy::Full,
                [language_model(), encoder(), fresh(fused)].concat(),
            ),
            (
                TuningStrategy::Lora,
                [adapters(), encoder(), fresh(fused)].concat(),
            ),
            (TuningStrategy::Enc, [encoder(), fresh(fused)].concat()),
            (TuningStrategy::Proj, fresh(fused)),
        ] {
            let model = apply(strategy, &tiny);
            let found = gradients(&model);
            let paths: Vec<String> = found.iter().map(|(path, _)| path.clone()).collect();
            assert_eq!(paths, expected, "{strategy:?} {tiny:?}");

            // A key's bias shifts all scores alike and so does nothing; an adapter's first factor
            // waits for the second, which starts at zero.
            for (path, largest) in found {
                let idle = path.ends_with("key.bias") || path.ends_with("lora.a");
                assert!(
                    idle || largest > 1e-6,
                    "{strategy:?} {tiny:?}: {path} {largest}"
                );
            }
        }
    }
}

#[test]
fn of_chosen_blocks_the_language_model_trains_these_and_no_others() {
    let tiny = Tiny::cross_attention(Blocks::Upper(1));
    let others = || [encoder(), fresh(&["fusion.2"])].concat();
    for (strategy, chosen, parts) in [
        (
            TuningStrategy::Full,
            Blocks::Upper(1),
            under(&["llm.blocks.2"], &BLOCK),
        ),
        (
            TuningStrategy::Lora,
            Blocks::Upper(1),
            under(&["llm.blocks.2"], &ADAPTERS),
        ),
        (
            TuningStrategy::Lora,
            Blocks::Only(vec![0, 2]),
            under(&["llm.blocks.0", "llm.blocks.2"], &ADAPTERS),
        ),
        (TuningStrategy::Enc, Blocks::Upper(1), vec![]),
        (TuningStrategy::Proj, Blocks::Upper(1), vec![]),
    ] {
        let expected = match strategy {
            TuningStrategy::Proj => fresh(&["fusion.2"]),
            _ => [parts, others()].concat(),
        };
        let found = gradients(&apply_to(strategy, &chosen, &tiny)).into_iter();
        let found: Vec<String> = found.map(|(path, _)| path).collect();
        assert_eq!(found, expected, "{strategy:?} {chosen:?}");
    }
}

#[test]
fn what_is_below_stays_as_it_is_where_no_chosen_block_is_lower() {
    for (strategy, blocks, lowest, is_frozen) in [
        (TuningStrategy::Enc, Blocks::All, 2, true),
        (TuningStrategy::Lora, Blocks::All, 2, false),
        (TuningStrategy::Lora, Blocks::Upper(1), 2, true),
        (TuningStrategy::Full, Blocks::Upper(2), 2, false),
        (TuningStrategy::Full, Blocks::Only(vec![2]), 2, true),
        (TuningStrategy::Lora, Blocks::Only(vec![2, 0]), 1, false),
        // Below block 0 there are the embeddings.
        (TuningStrategy::Full, Blocks::All, 0, false),
        (TuningStrategy::Lora, Blocks::All, 0, true),
    ] {
        assert_eq!(
            strategy.freezes_below(lowest, &blocks, 3),
            is_frozen,
            "{strategy:?} {blocks:?}"
        );
    }
}

#[test]
#[should_panic(expected = "`tuning.blocks` names no block of a language model with 3")]
fn blocks_that_are_not_there_cannot_train() {
    apply_to(
        TuningStrategy::Lora,
        &Blocks::Only(vec![3]),
        &Tiny::soft_prompt(),
    );
}

#[test]
fn the_parameters_that_train_are_those_that_receive_a_gradient() {
    let tiny = Tiny::cross_attention(Blocks::Upper(2));
    // Worked by hand: Perceiver 1,272, projector 106, two cross-attentions of 307.
    let (language_model, adapters, encoder, fresh) = (4_200, 576, 1_118, 1_272 + 106 + 2 * 307);
    for (strategy, expected) in [
        (TuningStrategy::Full, language_model + encoder + fresh),
        (TuningStrategy::Lora, adapters + encoder + fresh),
        (TuningStrategy::Enc, encoder + fresh),
        (TuningStrategy::Proj, fresh),
    ] {
        let model = apply(strategy, &tiny);
        let trained = trained_parameters(&model);
        let received = gradients(&model).into_iter().map(|(path, _)| path);
        assert!(
            trained
                .iter()
                .map(|(path, _)| path)
                .eq(received.collect::<Vec<_>>().iter())
        );

        let count: usize = trained.iter().map(|(_, count)| count).sum();
        assert_eq!(count, expected, "{strategy:?}");
        assert!(trained_parameters(&model.valid()).is_empty());
    }
}

#[test]
fn an_adapter_is_counted_by_its_two_factors() {
    let model = apply(TuningStrategy::Lora, &Tiny::soft_prompt());
    let adapter: Vec<(String, usize)> = trained_parameters(&model)
        .into_iter()
        .filter(|(path, _)| path.starts_with("llm.blocks.1.attention.key"))
        .collect();
    // From 12 to 2 heads of 4, by rank 2.
    let expected = [("a", 12 * 2), ("b", 2 * 8)];
    let path = |factor| format!("llm.blocks.1.attention.key.weight.lora.{factor}");
    assert_eq!(
        adapter,
        expected.map(|(factor, count)| (path(factor), count))
    );
}

#[test]
fn lora_is_the_identity_at_the_start() {
    for tiny in Tiny::all() {
        let base = tiny.open(&Device::flex().autodiff());
        assert_eq!(
            answer(&apply(TuningStrategy::Lora, &tiny)),
            answer(&base),
            "{tiny:?}"
        );
    }
}

#[test]
fn no_strategy_changes_the_model_before_training() {
    let tiny = Tiny::cross_attention(Blocks::All);
    let base = tiny.open(&Device::flex().autodiff());
    for strategy in [
        TuningStrategy::Full,
        TuningStrategy::Enc,
        TuningStrategy::Proj,
    ] {
        assert_eq!(
            answer(&apply(strategy, &tiny)),
            answer(&base),
            "{strategy:?}"
        );
    }
}

#[test]
fn trained_adapters_can_be_merged_into_the_weights() {
    let model = apply(TuningStrategy::Lora, &Tiny::cross_attention(Blocks::All));
    let moved = model.clone().map(&mut Moved).valid();
    let logits = |model: &UserLlm| {
        model
            .llm
            .forward(tokens(&[&[1, 2, 3]], &model.device()), None)
    };
    let merged = moved.clone().materialize();
    assert!(distance(logits(&merged), logits(&moved)) < 1e-4);
    assert!(distance(logits(&merged), logits(&model.valid())) > 0.01);
    assert!(
        merged.llm.blocks[0]
            .attention
            .query
            .weight
            .adapter()
            .is_none()
    );
}

#[test]
fn what_is_frozen_does_not_drop_out_and_what_trains_does() {
    for (strategy, drops_out) in [
        (TuningStrategy::Full, true),
        (TuningStrategy::Lora, true),
        (TuningStrategy::Enc, true),
        (TuningStrategy::Proj, false),
    ] {
        let mut tiny = Tiny::soft_prompt();
        tiny.dropout = 0.5;
        let model = apply(strategy, &tiny);
        let events = three_users(&model.device());
        let read = || bits(model.read_user(&events).embeddings);
        assert_eq!(read() != read(), drops_out, "{strategy:?}");
    }
}

fn answer(model: &UserLlm) -> Vec<u32> {
    let user = model.read_user(&three_users(&model.device()));
    let text = tokens(&[&[1, 2, 3], &[4, 5, 6], &[7, 8, 9]], &model.device());
    bits(model.forward(text, None, Some(&user)))
}

/// Paths that a step gives a gradient to, each with its largest element.
fn gradients(model: &UserLlm) -> Vec<(String, f32)> {
    struct Gradients {
        path: Vec<String>,
        gradients: GradientsParams,
        found: Vec<(String, f32)>,
    }
    impl ModuleVisitor for Gradients {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.found
                    .push((self.path.join("."), gradient.abs().max().into_scalar()));
            }
        }
    }
    let trie = trie();
    let objective = AnswerLoss {
        trie: &trie,
        normalisation: Normalisation::Trie,
        teacher_weight: 0.0,
    };
    let user = model.read_user(&three_users(&model.device()));
    let loss = objective.forward(model, &user, &step_targets(), None);
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let mut visitor = Gradients {
        path: Vec::new(),
        gradients,
        found: Vec::new(),
    };
    model.visit(&mut visitor);
    visitor.found
}
