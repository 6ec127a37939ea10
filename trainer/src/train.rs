//! The loop that both stages share: batch, forward, backward, step, validate, save.
//!
//! burn's own `SupervisedTraining` resumes by epoch, restarts the data's random state, clips each
//! tensor by itself and panics on a damaged checkpoint (`docs/decisions/`), so the loop is written
//! out here; optimizer, schedule, records and dashboard are burn's.
//!
//! Everything random in a step is a function of the seed and the step's number, so a run that is
//! stopped and resumed ends with the same weights as one that was not.

use std::time::Instant;

use burn::lr_scheduler::composed::ComposedLrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLrScheduler, ModuleLrSchedulerConfig};
use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};

use user_encoder::seed_dropout;

use crate::checkpoint::Checkpoints;
use crate::lazy_adamw::{LazyAdamW, SparseTable};
use crate::{Error, Monitor, TrainingConfig};

/// What [`validation_name`](Objective::validation_name) says of the ranks of next items,
pub(crate) const NDCG: &str = "ndcg@10";
/// and of the tokens of reviews.
pub(crate) const LIKELIHOOD: &str = "likelihood";

/// What is trained: a loss for every step, and a validation.
pub trait Objective<M: Module> {
    /// The loss of one step, a scalar; the batch is a function of the step's number alone.
    fn loss(&mut self, model: &M, step: usize) -> Tensor<1>;

    /// The value of the [`loss`](Self::loss) of one step, and its gradients.
    fn gradients(&mut self, model: &M, step: usize) -> (f32, GradientsParams) {
        backward(self.loss(model, step), model)
    }

    /// A table of which every step reads some rows, if there is one: its gradients are theirs.
    fn sparse_table(&self) -> Option<SparseTable> {
        None
    }

    /// How good the model is on the validation events; more is better. Called with a model that
    /// does not track gradients.
    fn validate(&mut self, model: &M) -> f64;

    /// What [`validate`](Self::validate) measures, as it is shown.
    fn validation_name(&self) -> &'static str;
}

/// A loss's value and its gradients.
pub(crate) fn backward<M: Module>(loss: Tensor<1>, model: &M) -> (f32, GradientsParams) {
    let value = loss.clone().into_scalar();
    (value, GradientsParams::from_grads(loss.backward(), model))
}

/// What a stage of training does.
#[derive(Clone, Debug)]
pub struct Stage {
    /// `pretraining` or `tuning`.
    pub name: &'static str,
    /// Its figures.
    pub config: TrainingConfig,
    /// Parameters with a learning rate of their own, as a multiple of the others'.
    pub rates: Vec<(ParamGroup, f64)>,
    /// Seed of dropout.
    pub seed: u64,
}

/// Who follows a stage of training.
pub struct Session<'a> {
    /// Where checkpoints go, and are looked for; none are written without.
    pub checkpoints: Option<&'a Checkpoints>,
    /// Who watches.
    pub monitor: &'a mut dyn Monitor,
    /// Given the figures of every step and validation.
    pub log: Option<&'a mut dyn FnMut(serde_json::Value)>,
}

impl<'a> Session<'a> {
    /// Watched, with nothing kept.
    pub fn new(monitor: &'a mut dyn Monitor) -> Self {
        Self {
            checkpoints: None,
            monitor,
            log: None,
        }
    }

    /// With checkpoints.
    pub fn saving(self, checkpoints: &'a Checkpoints) -> Self {
        Self {
            checkpoints: Some(checkpoints),
            ..self
        }
    }

    /// With its figures written down.
    pub fn logging(self, log: &'a mut dyn FnMut(serde_json::Value)) -> Self {
        Self {
            log: Some(log),
            ..self
        }
    }
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps that are done.
    pub steps: usize,
    /// Best validation and its step, if there was any.
    pub best: Option<(f64, usize)>,
    /// Whether somebody asked to stop before the end; resume goes on from there.
    pub is_interrupted: bool,
    /// Loss of every step that this call made.
    pub losses: Vec<f32>,
    /// Paths and sizes of the parameters that trained.
    pub trained: Vec<(String, usize)>,
}

