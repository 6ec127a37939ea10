//! `user-llm pretrain` and `user-llm tune`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use burn::module::Module;
use trainer::{Checkpoints, EncoderInit, Outcome, RunFolder, Session, sources};
use user_encoder::HistoryEncoder;

use crate::arguments::{Fusion, Strategy, TrainingArgs, TuneArgs};
use crate::runs::{Run, open, resolve, tasks};
use crate::workplace::Workplace;
use crate::{Ended, interrupt, output};

pub(crate) fn pretrain(workplace: &Workplace, args: &TrainingArgs) -> anyhow::Result<Ended> {
    let (config, path) = resolve(args, &[])?;
    let device = workplace.device()?;
    let Run {
        config,
        prepared,
        folder,
    } = open(workplace, config, &path, args.data.as_deref())?;
    if !path.join("run.json").exists() {
        folder.describe(&config, &prepared, None)?;
    }
    output::note(&format!("{}\n", prepared.dataset.stats()));
    let has_window = prepared
        .split()
        .windows(config.pretraining_history_len(), config.data.stride.max(1))
        .next()
        .is_some();
    anyhow::ensure!(
        has_window,
        "no history is long enough to learn from: it takes 4 events, of which the last two are \
         kept for validation and test"
    );

    let checkpoints = folder.pretraining()?;
    let outcome = match config.dual_encoder {
        Some(_) => {
            let train =
                |session: Session<'_>| trainer::pretrain_dual(&prepared, &config, &device, session);
            let (encoder, outcome) =
                follow(workplace, &folder, &checkpoints, "pretraining", train)?;
            keep(&folder, encoder, outcome)?
        }
        None => {
            let train =
                |session: Session<'_>| trainer::pretrain(&prepared, &config, &device, session);
            let (encoder, outcome) =
                follow(workplace, &folder, &checkpoints, "pretraining", train)?;
            keep(&folder, encoder, outcome)?
        }
    };
    if outcome.is_interrupted {
        return Ok(interrupted(&path));
    }
    let next = match config.is_encoder_only() {
        true => "evaluate",
        false => "tune",
    };
    let next = format!("next: user-llm {next}{}", options(&path, args));
    finished(&outcome, &path.join("encoder.safetensors"), &next);
    Ok(Ended::Done)
}

/// Keep an encoder that is done.
fn keep(
    folder: &RunFolder,
    encoder: impl Into<HistoryEncoder>,
    outcome: Outcome,
) -> anyhow::Result<Outcome> {
    if !outcome.is_interrupted {
        folder.save_encoder(encoder)?;
    }
    Ok(outcome)
}

pub(crate) fn tune(workplace: &Workplace, args: &TuneArgs) -> anyhow::Result<Ended> {
    let mut shorthands = Vec::new();
    if let Some(strategy) = args.strategy {
        let name = match strategy {
            Strategy::Full => "full",
            Strategy::Lora => "lora",
            Strategy::Enc => "enc",
            Strategy::Proj => "proj",
        };
        shorthands.push(format!("tuning.strategy={name}"));
    }
    if let Some(fusion) = args.fusion {
        let name = match fusion {
            Fusion::CrossAttention => "cross-attention",
            Fusion::SoftPrompt => "soft-prompt",
            Fusion::None => "none",
        };
        shorthands.push(format!("fusion.kind={name}"));
    }
    let args = &args.training;
    let (config, path) = resolve(args, &shorthands)?;
    config.language()?;
    let device = workplace.device()?;
    if !path.join("encoder.safetensors").exists() {
        anyhow::bail!(
            "{} has no pretrained encoder; first: user-llm pretrain{}",
            path.display(),
            options(&path, args)
        );
    }
    let Run {
        config,
        prepared,
        folder,
    } = open(workplace, config, &path, args.data.as_deref())?;
    let language = config.language()?;
    let encoder = match language.tuning.encoder {
        EncoderInit::Pretrained => folder.load_history_encoder(&config, &prepared, &device)?,
        EncoderInit::Random => prepared.random_encoder(&config, &device),
    };
    let language_model = sources::language_model(language.llm, &workplace.store, &device)
        .with_context(|| format!("the language model {:?} of this run", language.llm.model))?;
    folder.describe(&config, &prepared, Some(&language_model))?;
    let data = args.data.as_deref();
    let tasks = tasks(
        workplace,
        &config,
        &prepared,
        data,
        &language_model.tokenizer,
    )?;

    let model = language.fuse(language_model.model.train(), encoder.train())?;
    let checkpoints = folder.tuning()?;
    let (model, outcome) = follow(workplace, &folder, &checkpoints, "tuning", |session| {
        trainer::tune(model, &tasks, &prepared, &config, session)
    })?;
    if outcome.is_interrupted {
        return Ok(interrupted(&path));
    }
    let name = language.tuning_name();
    folder.save_user_llm(&config, &model, &outcome.trained, &language_model.sha256)?;
    let next = format!("next: user-llm evaluate{}", options(&path, args));
    finished(&outcome, &path.join(format!("{name}.safetensors")), &next);
    Ok(Ended::Done)
}

/// Train under the eyes of a monitor, writing every step's figures down.
fn follow<M>(
    workplace: &Workplace,
    folder: &RunFolder,
    checkpoints: &Checkpoints,
    stage: &str,
    train: impl FnOnce(Session<'_>) -> Result<(M, Outcome), trainer::Error>,
) -> anyhow::Result<(M, Outcome)> {
    let done = checkpoints.latest()?.map_or(0, |(_, state)| state.step);
    forget_after(folder, stage, done)?;
    let mut log = folder.logger()?;
    let mut monitor = workplace.dashboard();
    let _heard = interrupt::heard();
    let session = Session {
        checkpoints: Some(checkpoints),
        log: Some(&mut log),
        ..Session::new(monitor.as_mut())
    };
    Ok(train(session)?)
}

/// Steps that were written down but not saved come again: their lines go.
fn forget_after(folder: &RunFolder, stage: &str, done: usize) -> anyhow::Result<()> {
    const METRICS: &str = "metrics.jsonl";
    let Ok(text) = fs::read_to_string(folder.path().join(METRICS)) else {
        return Ok(());
    };
    let holds = |line: &&str| {
        // A line that is cut short was being written when the run was killed.
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else {
            return false;
        };
        !folder.is_of(&value, stage)
            || value["step"]
                .as_u64()
                .is_some_and(|step| step <= done as u64)
    };
    let kept: String = text
        .lines()
        .filter(holds)
        .map(|line| format!("{line}\n"))
        .collect();
    if kept != text {
        folder.write(METRICS, kept.as_bytes())?;
    }
    Ok(())
}

fn interrupted(path: &Path) -> Ended {
    output::note(&format!(
        "stopped and saved in {}; the same command goes on from there",
        path.display()
    ));
    Ended::Interrupted
}

fn finished(outcome: &Outcome, weights: &Path, next: &str) {
    let n: usize = outcome.trained.iter().map(|(_, size)| size).sum();
    let what = match outcome.losses.is_empty() {
        true => "nothing was left to do",
        false => "trained",
    };
    output::print(&format!(
        "{what}: {n} parameters, in {}\n{next}",
        weights.display()
    ));
}

/// The options that the next command needs to find this run.
fn options(path: &Path, args: &TrainingArgs) -> String {
    let mut text = format!(" --run {}", path.display());
    if let Some(data) = &args.data {
        text += &format!(" --data {}", data.display());
    }
    text
}
