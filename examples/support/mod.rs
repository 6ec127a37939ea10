//! What the examples need of a command line, so that they can be about something else.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to a person"
)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use user_llm::datasets::assets::{AssetStore, default_cache_dir};
use user_llm::llm_fusion::FusionKind;
use user_llm::trainer::{RunConfig, Terminal, backend};

const QUICK: &str = include_str!("../../configs/movielens-100k-quick.toml");

/// User-LLM on MovieLens: pretrain, fuse, tune, compare.
#[derive(Parser, Debug)]
struct Options {
    /// flex, ndarray, wgpu, wgpu:1, libtorch, libtorch:cuda:0, cuda:0 (each but flex a feature)
    #[arg(long, default_value = "flex")]
    backend: String,
    /// A known dataset (movielens-100k, movielens-1m, …), fetched if need be
    #[arg(long)]
    dataset: Option<String>,
    /// A folder or zip that holds the dataset already
    #[arg(long)]
    data: Option<PathBuf>,
    /// Only this way in; both are compared otherwise
    #[arg(long, value_enum)]
    fusion: Option<Fusion>,
    /// What trains: full, lora, enc (language model frozen), proj (encoder frozen, too)
    #[arg(long)]
    strategy: Option<String>,
    /// quick: ten minutes on two cores; ci: two minutes, too short to show anything
    #[arg(long, value_enum, default_value_t = Budget::Quick)]
    budget: Budget,
    /// Change a key of the run file, as in --set tuning.training.steps=8000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the run, to be resumed from [default: runs/NAME]
    #[arg(long)]
    run: Option<PathBuf>,
    /// Fetch nothing: only what is in the cache, and what --data names
    #[arg(long)]
    offline: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fusion {
    CrossAttention,
    SoftPrompt,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Budget {
    Quick,
    Ci,
}

/// Everything that the command line decides.
pub(crate) struct Setup {
    /// Where, as it was asked for.
    pub(crate) backend: String,
    pub(crate) config: RunConfig,
    pub(crate) device: Device,
    pub(crate) store: AssetStore,
    pub(crate) data: Option<PathBuf>,
    pub(crate) run: PathBuf,
    /// Histories whose costs are measured.
    pub(crate) lengths: Vec<usize>,
    fusion: Option<FusionKind>,
    start: Instant,
}

/// Read the command line.
pub(crate) fn setup() -> anyhow::Result<Setup> {
    let options = Options::parse();
    let mut patches = Vec::new();
    let mut lengths = vec![50, 100, 200];
    let mut name = options.dataset.clone().unwrap_or("movielens-100k".into());
    name += "-quick";
    if options.budget == Budget::Ci {
        name += "-ci";
        lengths = vec![50];
        patches.extend(
            [
                "pretraining.steps=60",
                "pretraining.validation_users=64",
                "tuning.training.steps=100",
                "tuning.whole_model_steps=4",
                "evaluation.users=16",
                "evaluation.text_events=4",
                "evaluation.beam_width=10",
            ]
            .map(String::from),
        );
    }
    patches.push(format!("name={name}"));
    patches.extend(
        options
            .dataset
            .iter()
            .map(|dataset| format!("data.dataset={dataset}")),
    );
    patches.extend(
        options
            .strategy
            .iter()
            .map(|strategy| format!("tuning.strategy={strategy}")),
    );
    patches.extend(options.set);
    let config = RunConfig::from_toml(QUICK, "configs/movielens-100k-quick.toml", &patches)?;

    ctrlc::set_handler(|| {
        // The first asks for a checkpoint and an end, the second ends at once.
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;

    let cache = default_cache_dir(|name| std::env::var_os(name));
    Ok(Setup {
        device: backend::device(&options.backend)?,
        backend: options.backend,
        store: AssetStore::new(cache)
            .offline(options.offline)
            .progress(|progress| {
                if progress.total.is_some_and(|total| progress.done == total) {
                    eprintln!("fetched {}", progress.file);
                }
            }),
        data: options.data,
        run: options
            .run
            .unwrap_or_else(|| PathBuf::from("runs").join(&config.name)),
        lengths,
        fusion: options.fusion.map(|fusion| match fusion {
            Fusion::CrossAttention => FusionKind::CrossAttention,
            Fusion::SoftPrompt => FusionKind::SoftPrompt,
        }),
        start: Instant::now(),
        config,
    })
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Who watches the long steps.
pub(crate) fn monitor() -> Terminal {
    Terminal::new(|| STOP.load(Ordering::Relaxed))
}

/// End after an interruption: everything is saved.
pub(crate) fn stop_if(is_interrupted: bool) {
    if is_interrupted {
        say("Stopped. The same command goes on from here.");
        std::process::exit(130);
    }
}

/// Print a result.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

impl Setup {
    /// The run, once for each way in.
    pub(crate) fn fusions(&self) -> Vec<RunConfig> {
        let both = [FusionKind::CrossAttention, FusionKind::SoftPrompt];
        let wanted = both
            .into_iter()
            .filter(|kind| self.fusion.is_none_or(|only| only == *kind));
        wanted
            .map(|kind| {
                let mut config = self.config.clone();
                if let Some(fusion) = &mut config.fusion {
                    fusion.kind = kind;
                }
                config
            })
            .collect()
    }

    /// How long it took, and what to do next.
    pub(crate) fn farewell(&self) {
        say(&format!(
            "{:.0} s in all; weights, checkpoints and report are in {}.\n\n\
             This was the quick run. The full one takes about three hours on two cores:\n  \
             cargo run --release --bin user-llm -- pretrain --config configs/movielens-1m.toml --data DIR\n  \
             cargo run --release --bin user-llm -- tune     --config configs/movielens-1m.toml --data DIR\n  \
             cargo run --release --bin user-llm -- evaluate --run runs/movielens-1m --data DIR",
            self.start.elapsed().as_secs_f64(),
            self.run.display(),
        ));
    }
}
