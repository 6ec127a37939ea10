//! `user-llm bench`.

use trainer::efficiency::{Limits, PartCost, Sizes, parts, ranking};
use trainer::{Precision, Tasks, sources};

use crate::arguments::BenchArgs;
use crate::runs::{Run, Tuned, in_precision};
use crate::workplace::Workplace;
use crate::{Ended, output};

pub(crate) fn run(workplace: &Workplace, args: &BenchArgs) -> anyhow::Result<Ended> {
    let run = Run::find(workplace, &args.run)?;
    let device = workplace.device()?;
    let Some(tuned) = run.one_tuned(args.tuning.as_deref())? else {
        anyhow::bail!("nothing is tuned here; `user-llm tune` does it");
    };
    let Tuned { config, folder, .. } = &tuned;
    let llm = sources::language_model(config.language()?.llm, &workplace.store, &device)?;
    let model = folder.load_user_llm(config, &run.prepared, llm.model, &llm.sha256)?;
    // Bytes are counted of 32 bits.
    let model = in_precision(model, Some(Precision::F32))?;
    anyhow::ensure!(
        model.reads_user(),
        "{} reads no user embeddings; --tuning names another",
        tuned.name
    );
    let sizes = Sizes::new(config, &llm.config, &model)?;
    let events = args.events.unwrap_or(config.data.history_len);
    anyhow::ensure!(
        (1..=config.encoder.max_length).contains(&events),
        "--events {events}: the encoder reads from 1 to {}",
        config.encoder.max_length
    );

    let (tokens, runs) = (args.tokens as usize, args.runs as usize);
    let limits = Limits::measure(&device, runs);
    let prepared = &run.prepared;
    let mut costs = parts(&model, &sizes, prepared, events, tokens, runs);
    let tasks = Tasks::new(prepared, config, &llm.tokenizer)?;
    costs.push(ranking(
        &model, &sizes, prepared, config, &tasks, events, runs,
    )?);
    output::print(&format!(
        "{}\n\n{events} events, a prompt of {tokens} tokens; operations and weights by formula, 32-bit, \
         weights once a step; titles after the run's own question, by a beam of {}, user embeddings at hand; \
         milliseconds are medians of {runs} runs; share: of {:.1} GFLOP/s and {:.1} GB/s, which this \
         machine reached in a product of matrices and in reading memory, the nearer one",
        table(&costs, &limits),
        config.evaluation.beam_width,
        limits.gflop_per_second,
        limits.gigabytes_per_second
    ));
    Ok(Ended::Done)
}

fn table(costs: &[PartCost], limits: &Limits) -> String {
    let mut rows = vec![
        ["part", "MFLOP", "MB", "ms", "share"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(costs.iter().map(|cost| {
        vec![
            cost.name.clone(),
            format!("{:.2}", cost.gflop * 1e3),
            format!("{:.2}", cost.megabytes),
            format!("{:.2}", cost.ms),
            // A difference of two times may be nothing.
            match cost.ms > 0.0 {
                true => format!("{:.0} %", 100.0 * cost.share(limits)),
                false => "–".into(),
            },
        ]
    }));
    output::columns(&rows)
}
