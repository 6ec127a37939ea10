//! The language model is untouched until training opens the gates, and without a user for ever.

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use llm::generate::Decode;
use llm_fusion::{Blocks, LoraConfig, TuningStrategy, UserDecoder, UserLlm};

use crate::tiny::{Tiny, bits, distance, step, three_users, tokens};

const TEXT: [&[u32]; 3] = [&[1, 2, 3, 9], &[4, 4, 8, 1], &[2, 22, 1, 4]];

fn with_users(model: &UserLlm) -> Tensor<3> {
    let device = model.device();
    let user = model.read_user(&three_users(&device));
    model.forward(tokens(&TEXT, &device), None, Some(&user))
}

fn without_users(model: &UserLlm) -> Tensor<3> {
    model.forward(tokens(&TEXT, &model.device()), None, None)
}

fn plain(model: &UserLlm) -> Tensor<3> {
    model.llm.forward(tokens(&TEXT, &model.device()), None)
}

#[test]
fn with_gates_at_zero_the_logits_are_the_plain_model_s_bit_for_bit() {
    let device = Device::flex();
    for blocks in [Blocks::All, Blocks::Upper(1), Blocks::Only(vec![0, 2])] {
        let tiny = Tiny::cross_attention(blocks);
        for tiny in [tiny.clone(), tiny.without_perceiver()] {
            let closed = tiny.closed(&device);
            assert_eq!(bits(with_users(&closed)), bits(plain(&closed)), "{tiny:?}");
            let open = tiny.open(&device);
            assert!(distance(with_users(&open), plain(&open)) > 0.01, "{tiny:?}");
        }
    }
}

#[test]
fn with_no_user_the_logits_stay_the_plain_model_s_bit_for_bit_under_enc_and_proj() {
    let device = Device::flex().autodiff();
    for tiny in Tiny::all() {
        let original = tiny.closed(&device).valid();
        for strategy in [TuningStrategy::Enc, TuningStrategy::Proj] {
            let trained =
                trained(strategy.apply(tiny.open(&device), &Blocks::All, &LoraConfig::new()));
            assert_eq!(
                bits(without_users(&trained)),
                bits(plain(&original)),
                "{strategy:?} {tiny:?}"
            );
            assert!(distance(with_users(&trained), plain(&original)) > 0.01);

            let mut decoder = UserDecoder::new(&trained, None);
            let mut alone = original.llm.decoder();
            for token in TEXT[0] {
                assert_eq!(bits(decoder.push(&[*token])), bits(alone.push(&[*token])));
            }
        }
    }
}

#[test]
fn training_the_language_model_changes_it_under_full_and_lora() {
    let device = Device::flex().autodiff();
    let tiny = Tiny::cross_attention(Blocks::All);
    for strategy in [TuningStrategy::Full, TuningStrategy::Lora] {
        let trained = trained(strategy.apply(tiny.open(&device), &Blocks::All, &LoraConfig::new()));
        let original = tiny.closed(&device).valid();
        assert!(
            distance(without_users(&trained), plain(&original)) > 1e-3,
            "{strategy:?}"
        );
    }
}

#[test]
fn training_opens_the_gates() {
    let device = Device::flex().autodiff();
    let model = Tiny::cross_attention(Blocks::Upper(2)).closed(&device);
    assert_eq!(model.gates(), [(1, 0.0), (2, 0.0)]);
    let trained = trained(TuningStrategy::Proj.apply(model, &Blocks::All, &LoraConfig::new()));
    assert!(
        trained.gates().iter().all(|(_, gate)| gate.abs() > 1e-3),
        "{:?}",
        trained.gates()
    );
}

#[test]
fn a_gate_is_shown_as_it_weighs() {
    let model = Tiny::cross_attention(Blocks::Only(vec![0])).open(&Device::flex());
    let [(block, gate)] = model.gates()[..] else {
        panic!("one block is fused")
    };
    assert_eq!(block, 0);
    assert!((gate - 0.604_367_8).abs() < 1e-6, "tanh(0.7) is not {gate}");
    assert!(Tiny::soft_prompt().open(&Device::flex()).gates().is_empty());
}

#[test]
fn a_wide_open_gate_is_no_gate() {
    let mut open = Tiny::cross_attention(Blocks::All).open(&Device::flex());
    let mut ungated = open.clone();
    for fusion in open.fusion.iter_mut().flatten() {
        // tanh(20) is 1.
        fusion.gate = Some(Param::from_data([20.0], &Device::flex()));
    }
    for fusion in ungated.fusion.iter_mut().flatten() {
        fusion.gate = None;
    }
    assert_eq!(bits(with_users(&open)), bits(with_users(&ungated)));
}

/// A few steps, and the model as it is used afterwards.
fn trained(mut model: UserLlm) -> UserLlm {
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
    for _ in 0..4 {
        model = step(model, &mut optimizer);
    }
    model.valid()
}
