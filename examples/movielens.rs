//! The whole of User-LLM on real data with a real language model, in ten minutes on two cores.
//!
//! ```text
//! cargo run --release --example movielens
//! cargo run --release --example movielens -- --fusion soft-prompt
//! cargo run --release --example movielens -- --dataset movielens-1m --data DIR --strategy lora
//! ```
//!
//! Fetches MovieLens 100K and SmolLM2-135M-Instruct, pretrains the user encoder, fuses it into the
//! language model, tunes, and prints three things: the contenders' table, the table of costs, and
//! one person's recommendations. What it trains stays in `runs/` and is taken up again from there.
#![recursion_limit = "256"]

mod support;

use burn::module::Module;
use trainer::efficiency::FirstToken;
use trainer::{Prepared, RunFolder, Session, Tasks, evaluate, pretrain, report, sources, tune};
use user_llm::trainer;
use user_llm::trainer::report::Report;

fn main() -> anyhow::Result<()> {
    let setup = support::setup()?;
    let (config, device, mut monitor) = (&setup.config, &setup.device, support::monitor());

    // Load: histories in time order, a catalogue, the leave-one-out split.
    let dataset = sources::dataset(&config.data, setup.data.as_deref(), &setup.store)?;
    support::say(&dataset.stats().to_string());
    let prepared = Prepared::new(dataset, config)?;
    let run = RunFolder::open(&setup.run, config, &prepared)?;

    // Pretrain: the encoder predicts every next event of every history. No labels.
    let (checkpoints, mut log) = (run.pretraining()?, run.logger()?);
    let session = Session::new(&mut monitor)
        .saving(&checkpoints)
        .logging(&mut log);
    let (encoder, outcome) = pretrain(&prepared, config, device, session)?;
    support::stop_if(outcome.is_interrupted);
    run.save_encoder(encoder.clone())?;

    // The contenders that need no fusion.
    let language_model = sources::language_model(config.language()?.llm, &setup.store, device)?;
    run.describe(config, &prepared, Some(&language_model))?;
    let llm = &language_model.model;
    let tasks = Tasks::new(&prepared, config, &language_model.tokenizer)?;
    let mut answered = vec![
        evaluate::popularity(&prepared, config),
        evaluate::encoder(&prepared, config, &encoder, device),
        evaluate::text_prompt(&prepared, config, llm, &tasks, &mut monitor),
    ];

    // Fuse and tune, in each way that was asked for.
    let first_token = FirstToken {
        lengths: &setup.lengths,
        runs: 3,
        prepared: &prepared,
        llm: &language_model,
        tasks: &tasks,
    };
    let mut costs = first_token.of_text(&mut monitor)?;
    for config in setup.fusions() {
        let language = config.language()?;
        let model = language.fuse(llm.clone().train(), encoder.clone().train())?;
        let run = run.tuned_by(&config);
        let (checkpoints, mut log) = (run.tuning()?, run.logger()?);
        let session = Session::new(&mut monitor)
            .saving(&checkpoints)
            .logging(&mut log);
        let (model, outcome) = tune(model, &tasks, &prepared, &config, session)?;
        support::stop_if(outcome.is_interrupted);
        run.save_user_llm(&config, &model, &outcome.trained, &language_model.sha256)?;
        let model = model.materialize(); // adapters, if any, merged into the weights

        answered.push(evaluate::user_llm(
            &prepared,
            &config,
            &model,
            &tasks,
            &mut monitor,
        )?);
        costs.extend(first_token.of_user(&config, &model, &mut monitor)?);
    }

    // Print.
    let rows = answered.iter();
    let report = Report {
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        backend: setup.backend.clone(),
        protocol: evaluate::protocol(&prepared, config),
        contenders: rows.map(|row| evaluate::score(&prepared, row)).collect(),
        reviews: Vec::new(),
        plain_text: Vec::new(),
        costs,
    };
    report.write(&run)?;
    support::say(&report.to_markdown());
    support::say(&report::person(&prepared, config, &answered, 0));
    setup.farewell();
    Ok(())
}