/// Train a model, going on from its latest checkpoint if there is one.
///
/// Returns the model as it was at its best validation, or at the end where none was made.
///
/// # Errors
///
/// If the loss or the gradient is not finite, or a checkpoint cannot be written or read.
pub fn train<M: Module>(
    model: M,
    objective: &mut impl Objective<M>,
    device: &Device,
    stage: &Stage,
    session: Session<'_>,
) -> Result<(M, Outcome), Error> {
    let Session {
        checkpoints,
        monitor,
        mut log,
    } = session;
    let Stage {
        name: stage,
        config,
        rates,
        seed,
    } = stage;
    let paths = llm_fusion::trained_parameters(&model);
    let trained = ParamGroup::from_paths(paths.iter().map(|(path, _)| path.clone()).collect());
    let mut model = model;
    let adamw = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(config.weight_decay as f32);
    let mut optimizer: ModuleOptimizer = adamw.init();
    if let Some(table) = objective.sparse_table() {
        let group = ParamGroup::from_path(&table.path);
        let adamw = adamw.build();
        optimizer = optimizer.with_group(group, LazyAdamW { adamw, table }, None);
    }
    let mut scheduler = scheduler(config, rates)?;
    let mut outcome = Outcome {
        steps: 0,
        best: None,
        is_interrupted: false,
        losses: Vec::new(),
        trained: paths,
    };
    let mut kept: Option<M> = None;

    if let Some(checkpoints) = checkpoints
        && let Some((path, state)) = checkpoints.latest()?
    {
        if let Some((_, step)) = state.best {
            match checkpoints.whole(step) {
                Ok(best) => {
                    kept = Some(Checkpoints::load_model(&best, model.clone())?);
                    outcome.best = state.best;
                }
                Err(error) => tracing::warn!("the best weights are lost: {error}"),
            }
        }
        model = Checkpoints::load_model(&path, model)?;
        optimizer = Checkpoints::load_optimizer(&path, optimizer)?;
        for _ in 0..state.step {
            scheduler.step();
        }
        outcome.steps = state.step;
        tracing::info!("{stage} goes on from {}", path.display());
    }

    monitor.begin(stage, outcome.steps, config.steps);
    let mut last_saved = outcome.steps;
    // Asked before a step, so that a stage that is over stays over when it is taken up again.
    let is_over = |outcome: &Outcome| {
        let waited = outcome.best.map_or(0, |(_, at)| outcome.steps - at);
        let is_hopeless =
            config.patience > 0 && waited >= config.patience * config.validate_every.max(1);
        outcome.steps >= config.steps || is_hopeless
    };
    while !is_over(&outcome) {
        let step = outcome.steps;
        let started = Instant::now();
        device.seed(mix(*seed, step as u64));
        seed_dropout(mix(*seed, step as u64));
        let (value, mut grads) = objective.gradients(&model, step);
        let not_finite = |what, value| Error::NotFinite {
            what,
            value,
            step: step + 1,
            stage,
            checkpoint: match (checkpoints, last_saved) {
                (Some(checkpoints), 1..) => checkpoints.at(last_saved).display().to_string(),
                _ => "none: it happened before the first".into(),
            },
        };
        if !value.is_finite() {
            return Err(not_finite("loss", value));
        }
        let norm = clip(&model, &mut grads, config.clip_norm);
        if !norm.is_finite() {
            return Err(not_finite("gradient norm", norm));
        }
        let rate = scheduler.step();
        let base_rate = rate.base();
        model = optimizer.step(rate, model, grads);

        outcome.steps += 1;
        outcome.losses.push(value);
        monitor.step(outcome.steps, &[("loss", f64::from(value))]);
        if let Some(log) = &mut log {
            log(serde_json::json!({
                "stage": stage, "step": outcome.steps, "loss": value,
                "gradient_norm": norm, "learning_rate": base_rate,
                "seconds": started.elapsed().as_secs_f64(),
            }));
        }

        let mut is_better = false;
        let is_validated = outcome.steps.is_multiple_of(config.validate_every.max(1))
            || outcome.steps == config.steps;
        if config.validate_every > 0 && is_validated {
            let started = Instant::now();
            let figure = objective.validate(&model.valid());
            is_better = outcome.best.is_none_or(|(best, _)| figure > best);
            if is_better {
                outcome.best = Some((figure, outcome.steps));
                kept = Some(model.clone());
            }
            monitor.validated(outcome.steps, &[(objective.validation_name(), figure)]);
            if let Some(log) = &mut log {
                log(serde_json::json!({
                    "stage": stage, "step": outcome.steps, objective.validation_name(): figure,
                    "seconds": started.elapsed().as_secs_f64(),
                }));
            }
        }
        let is_last = is_over(&outcome);
        let is_stopped = monitor.is_stopped();
        let is_due =
            config.checkpoint_every > 0 && outcome.steps.is_multiple_of(config.checkpoint_every);
        if let Some(checkpoints) = checkpoints
            && (is_better || is_due || is_last || is_stopped)
        {
            checkpoints.save(outcome.steps, outcome.best, &model, &trained, &optimizer)?;
            last_saved = outcome.steps;
        }
        if is_stopped && !is_last {
            outcome.is_interrupted = true;
            break;
        }
    }
    monitor.end(&match (&outcome.best, outcome.is_interrupted) {
        (_, true) => format!("stopped after {} of {} steps", outcome.steps, config.steps),
        (Some((best, at)), _) => {
            format!(
                "best {} {best:.4} after {at} steps",
                objective.validation_name()
            )
        }
        (None, _) => format!("{} steps done", outcome.steps),
    });
    Ok((kept.unwrap_or(model), outcome))
}

