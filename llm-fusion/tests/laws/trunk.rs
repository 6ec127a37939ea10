//! What all users share may be computed once: it changes nothing.

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use llm::ranking::{
    BeamConfig, Branch, Normalisation, Ranked, TokenTrie, beam_search, log_likelihoods,
};
use llm_fusion::{
    AnswerLoss, AnswerTargets, Blocks, LoraConfig, Trunk, TuningStrategy, UserLlm, UserReader,
};

use crate::tiny::{END, Tiny, distance, floats, step_targets, three_users, trie};

const PROMPT: [u32; 3] = [1, 2, 3];

fn models(device: &Device) -> Vec<UserLlm> {
    let blocks = [
        Blocks::All,
        Blocks::Upper(1),
        Blocks::Upper(2),
        Blocks::Only(vec![1]),
        Blocks::Only(vec![0, 2]),
    ];
    let tinies = blocks.map(Tiny::cross_attention);
    tinies
        .iter()
        .map(|tiny| tiny.clone().without_perceiver().open(device))
        .collect()
}

/// 700 titles, many more open nodes than fit into one pass.
fn many() -> TokenTrie {
    let titles: Vec<Vec<u32>> = (0..700)
        .map(|n| vec![5 + n % 13, 5 + n / 13 % 9, 5 + n / 117 % 3, 5 + n / 351])
        .collect();
    TokenTrie::new(&titles, END).expect("the titles differ")
}

/// The same in a template, whose words all answers begin with.
fn templated() -> TokenTrie {
    let titles: Vec<Vec<u32>> = (0..700)
        .map(|n| {
            vec![
                3,
                4,
                5 + n % 13,
                5 + n / 13 % 9,
                5 + n / 117 % 3,
                5 + n / 351,
            ]
        })
        .collect();
    TokenTrie::new(&titles, END).expect("the titles differ")
}

#[test]
fn states_above_a_trunk_are_the_states_without() {
    let device = Device::flex();
    let trie = trie();
    // "5" and "5 6" are open, and so is "8".
    let five = trie.path_of(2)[0];
    let (six, eight) = (trie.path_of(2)[1], trie.path_of(0)[0]);
    for model in models(&device) {
        let trunk = model.trunk(&PROMPT, &trie);
        let user = model.read_user(&three_users(&device));
        let mut forest = model.forest(&vec![PROMPT.to_vec(); 3], &user);
        let branch = |node, parent| Branch {
            token: trie.node(node).token,
            node,
            parent,
        };
        forest.grow(&[
            vec![
                branch(five, None),
                branch(six, Some(3)),
                branch(eight, None),
            ],
            vec![branch(eight, None)],
            vec![branch(five, None)],
        ]);
        let step = forest.take(&device);
        let with = model.forward_forest(&step, &user, Some(&trunk));
        let without = model.forward_forest(&step, &user, None);
        // The first row has no padding; of the others, the prompt and one branch are real.
        for (row, n_real) in [(0, 6), (1, 4), (2, 4)] {
            let real = |hidden: &Tensor<3>| hidden.clone().slice([row..row + 1, 0..n_real]);
            assert!(distance(real(&with), real(&without)) < 1e-5);
        }
    }
}

#[test]
fn a_beam_above_a_trunk_gives_the_same_answers() {
    let device = Device::flex();
    for trie in [trie(), many(), templated()] {
        for model in models(&device) {
            let trunk = model.trunk(&PROMPT, &trie);
            let user = model.read_user(&three_users(&device));
            let search = |trunk: Option<&Trunk>| -> Vec<Vec<Ranked>> {
                let mut reader = UserReader::new(&model, &user, trunk);
                let forest = reader.forest(&vec![PROMPT.to_vec(); 3]);
                let config = BeamConfig {
                    width: 20,
                    k: 10,
                    normalisation: Normalisation::Trie,
                };
                beam_search(
                    &mut reader,
                    forest,
                    &trie,
                    &[vec![], vec![2], vec![0, 1]],
                    &config,
                )
            };
            for (with, without) in search(Some(&trunk)).iter().zip(search(None)) {
                assert_eq!(with.len(), without.len());
                for (with, without) in with.iter().zip(without) {
                    assert_eq!(with.sequence, without.sequence);
                    assert!((with.log_likelihood - without.log_likelihood).abs() < 1e-4);
                }
            }
        }
    }
}

#[test]
fn likelihoods_above_a_trunk_are_the_same() {
    let device = Device::flex();
    let trie = trie();
    for model in models(&device) {
        let trunk = model.trunk(&PROMPT, &trie);
        let user = model.read_user(&three_users(&device));
        let score = |trunk: Option<&Trunk>| {
            let mut reader = UserReader::new(&model, &user, trunk);
            let forest = reader.forest(&vec![PROMPT.to_vec(); 3]);
            let all = [0, 1, 2, 3, 4, 5];
            log_likelihoods(&mut reader, forest, &trie, &all, Normalisation::Trie).concat()
        };
        for (with, without) in score(Some(&trunk)).iter().zip(score(None)) {
            assert!((with - without).abs() < 1e-4, "{with} is not {without}");
        }
    }
}

