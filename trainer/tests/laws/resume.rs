//! Stopping and going on gives what never stopping gives, bit for bit.

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use trainer::{Checkpoints, Outcome, RunConfig, Session, Silent, pretrain, pretrain_dual, tune};

use crate::toy::{self, StopAfter};

type Weights = Vec<(String, TensorData)>;
type Stages<'a> = dyn FnMut(Session<'_>) -> (Weights, Outcome) + 'a;

/// Runs a stage whole, and then again with a stop after each of `stops` steps.
fn assert_a_stop_changes_nothing(steps: usize, stops: &[usize], run: &mut Stages<'_>) {
    let (whole, expected) = run(Session::new(&mut Silent));
    assert_eq!((expected.steps, expected.is_interrupted), (steps, false));
    for &stop in stops {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path(), "print").unwrap();
        let mut monitor = StopAfter {
            steps: stop,
            done: 0,
        };
        let session = Session {
            checkpoints: Some(&checkpoints),
            ..Session::new(&mut monitor)
        };
        let (_, first) = run(session);
        assert_eq!((first.steps, first.is_interrupted), (stop, true));
        assert_eq!(first.losses, expected.losses[..stop]);

        let mut silent = Silent;
        let session = Session {
            checkpoints: Some(&checkpoints),
            ..Session::new(&mut silent)
        };
        let (resumed, second) = run(session);
        assert_eq!(
            second.losses,
            expected.losses[stop..],
            "stopped after {stop}"
        );
        assert_eq!((second.steps, second.best), (expected.steps, expected.best));
        assert_eq!(whole.len(), resumed.len());
        for ((path, whole), (_, resumed)) in whole.iter().zip(&resumed) {
            assert_eq!(whole, resumed, "{path} differs, stopped after {stop}");
        }
    }
}

#[test]
fn pretraining_n_steps_equals_half_of_them_a_stop_and_the_rest() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    assert!(config.encoder.dropout > 0.0 && config.pretraining.validate_every > 0);
    let prepared = toy::prepared(&config);
    assert_a_stop_changes_nothing(10, &[5, 1, 9], &mut |session| {
        let (encoder, outcome) = pretrain(&prepared, &config, &Device::flex(), session).unwrap();
        (toy::parameters(&encoder), outcome)
    });
}

#[test]
fn pretraining_the_rows_that_are_read_resumes_bit_for_bit() {
    let _alone = toy::alone();
    let config = toy::config(&[
        "objective.item_loss={ sampled-softmax = { negatives = 3 } }",
        "objective.sparse_rows=true",
        "objective.workers=2",
        "pretraining.batch_size=2",
    ]);
    let prepared = toy::prepared(&config);
    assert_a_stop_changes_nothing(10, &[5, 1], &mut |session| {
        let (encoder, outcome) = pretrain(&prepared, &config, &Device::flex(), session).unwrap();
        (toy::parameters(&encoder), outcome)
    });
}

#[test]
fn pretraining_a_bidirectional_or_a_dual_encoder_resumes_bit_for_bit() {
    let _alone = toy::alone();
    let masked = toy::config(&[
        "encoder.attention=bidirectional",
        "objective.task={ masked = { probability = 0.3, last_only = 0.2 } }",
    ]);
    let prepared = toy::prepared(&masked);
    assert_a_stop_changes_nothing(10, &[5], &mut |session| {
        let (encoder, outcome) = pretrain(&prepared, &masked, &Device::flex(), session).unwrap();
        (toy::parameters(&encoder), outcome)
    });
    let dual = toy::dual(&[]);
    let prepared = toy::prepared(&dual);
    assert_a_stop_changes_nothing(10, &[5], &mut |session| {
        let (encoder, outcome) = pretrain_dual(&prepared, &dual, &Device::flex(), session).unwrap();
        (toy::parameters(&encoder), outcome)
    });
}

fn assert_tuning_resumes(config: &RunConfig, steps: usize) {
    let _alone = toy::alone();
    let prepared = toy::prepared(config);
    let tasks = toy::tasks(&prepared, config);
    assert_a_stop_changes_nothing(steps, &[steps / 2, 3], &mut |session| {
        let model = toy::user_llm(&prepared, config);
        let before = toy::parameters(&model);
        let (model, outcome) = tune(model, &tasks, &prepared, config, session).unwrap();
        assert_ne!(before, toy::parameters(&model), "nothing was trained");
        (toy::parameters(&model), outcome)
    });
}

#[test]
fn tuning_encoder_and_fresh_parts_resumes_bit_for_bit() {
    assert_tuning_resumes(&toy::config(&[]), 8);
}

#[test]
fn tuning_adapters_resumes_bit_for_bit() {
    assert_tuning_resumes(&toy::config(&["tuning.strategy=lora"]), 8);
}

#[test]
fn tuning_in_parts_side_by_side_resumes_bit_for_bit() {
    let patches = [
        "tuning.workers=2",
        "perceiver.dropout=0",
        "encoder.dropout=0.2",
        "tuning.encoder_dropout=true",
    ];
    assert_tuning_resumes(&toy::config(&patches), 8);
}

#[test]
fn tuning_everything_through_a_soft_prompt_resumes_bit_for_bit() {
    let patches = [
        "tuning.strategy=full",
        "fusion.kind=soft-prompt",
        "tuning.whole_model_steps=6",
    ];
    assert_tuning_resumes(&toy::config(&patches), 6);
}

#[test]
fn without_validation_the_last_weights_come_back_and_resume_alike() {
    let patches = [
        "tuning.training.validate_every=0",
        "tuning.training.checkpoint_every=0",
    ];
    assert_tuning_resumes(&toy::config(&patches), 8);
}

#[test]
fn a_finished_stage_that_is_taken_up_again_trains_no_more() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path(), "print").unwrap();
    let once = || {
        let mut silent = Silent;
        let session = Session {
            checkpoints: Some(&checkpoints),
            ..Session::new(&mut silent)
        };
        pretrain(&prepared, &config, &Device::flex(), session).unwrap()
    };
    let (first, whole) = once();
    let (second, nothing) = once();
    assert_eq!(
        (nothing.steps, nothing.losses.len(), nothing.best),
        (10, 0, whole.best)
    );
    assert_eq!(
        toy::parameters(&first.valid()),
        toy::parameters(&second.valid())
    );
}

#[test]
fn another_seed_gives_other_weights() {
    let _alone = toy::alone();
    let [a, b] = [7, 8].map(|seed| {
        let config = toy::config(&[&format!("seed={seed}")]);
        let prepared = toy::prepared(&config);
        let mut silent = Silent;
        let session = Session::new(&mut silent);
        toy::parameters(
            &pretrain(&prepared, &config, &Device::flex(), session)
                .unwrap()
                .0,
        )
    });
    assert_ne!(a, b);
}
