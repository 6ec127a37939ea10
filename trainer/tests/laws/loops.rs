//! The loop by itself: schedule, non-finite losses, early stopping, the weights that are kept.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use trainer::{
    Checkpoints, Error, Objective, Outcome, Session, Silent, Stage, TrainingConfig, train,
};

use crate::toy;

/// Two parameters, pulled to 1 and −1.
#[derive(Module, Debug)]
struct Pair {
    a: Param<Tensor<1>>,
    b: Param<Tensor<1>>,
}

fn pair() -> Pair {
    let device = Device::flex().autodiff();
    let value = |x: f32| Param::from_tensor(Tensor::from_floats([x], &device).require_grad());
    Pair {
        a: value(0.3),
        b: value(0.4),
    }
}

/// Pulls; validates by a script, and remembers the weights at each validation.
struct Script {
    figures: Vec<f64>,
    nan_at: Option<usize>,
    nan_gradient_at: Option<usize>,
    seen: Vec<Vec<(String, burn::tensor::TensorData)>>,
}

fn script(figures: &[f64]) -> Script {
    Script {
        figures: figures.to_vec(),
        nan_at: None,
        nan_gradient_at: None,
        seen: Vec::new(),
    }
}

impl Objective<Pair> for Script {
    fn loss(&mut self, model: &Pair, step: usize) -> Tensor<1> {
        let loss = (model.a.val() - 1.0).powi_scalar(2) + (model.b.val() + 1.0).powi_scalar(2);
        match step {
            _ if self.nan_at == Some(step) => loss * f32::NAN,
            // The root's slope at zero is infinite, its value is not.
            _ if self.nan_gradient_at == Some(step) => (loss * 0.0).sqrt(),
            _ => loss,
        }
    }

    fn validate(&mut self, model: &Pair) -> f64 {
        self.seen.push(toy::parameters(model));
        self.figures[self.seen.len() - 1]
    }

    fn validation_name(&self) -> &'static str {
        "figure"
    }
}

fn stage(steps: usize, validate_every: usize, patience: usize) -> Stage {
    let config = TrainingConfig {
        steps,
        batch_size: 1,
        learning_rate: 0.1,
        warmup: 0.2,
        weight_decay: 0.0,
        clip_norm: 1.0,
        validate_every,
        validation_users: 0,
        patience,
        checkpoint_every: 2,
    };
    Stage {
        name: "pretraining",
        config,
        rates: Vec::new(),
        seed: 5,
    }
}

fn run(
    stage: &Stage,
    script: &mut Script,
    checkpoints: Option<&Checkpoints>,
) -> Result<(Pair, Outcome, Vec<serde_json::Value>), Error> {
    let mut lines = Vec::new();
    let mut keep = |line| lines.push(line);
    let mut silent = Silent;
    let session = Session {
        checkpoints,
        monitor: &mut silent,
        log: Some(&mut keep),
    };
    let (model, outcome) = train(pair(), script, &Device::flex().autodiff(), stage, session)?;
    Ok((model, outcome, lines))
}

fn checkpoints(folder: &tempfile::TempDir) -> Checkpoints {
    Checkpoints::new(folder.path(), "print").unwrap()
}

#[test]
fn the_learning_rate_warms_up_to_its_peak_and_falls_as_a_cosine_to_zero() {
    let _alone = toy::alone();
    let (_, _, lines) = run(&stage(10, 0, 0), &mut script(&[]), None).unwrap();
    let rates: Vec<f64> = lines
        .iter()
        .map(|line| line["learning_rate"].as_f64().unwrap())
        .collect();
    // Two steps of warm-up, at a half and at three quarters, while the cosine over all ten falls.
    let cosine = |step: f64| 0.1 * 0.5 * (1.0 + (std::f64::consts::PI * step / 10.0).cos());
    let expected = [
        0.5 * cosine(0.0),
        0.75 * cosine(1.0),
        cosine(2.0),
        cosine(3.0),
    ];
    for (rate, expected) in rates.iter().zip(expected) {
        assert!((rate - expected).abs() < 1e-9, "{rates:?}");
    }
    assert!((rates[9] - cosine(9.0)).abs() < 1e-9, "{rates:?}");
    assert!(rates[9] < 0.003, "{rates:?}");
}