/// Linear warm-up times cosine decay to zero.
fn scheduler(
    config: &TrainingConfig,
    rates: &[(ParamGroup, f64)],
) -> Result<ModuleLrScheduler, Error> {
    let schedule = |rate: f64| {
        let warmup = ((config.steps as f64 * config.warmup).round() as usize).max(1);
        let rate = rate.min(1.0);
        ComposedLrSchedulerConfig::new()
            .linear(LinearLrSchedulerConfig::new(
                1.0 / warmup as f64,
                1.0,
                warmup,
            ))
            .cosine(CosineAnnealingLrSchedulerConfig::new(
                rate,
                config.steps.max(1),
            ))
    };
    let base = ModuleLrSchedulerConfig::new(schedule(config.learning_rate).into());
    rates
        .iter()
        .fold(base, |all, (group, factor)| {
            all.with_group(group.clone(), schedule(config.learning_rate * factor))
        })
        .init()
        .map_err(|reason| Error::value("learning_rate", config.learning_rate, reason))
}

/// Scale the gradient down to a global norm; gives the norm it had.
fn clip<M: Module>(model: &M, grads: &mut GradientsParams, most: f64) -> f32 {
    struct Squares<'a> {
        grads: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.sums.push(grad.powi_scalar(2).sum());
            }
        }
    }
    struct Scale<'a> {
        grads: &'a mut GradientsParams,
        factor: f64,
    }
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.remove::<D>(param.id) {
                self.grads.register(param.id, grad * self.factor);
            }
        }
    }
    let mut squares = Squares {
        grads,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return 0.0;
    }
    let norm: f32 = Tensor::cat(squares.sums, 0).sum().sqrt().into_scalar();
    if most > 0.0 && f64::from(norm) > most {
        model.visit(&mut Scale {
            grads,
            factor: most / f64::from(norm),
        });
    }
    norm
}

/// One number from two, each bit of it depending on both (the finaliser of SplitMix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut x = a
        .wrapping_add(b.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Module, Debug)]
    struct Three {
        a: Param<Tensor<1>>,
        b: Param<Tensor<2>>,
        frozen: Param<Tensor<1>>,
    }

    /// Gradients 2 and (−1, 4; 2, 0): global norm 5.
    fn clipped(most: f64) -> (f32, Vec<f32>) {
        let device = Device::flex().autodiff();
        let a = Tensor::<1>::zeros([1], &device).require_grad();
        let b = Tensor::<2>::zeros([2, 2], &device).require_grad();
        let model = Three {
            a: Param::from_tensor(a),
            b: Param::from_tensor(b),
            frozen: Param::from_tensor(Tensor::zeros([3], &device)).set_require_grad(false),
        };
        let slopes = Tensor::<2>::from_floats([[-1.0, 4.0], [2.0, 0.0]], &device);
        let loss = model.a.val().sum() * 2.0 + (model.b.val() * slopes).sum();
        let mut grads = GradientsParams::from_grads(loss.backward(), &model);
        let norm = clip(&model, &mut grads, most);
        let a = grads.get::<1>(model.a.id).unwrap().into_data();
        let b = grads.get::<2>(model.b.id).unwrap().into_data();
        assert!(grads.get::<1>(model.frozen.id).is_none());
        (norm, a.iter::<f32>().chain(b.iter::<f32>()).collect())
    }

    #[test]
    fn all_gradients_are_scaled_by_one_factor_to_the_global_norm() {
        let (norm, grads) = clipped(1.0);
        assert_eq!(norm, 5.0);
        for (grad, expected) in grads.iter().zip([0.4, -0.2, 0.8, 0.4, 0.0]) {
            assert!((grad - expected).abs() < 1e-6, "{grads:?}");
        }
    }

    #[test]
    fn a_small_gradient_is_left_alone_and_so_is_any_without_a_limit() {
        for most in [5.0, 6.0, 0.0] {
            assert_eq!(clipped(most), (5.0, vec![2.0, -1.0, 4.0, 2.0, 0.0]));
        }
    }

    #[test]
    fn mixed_seeds_differ_in_both_of_their_parts() {
        let mut seen = std::collections::HashSet::new();
        for a in 0..50 {
            for b in 0..50 {
                assert!(seen.insert(mix(a, b)), "{a} and {b} collide");
            }
        }
    }
}
