//! `user-llm evaluate`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use trainer::efficiency::{Cost, FirstToken, way};
use trainer::evaluate::{self, Answered, RANKS, Ranks};
use trainer::plain_text::{self, PlainTextRow};
use trainer::report::Report;
use trainer::results::{self, Results};
use trainer::{Prepared, RunConfig, Tasks, plots, review_writing, sources};
use user_encoder::HistoryEncoder;

use crate::arguments::EvaluateArgs;
use crate::runs::{Run, Tuned, tasks};
use crate::workplace::Workplace;
use crate::{Ended, origin, output};

/// Histories whose costs are measured, in events, as far as the encoder reads so many; and runs
/// that a time is the median of.
const LENGTHS: [usize; 3] = [50, 100, 200];
const RUNS: usize = 3;

pub(crate) fn run(workplace: &Workplace, args: &EvaluateArgs) -> anyhow::Result<Ended> {
    if !args.compare.is_empty() {
        return compare(&args.compare);
    }
    let mut run = Run::find(workplace, &args.run)?;
    if let Some(n) = args.users {
        thin(&mut run.prepared, n as usize);
    }
    let Run {
        config,
        prepared,
        folder,
    } = &run;
    let protocol = evaluate::protocol(prepared, config);
    if args.protocol {
        output::print(&protocol);
        return Ok(Ended::Done);
    }
    anyhow::ensure!(
        !args.costs || config.dual_encoder.is_none(),
        "costs are counted for the encoder of events, and this run has a [dual_encoder]; leave out \
         --costs"
    );
    let device = workplace.device()?;
    let mut monitor = workplace.terminal();
    let mut answered = baselines(&run, &device)?;
    let tuned = run.tuned()?;
    let (mut costs, mut reviews, mut plain_texts) = (Vec::new(), Vec::new(), Vec::new());
    if let Ok(language) = config.language()
        && (!args.no_text || !tuned.is_empty())
    {
        let llm = sources::language_model(language.llm, &workplace.store, &device)?;
        let data = args.run.data.as_deref();
        let asked = tasks(workplace, config, prepared, data, &llm.tokenizer)?;
        if let Some(task) = &asked.reviews {
            reviews.push(review_writing::latest(prepared, task)?);
        }
        if !args.no_text {
            let text = evaluate::text_prompt(prepared, config, &llm.model, &asked, &mut monitor);
            answered.push(text);
            let summary =
                evaluate::text_summary(prepared, config, &llm.model, &asked, &mut monitor)?;
            answered.extend(summary);
            if let Some(task) = &asked.reviews {
                let model = &llm.model;
                let row = review_writing::text_prompt(
                    prepared,
                    config,
                    model,
                    &asked,
                    task,
                    &mut monitor,
                )?;
                reviews.push(row);
            }
        }
        let before = plain_text::perplexity(&llm.model, &llm.tokenizer)?;
        for Tuned {
            config: own,
            folder,
            ..
        } in &tuned
        {
            // How the contenders are compared is the run's to say, for all of them alike.
            let own = RunConfig {
                evaluation: config.evaluation.clone(),
                ..own.clone()
            };
            let mut tasks = Tasks::new(prepared, &own, &llm.tokenizer)?;
            // The texts are those of the run.
            tasks.reviews.clone_from(&asked.reviews);
            let model = folder.load_user_llm(&own, prepared, llm.model.clone(), &llm.sha256)?;
            plain_texts.push(PlainTextRow {
                name: own.language()?.contender(),
                before,
                after: plain_text::perplexity(&model.llm, &llm.tokenizer)?,
            });
            answered.push(evaluate::user_llm(
                prepared,
                &own,
                &model,
                &tasks,
                &mut monitor,
            )?);
            if let Some(task) = &tasks.reviews {
                let row =
                    review_writing::user_llm(prepared, &own, &model, &tasks, task, &mut monitor)?;
                reviews.push(row);
            }
            let is_new = |costs: &[Cost]| costs.iter().all(|cost| cost.name != way(&model));
            if args.costs && model.reads_user() && is_new(&costs) {
                let first_token = FirstToken {
                    lengths: &lengths(own.encoder.max_length),
                    runs: RUNS,
                    prepared,
                    llm: &llm,
                    tasks: &tasks,
                };
                if costs.is_empty() {
                    costs = first_token.of_text(&mut monitor)?;
                }
                costs.extend(first_token.of_user(&own, &model, &mut monitor)?);
            }
        }
    }
    if tuned.is_empty() && !config.is_encoder_only() {
        output::note("nothing is tuned yet; `user-llm tune` adds User-LLM to the table");
    }

    let rows: Vec<_> = answered
        .iter()
        .map(|answer: &Answered| evaluate::score(prepared, answer))
        .collect();
    let report = Report {
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        backend: workplace.backend().to_string(),
        protocol,
        contenders: rows,
        reviews,
        plain_text: plain_texts,
        costs,
    };
    report.write(folder)?;
    let ranks = serde_json::to_vec(&Ranks::new(prepared, &answered))?;
    folder.write(RANKS, &ranks)?;
    folder.write(
        "recall.svg",
        plots::recall(&report.contenders, &report.protocol).as_bytes(),
    )?;
    let training = plots::training(&folder.metrics()?, &report.protocol);
    if let Some(training) = &training {
        folder.write("training.svg", training.as_bytes())?;
    }
    if !report.costs.is_empty() {
        folder.write("costs.svg", plots::costs(&report.costs).as_bytes())?;
    }
    output::print(&report.to_markdown());
    let others = match (&training, report.costs.is_empty()) {
        (None, true) => "",
        (Some(_), true) => " and training.svg",
        (None, false) => " and costs.svg",
        (Some(_), false) => ", training.svg and costs.svg",
    };
    output::note(&format!(
        "written to {}, with recall.svg{} beside it",
        folder.path().join("report.md").display(),
        others
    ));
    if let Some(path) = &args.save {
        let tuning = match tuned.as_slice() {
            [Tuned { folder, .. }] => folder.training("tuning"),
            _ => None,
        };
        let training = [folder.training("pretraining"), tuning];
        let origin = origin::after(commands(&run, args, path, &tuned), workplace.backend());
        let tunings: Vec<_> = tuned
            .iter()
            .map(|Tuned { name, config, .. }| (name.as_str(), config))
            .collect();
        let mut results = Results::new(prepared, config, report.contenders, training, origin);
        (results.reviews, results.plain_text) = (report.reviews, report.plain_text);
        results.write(path, config, &tunings)?;
        output::note(&format!("and kept in {}", path.display()));
    }
    Ok(Ended::Done)
}