#[test]
fn the_norm_that_is_logged_is_that_of_all_gradients_together() {
    let _alone = toy::alone();
    let (_, outcome, lines) = run(&stage(1, 0, 0), &mut script(&[]), None).unwrap();
    // 2 (0.3 − 1) = −1.4 and 2 (0.4 + 1) = 2.8; loss 0.49 + 1.96.
    let norm = lines[0]["gradient_norm"].as_f64().unwrap();
    assert!(
        (norm - (1.4_f64.powi(2) + 2.8_f64.powi(2)).sqrt()).abs() < 1e-6,
        "{norm}"
    );
    assert!((outcome.losses[0] - 2.45).abs() < 1e-6);
    assert_eq!(
        outcome.trained,
        [("a".to_string(), 1), ("b".to_string(), 1)]
    );
}

#[test]
fn a_loss_that_is_not_a_number_stops_with_its_step_and_the_last_good_checkpoint() {
    let _alone = toy::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut script = Script {
        nan_at: Some(4),
        ..script(&[])
    };
    let error = run(&stage(10, 0, 0), &mut script, Some(&checkpoints(&folder))).unwrap_err();
    let last = folder.path().join("step-00000004");
    assert!(last.is_dir());
    let expected = format!(
        "the loss is NaN at step 5 of pretraining; the last good checkpoint is {}",
        last.display()
    );
    assert_eq!(error.to_string().lines().next().unwrap(), expected);
}

#[test]
fn a_gradient_that_is_not_finite_stops_before_it_touches_the_weights() {
    let _alone = toy::alone();
    let mut script = Script {
        nan_gradient_at: Some(0),
        ..script(&[])
    };
    let error = run(&stage(10, 0, 0), &mut script, None)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("the gradient norm is "), "{error}");
    assert!(error.contains("at step 1 of pretraining"), "{error}");
    assert!(
        error.contains("none: it happened before the first"),
        "{error}"
    );
}

#[test]
fn the_weights_of_the_best_validation_are_the_ones_that_come_back() {
    let _alone = toy::alone();
    let mut script = script(&[0.1, 0.5, 0.3, 0.5, 0.2]);
    let (model, outcome, _) = run(&stage(10, 2, 0), &mut script, None).unwrap();
    // Of equals, the earlier.
    assert_eq!((outcome.steps, outcome.best), (10, Some((0.5, 4))));
    assert_eq!(toy::parameters(&model), script.seen[1]);
    assert_ne!(toy::parameters(&model), script.seen[4]);
}

#[test]
fn without_a_better_validation_for_the_configured_patience_training_stops() {
    let _alone = toy::alone();
    let mut script = script(&[0.1, 0.5, 0.3, 0.4]);
    let (model, outcome, _) = run(&stage(20, 2, 2), &mut script, None).unwrap();
    assert_eq!((outcome.steps, outcome.best), (8, Some((0.5, 4))));
    assert!(!outcome.is_interrupted);
    assert_eq!(toy::parameters(&model), script.seen[1]);
}

#[test]
fn a_stage_that_stopped_early_stays_over_when_it_is_taken_up_again() {
    let _alone = toy::alone();
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(&folder);
    let stage = stage(20, 1, 3);
    let mut first = script(&[0.1, 0.5, 0.3, 0.4, 0.2]);
    let (model, outcome, _) = run(&stage, &mut first, Some(&checkpoints)).unwrap();
    assert_eq!(outcome.steps, 5);
    let (again, outcome, _) = run(&stage, &mut script(&[9.0]), Some(&checkpoints)).unwrap();
    assert_eq!(
        (outcome.steps, outcome.best, outcome.losses.len()),
        (5, Some((0.5, 2)), 0)
    );
    assert_eq!(toy::parameters(&model), toy::parameters(&again));
}

#[test]
fn the_last_step_is_validated_whatever_the_interval() {
    let _alone = toy::alone();
    let mut script = script(&[0.1, 0.2]);
    let (_, outcome, _) = run(&stage(5, 3, 0), &mut script, None).unwrap();
    assert_eq!(outcome.best, Some((0.2, 5)));
}

#[test]
fn a_group_with_a_rate_of_its_own_moves_by_that_much_more() {
    let _alone = toy::alone();
    let mut stage = stage(1, 0, 0);
    let group = burn::module::ParamGroup::from_regex("^b$").unwrap();
    stage.rates = vec![(group, 0.5)];
    let (model, _, _) = run(&stage, &mut script(&[]), None).unwrap();
    // AdamW's first step is the learning rate itself, whatever the gradient.
    let moved =
        |param: &Param<Tensor<1>>, from: f32| (param.val().into_scalar::<f32>() - from).abs();
    let rate = moved(&model.a, 0.3);
    assert!((rate - 0.1).abs() < 1e-6, "{rate}");
    assert!((moved(&model.b, 0.4) - 0.5 * rate).abs() < 1e-6);
}