#[test]
fn the_loss_above_a_trunk_is_the_same_and_so_are_its_gradients() {
    let device = Device::flex().autodiff();
    let trie = trie();
    let objective = AnswerLoss {
        trie: &trie,
        normalisation: Normalisation::Trie,
        teacher_weight: 0.0,
    };
    // The uppermost block may train: nothing that is shared lies above it.
    let strategies = [
        TuningStrategy::Enc,
        TuningStrategy::Lora,
        TuningStrategy::Full,
    ];
    let cases = strategies
        .into_iter()
        .flat_map(|strategy| models(&device).into_iter().map(move |it| (strategy, it)));
    for (strategy, model) in cases {
        let blocks = Blocks::Upper(1);
        assert!(strategy.freezes_below(model.lowest_fused(), &blocks, 3));
        let model = strategy.apply(model, &blocks, &LoraConfig::new().with_rank(2));
        let trunk = model.trunk(&PROMPT, &trie);
        let run = |trunk: Option<&Trunk>| {
            let targets = AnswerTargets {
                prompts: vec![PROMPT.to_vec(); 3],
                ..step_targets()
            };
            let user = model.read_user(&three_users(&device));
            let loss = objective.forward(&model, &user, &targets, trunk);
            let value = loss.clone().into_scalar::<f32>();
            let gradients = loss.backward();
            let gate = model
                .fusion
                .iter()
                .flatten()
                .next()
                .expect("a block is fused");
            let gate = gate.gate.as_ref().expect("it is gated").val();
            let mut found = vec![value];
            found.extend(floats(gate.grad(&gradients).expect("gates train")));
            let query = &model.llm.blocks[2].attention.query.weight;
            let trained = match query.adapter() {
                Some(adapter) => adapter.b.val().grad(&gradients),
                None => query.val().grad(&gradients),
            };
            assert_eq!(trained.is_some(), !strategy.freezes_language_model());
            found.extend(trained.map(floats).unwrap_or_default());
            found
        };
        let (with, without) = (run(Some(&trunk)), run(None));
        for (with, without) in with.iter().zip(&without) {
            assert!(
                (with - without).abs() < 1e-5,
                "{strategy:?}: {with} is not {without}"
            );
        }
    }
}

#[test]
fn a_trunk_made_for_training_serves_evaluation_and_the_other_way_round() {
    let trie = trie();
    let tiny = Tiny::cross_attention(Blocks::Upper(1));
    let training = TuningStrategy::Enc.apply(
        tiny.open(&Device::flex().autodiff()),
        &Blocks::All,
        &LoraConfig::new(),
    );
    let evaluation = training.valid();
    let states = |model: &UserLlm, trunk: &Trunk| {
        let user = model.read_user(&three_users(&model.device()));
        let step = model
            .forest(&vec![PROMPT.to_vec(); 3], &user)
            .take(&model.device());
        model.forward_forest(&step, &user, Some(trunk))
    };
    let (of_training, of_evaluation) = (
        training.trunk(&PROMPT, &trie),
        evaluation.trunk(&PROMPT, &trie),
    );
    let expected = states(&evaluation, &of_evaluation);
    for trunk in [&of_training, &of_evaluation] {
        let evaluated = states(&evaluation, trunk);
        assert!(
            !evaluated.is_autodiff(),
            "evaluation is tracked for gradients"
        );
        assert!(distance(evaluated, expected.clone()) < 1e-5);
        assert!(distance(states(&training, trunk).inner(), expected.clone()) < 1e-5);
    }
}

#[test]
fn the_lowest_fused_block_says_how_much_is_shared() {
    let lowest: Vec<usize> = models(&Device::flex())
        .iter()
        .map(UserLlm::lowest_fused)
        .collect();
    assert_eq!(lowest, [0, 2, 1, 1, 0]);
}

#[test]
#[should_panic(expected = "a soft prompt has nothing below it to share")]
fn a_soft_prompt_has_no_trunk() {
    let _ = Tiny::soft_prompt()
        .open(&Device::flex())
        .trunk(&PROMPT, &trie());
}

#[test]
#[should_panic(expected = "the trunk was made for another prompt")]
fn a_trunk_is_refused_for_another_prompt() {
    let device = Device::flex();
    let model = models(&device).remove(1).valid();
    let trunk = model.trunk(&PROMPT, &trie());
    let user = model.read_user(&three_users(&device));
    let reader = UserReader::new(&model, &user, Some(&trunk));
    let _ = reader.forest(&[vec![1, 2, 3], vec![1, 2, 4], vec![1, 2, 3]]);
}

#[test]
fn what_trains_has_the_same_gradients_over_a_frozen_model_of_16_bits() {
    let device = Device::flex().autodiff();
    let trie = trie();
    let objective = AnswerLoss {
        trie: &trie,
        normalisation: Normalisation::Trie,
        teacher_weight: 0.0,
    };
    let run = |matrices: FloatDType, mut model: UserLlm| {
        model.llm = model.llm.with_matrices_in(matrices);
        let model = TuningStrategy::Enc.apply(model, &Blocks::All, &LoraConfig::new());
        let user = model.read_user(&three_users(&device));
        let loss = objective.forward(&model, &user, &step_targets(), None);
        let gradients = loss.backward();
        let gates = model.fusion.iter().flatten();
        let gates = gates.map(|block| block.gate.as_ref().expect("it is gated").val());
        let found = gates.flat_map(|gate| floats(gate.grad(&gradients).expect("gates train")));
        found.collect::<Vec<f32>>()
    };
    for model in models(&device) {
        let expected = run(FloatDType::F32, model.clone());
        let found = run(FloatDType::F16, model);
        let widest = expected
            .iter()
            .fold(0.0, |most: f32, it| most.max(it.abs()));
        assert!(widest > 0.0);
        for (a, b) in expected.iter().zip(&found) {
            assert!((a - b).abs() < 0.02 * widest, "{b} for {a} of {widest}");
        }
    }
}