/// Lengths of history whose costs are measured: up to what the encoder reads.
fn lengths(longest: usize) -> Vec<usize> {
    let lengths = LENGTHS.into_iter().chain([longest]);
    let mut lengths: Vec<usize> = lengths.filter(|&events| events <= longest).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// The contenders that need no language model.
pub(crate) fn baselines(run: &Run, device: &Device) -> anyhow::Result<Vec<Answered>> {
    let Run {
        config,
        prepared,
        folder,
    } = run;
    Ok(vec![
        evaluate::popularity(prepared, config),
        match folder.load_history_encoder(config, prepared, device)? {
            HistoryEncoder::Dual(encoder) => {
                evaluate::dual_encoder(prepared, config, &encoder, device)
            }
            HistoryEncoder::NextEvent(encoder) => {
                evaluate::encoder(prepared, config, &encoder, device)
            }
        },
    ])
}

/// What makes the models of this evaluation again, given the configs that are kept in `saved`.
fn commands(run: &Run, args: &EvaluateArgs, saved: &Path, tuned: &[Tuned]) -> Vec<String> {
    let quoted = |path: &Path| origin::quoted(&path.display().to_string());
    let mut options = format!(" --run {}", quoted(run.folder.path()));
    if let Some(data) = &args.run.data {
        options += &format!(" --data {}", quoted(data));
    }
    let config = quoted(&saved.join("config.toml"));
    let mut commands = vec![format!("user-llm pretrain --config {config}{options}")];
    commands.extend(tuned.iter().map(|Tuned { name, .. }| {
        let config = quoted(&saved.join(format!("{name}.toml")));
        format!("user-llm tune --config {config}{options}")
    }));
    commands
}

/// One table of several results.
fn compare(folders: &[PathBuf]) -> anyhow::Result<Ended> {
    let all: Result<Vec<Results>, _> = folders.iter().map(|path| Results::read(path)).collect();
    output::print(&results::compare(&all?)?);
    Ok(Ended::Done)
}

/// Keep `n` of the test users, spread evenly.
pub(crate) fn thin(prepared: &mut Prepared, n: usize) {
    let all = std::mem::take(&mut prepared.test_users);
    let n = n.min(all.len());
    prepared.test_users = (0..n).map(|at| all[at * all.len() / n]).collect();
}
