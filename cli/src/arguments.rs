//! What can be typed, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use trainer::Precision;
use trainer::backend::BACKENDS;

use crate::embed::What;
use crate::people::PeopleArgs;
use crate::table::Format;
use crate::vectors;

const EXAMPLES: &str = "\
EXAMPLES
  From nothing to recommendations, on a laptop in about ten minutes:
    user-llm data fetch movielens-100k
    user-llm pretrain
    user-llm tune
    user-llm evaluate
    user-llm recommend --user 42

  Your own copy of the data, and a run file of your own:
    user-llm config > run.toml
    user-llm pretrain --config run.toml --data ~/ml-1m --run runs/mine
    user-llm tune     --run runs/mine --data ~/ml-1m --strategy lora

  Ask about a person:
    user-llm generate --user 42 --prompt \"Which film should I watch tonight?\"

  Something does not work:
    user-llm doctor

Every command has examples of its own: user-llm tune --help";

/// A language model that reads user embeddings in place of a history written as text.
///
/// First the user encoder learns from histories alone (`pretrain`); then the language model learns
/// to read what it says of a person (`tune`). A run is one file (`config`) and one folder, which
/// holds weights, checkpoints and reports. Whatever is stopped goes on where it was when the same
/// command is given again.
#[derive(Parser, Debug)]
#[command(name = "user-llm", version, after_long_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    #[arg(long, global = true, default_value = "flex", value_name = "SPEC")]
    #[arg(help = format!("What computes: {BACKENDS} (`user-llm doctor` says what is there)"))]
    pub(crate) backend: String,
    /// Folder of datasets and models [default: $USER_LLM_CACHE, else ~/.cache/user-llm]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Fetch nothing: only what is in the cache, and what is given by path
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    /// Plain lines in place of dashboard and bars
    #[arg(long, global = true)]
    pub(crate) plain: bool,
    /// Say more on standard error; twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Fetch datasets and models, or look at a dataset
    #[command(after_long_help = "\
EXAMPLES
  user-llm data fetch
  user-llm data fetch movielens-100k
  user-llm data stats ~/ml-1m.zip
  user-llm data validate ~/reviews.jsonl.gz --strict")]
    Data(DataArgs),
    /// Print a complete run file
    #[command(after_long_help = "\
EXAMPLES
  user-llm config > run.toml
  user-llm config --set pretraining.steps=2000 --set tuning.strategy=lora
  user-llm config --from runs/mine/config.toml --set seed=7")]
    Config(ConfigArgs),
    /// Teach the user encoder from histories alone: the first stage
    #[command(after_long_help = "\
EXAMPLES
  user-llm pretrain
  user-llm pretrain --data ~/ml-100k --set pretraining.steps=2000
  user-llm pretrain --config run.toml --run runs/mine --backend cuda

Ctrl-C saves a checkpoint and ends; the same command goes on from there.")]
    Pretrain(TrainingArgs),
    /// Teach the language model to read user embeddings: the second stage
    #[command(after_long_help = "\
EXAMPLES
  user-llm tune
  user-llm tune --fusion soft-prompt
  user-llm tune --run runs/mine --data ~/ml-1m --strategy lora

  The contenders: the language model with the history as text, embeddings and text, no pretraining:
    user-llm tune --fusion none --strategy lora --set prompts.text_events=50
    user-llm tune --set prompts.text_events=10
    user-llm tune --set tuning.encoder=random --set tuning.teacher_weight=0

Each is kept by itself under a name that says what it is, and all share the run's pretrained encoder.
Ctrl-C saves a checkpoint and ends; the same command goes on from there.")]
    Tune(TuneArgs),
    /// Compare popularity, encoder, text prompt and all tuned models on the same users
    #[command(after_long_help = "\
EXAMPLES
  user-llm evaluate
  user-llm evaluate --run runs/mine --data ~/ml-1m --no-text
  user-llm evaluate --costs --users 50
  user-llm evaluate --run runs/mine --save docs/results/mine-42
  user-llm evaluate --compare docs/results/mine-42 docs/results/mine-43

Prints the tables with their protocol, and writes report.md, report.json, recall.svg (with
intervals), training.svg and, with --costs, costs.svg into the run's folder. --save keeps configs,
figures and where they come from in a small folder; --compare sets several such folders into one
table, the mean over the seeds of each run with its spread.")]
    Evaluate(EvaluateArgs),
    /// Write runs and grids as one HTML file that needs no network
    #[command(after_long_help = "\
EXAMPLES
  user-llm report runs/mine
  user-llm report ablations/strategies runs/mine runs/other --out report.html
  user-llm report runs/mine --data ~/ml-1m --users 3

Holds what `evaluate` and `ablate` have left, of a grid all its runs: tables with their protocol, intervals,
curves, gates by block, costs by length of history (of `evaluate --costs`) and the run file. With --users the file
shows the histories of some people, without their ids, and is as private as the data.")]
    Report(ReportArgs),
    /// Run a grid of runs that differ in a few keys, and set them into one table
    #[command(after_long_help = "\
EXAMPLES
  user-llm ablate configs/ablations/encoder-ml-1m.toml --dry-run
  user-llm ablate configs/ablations/encoder-ml-1m.toml
  user-llm ablate configs/paper/strategies.toml --budget cpu --data ~/ml-1m
  user-llm ablate configs/paper/strategies.toml --budget gpu --devices cuda:0,cuda:1

  Several grids whose cells read the same encoder, pretrained once:
    user-llm ablate configs/paper/strategies.toml --budget cpu --encoders ablations/encoders
    user-llm ablate configs/paper/soft-prompt.toml --budget cpu --encoders ablations/encoders

  grid.toml:
    name = \"strategies\"
    base = \"movielens-1m.toml\"
    seeds = [42, 43]
    [set]
    \"evaluation.users\" = 1000
    [vary]
    \"fusion.kind\" = [\"cross-attention\", \"soft-prompt\"]
    \"tuning.strategy\" = [\"enc\", \"proj\"]

Cells with the same data, encoder, objective, pretraining and seed share a pretrained encoder. Ctrl-C
saves and ends; the same command goes on, and skips what is done. A cell that fails stops no other;
its error stands in the table, and the command ends with 1. table.md, table.csv and table.json hold
means and spreads over seeds, and a paired test of every cell against the first.")]
    Ablate(AblateArgs),
    /// Recommend items to a person, to several, or to everybody
    #[command(after_long_help = "\
EXAMPLES
  user-llm recommend --user 42
  user-llm recommend --user 42 --k 20 --model encoder --run runs/mine --data ~/ml-1m
  user-llm recommend --user 42 --json | jq '.items[].title'

  Everybody, into a table; the encoder takes seconds for thousands, the language model longer:
    user-llm recommend --all --model encoder --out recommended.parquet
    user-llm recommend --users ids.txt --available-items in-stock.txt --out recommended.csv

  Somebody new, who may have seen what the catalogue lacks:
    user-llm recommend --history new.csv --format jsonl

The score is the natural logarithm of an item's probability to come next.")]
    Recommend(RecommendArgs),
    /// Teach a trained run items that came later, from their genres and titles
    #[command(after_long_help = "\
EXAMPLES
  user-llm add-items new.csv
  user-llm add-items --run runs/mine --data ~/ml-1m new.jsonl

new.csv:
  id,title,genres
  9001,Ronin (1998),Action|Crime|Thriller

Each item gets the mean of what was learned of the ten trained items most like it in genres and
title words. It can then be recommended, and stand in a --history. Nothing that was trained
changes, nor do the encoder's scores of other items; `evaluate` and training leave it out. The items
are in the run folder's added-items.jsonl: remove a line, or the file, to undo.")]
    AddItems(AddItemsArgs),
    /// Write people's embeddings to a file, for a search, clusters or a model of your own
    #[command(after_long_help = "\
EXAMPLES
  user-llm embed --all --out people.parquet
  user-llm embed --users ids.txt --what mean --out people.safetensors
  user-llm embed --history new.csv --what user-embeddings --out new.safetensors")]
    Embed(EmbedArgs),
    /// Let the language model answer with a person's embeddings attached
    #[command(after_long_help = "\
EXAMPLES
  user-llm generate --user 42 --prompt \"What should I watch tonight?\"
  user-llm generate --user 42 --prompt \"Next film:\" --raw --max-tokens 12
  user-llm generate --user 42 --prompt \"Describe my taste.\" --temperature 0.7 --top-p 0.9 --seed 1")]
    Generate(GenerateArgs),
    /// Write a tuned model as files for others: transformers, PEFT, this library
    #[command(after_long_help = "\
EXAMPLES
  user-llm export --out export
  user-llm export --run runs/mine --data ~/ml-1m --tuning lora-cross-attention --out export
  python scripts/check_export.py export

The folder holds a model card, the language model with what was trained in it merged (a Hugging Face
folder), its adapters in PEFT's layout if it was tuned with --strategy lora, and encoder, Perceiver,
projector and cross-attention in a file of their own. All is read back before it counts: a trained
parameter that is in no file, or other logits, are an error.")]
    Export(ExportArgs),
    /// Measure a tuned model part by part, against what this machine can do
    #[command(after_long_help = "\
EXAMPLES
  user-llm bench
  user-llm bench --run runs/mine --data ~/ml-1m --events 200 --tokens 512

Arithmetic and weights of encoder, Perceiver, cross-attention, language model and a ranking of all
titles by formula, their times, and how near they come to the machine's measured limits. Nothing else should be running.")]
    Bench(BenchArgs),
    /// Look at this machine: version, backends, devices, cache, pip
    #[command(after_long_help = "\
EXAMPLES
  user-llm doctor
  user-llm doctor --backend wgpu

Ends with 1 if the backend that was asked for does not work.")]
    Doctor,
}

#[derive(Args, Debug)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum DataCommand {
    /// Fetch a dataset or model into the cache; without a name, list them
    #[command(after_long_help = "\
EXAMPLES
  user-llm data fetch
  user-llm data fetch movielens-100k
  user-llm data fetch smollm2-135m-instruct --cache /mnt/big/cache
  user-llm data fetch amazon-2018/Magazine_Subscriptions
  user-llm data fetch google-local-2021/Vermont

A download that was cut off goes on where it was. What arrives is checked by size and SHA-256.")]
    Fetch {
        /// A name from the list
        name: Option<String>,
    },
    /// Count what is in a dataset
    #[command(after_long_help = "\
EXAMPLES
  user-llm data stats movielens-100k
  user-llm data stats ~/ml-1m.zip --json
  user-llm data stats ~/Musical_Instruments_5.json.gz --min-history 51 --plots stats
  user-llm data stats --config shop.toml")]
    Stats {
        #[command(flatten)]
        source: SourceArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Draw lengths of histories and popularity of items into this folder, as SVG
        #[arg(long, value_name = "DIR")]
        plots: Option<PathBuf>,
    },
    /// Read a dataset once, with all checks, and write a store that training reads in no time
    #[command(after_long_help = "\
EXAMPLES
  user-llm data prepare movielens-20m --min-history 51 --out ml-20m
  user-llm data prepare --config shop.toml --out shop-store
  user-llm data prepare ~/Movies_and_TV.json.gz --memory 2 --out movies-store
  user-llm pretrain --config shop.toml --data shop-store

The store is a folder of Arrow files that pandas, Polars, DuckDB and Spark read, too (docs/store.md),
with vocabularies, catalogue, histories, split, a report of repairs and of what leaks, and a lock of
hashes. The same input and settings give the same bytes.")]
    Prepare {
        #[command(flatten)]
        source: SourceArgs,
        /// The store's folder, which appears whole or not at all
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Hold about so many GB of events in memory at a time, and the rest on disk
        #[arg(long, value_name = "GB", value_parser = gigabytes)]
        memory: Option<f64>,
        /// Store with each target N items to rank it among, drawn by --candidates-seed
        #[arg(long, value_name = "N")]
        candidates: Option<usize>,
        /// Seed of the candidates
        #[arg(long, value_name = "SEED", default_value_t = 42)]
        candidates_seed: u64,
    },
    /// Check a store that another program wrote, row by row, and lock it
    #[command(after_long_help = "\
EXAMPLES
  user-llm data seal shop.store --name shop
  user-llm pretrain --data shop.store

Spark, BigQuery or pandas write the tables as docs/store.md has them. What is wrong is told by file and
row, and nothing is locked then.")]
    Seal {
        /// The folder with the tables
        store: PathBuf,
        /// What the dataset is called
        #[arg(long)]
        name: String,
        /// The timestamps are ranks within each history, and no times
        #[arg(long)]
        ranks: bool,
    },
    /// Read a dataset and report, as JSON, what is wrong with it, and what leaks through its split
    #[command(after_long_help = "\
EXAMPLES
  user-llm data validate ~/reviews.jsonl.gz --skip-bad 1000
  user-llm data validate --config shop.toml --strict --mask-values

What was dropped, merged or repaired stands under stats.report. Ends with 1 where the data cannot be
read, and with --strict wherever something was not taken as it stood.")]
    Validate {
        #[command(flatten)]
        source: SourceArgs,
        /// Fail if anything had to be dropped, merged or repaired
        #[arg(long)]
        strict: bool,
    },
}

/// A dataset, as a run would read it.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    /// A known name, fetched if need be, or a folder, zip, file or prepared store of data
    #[arg(required_unless_present = "config")]
    pub(crate) dataset: Option<String>,
    /// Read it as the section [data] of this run file says: tables, filters, split
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Leave out and count up to N bad records, as data.read.skip_bad does
    #[arg(long, value_name = "N")]
    pub(crate) skip_bad: Option<u64>,
    /// Tell the length of a bad value in place of the value
    #[arg(long)]
    pub(crate) mask_values: bool,
    /// Leave out people and items with fewer interactions, as data.min_interactions does
    #[arg(long, value_name = "N")]
    pub(crate) min_interactions: Option<usize>,
    /// Leave out people with fewer interactions, as data.min_history does
    #[arg(long, value_name = "N")]
    pub(crate) min_history: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Begin with this run file [default: the quick run on MovieLens 100K]
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Change a key, as in --set pretraining.steps=100; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TrainingArgs {
    /// Run file [default: the run folder's own, else the quick run on MovieLens 100K]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change a key, as in --set pretraining.steps=100; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// A folder or zip that holds the dataset already, in place of fetching it
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Leave out and count up to N bad records: short for --set data.read.skip_bad=N
    #[arg(long, value_name = "N")]
    pub(crate) skip_bad: Option<u64>,
    /// Folder of the run [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
    /// What trains: short for --set tuning.strategy=…
    #[arg(long, value_enum)]
    pub(crate) strategy: Option<Strategy>,
    /// The way into the language model: short for --set fusion.kind=…
    #[arg(long, value_enum)]
    pub(crate) fusion: Option<Fusion>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Strategy {
    /// Everything
    Full,
    /// Adapters on the language model, the encoder, the fresh parts
    Lora,
    /// The encoder and the fresh parts; the language model is frozen
    Enc,
    /// The fresh parts: projector, Perceiver, cross-attention
    Proj,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Fusion {
    /// Inside the language model's blocks
    CrossAttention,
    /// Before the prompt
    SoftPrompt,
    /// Not at all: the language model reads the latest prompts.text_events as text
    None,
}

/// A run that is there.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Folder of the run [default: the only one in runs/]
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
    /// The dataset that the run was made with, where it was given by path
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct EvaluateArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Leave the text prompt out: it is the slowest
    #[arg(long)]
    pub(crate) no_text: bool,
    /// Measure what a question costs, too
    #[arg(long)]
    pub(crate) costs: bool,
    /// Only say what would be measured, on whom and against what
    #[arg(long)]
    pub(crate) protocol: bool,
    /// Only so many of the run's test users
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) users: Option<u32>,
    /// Keep configs, figures and where they come from in this folder, too
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
    /// Evaluate nothing: set these folders of --save into one table
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["run", "data", "no_text", "costs", "users", "protocol", "save"])]
    pub(crate) compare: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Folders of runs, and of grids
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// The file, which appears whole or not at all
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    pub(crate) out: PathBuf,
    /// Show the histories and recommendations of so many test users of each run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) users: usize,
    /// The dataset that the runs were made with, where it was given by path
    #[arg(long, value_name = "PATH", requires = "users")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct AblateArgs {
    /// The grid: base, what is set, what varies
    #[arg(value_name = "GRID")]
    pub(crate) grid: PathBuf,
    /// Which of the grid's budgets
    #[arg(long, value_name = "NAME")]
    pub(crate) budget: Option<String>,
    /// Run cells side by side, one on each of these, as in cuda:0,cuda:1 [default: --backend]
    #[arg(long, value_name = "SPEC,…", value_delimiter = ',')]
    pub(crate) devices: Vec<String>,
    /// A folder or zip that holds the dataset already, in place of fetching it
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Folder of encoders, cells and tables [default: ablations/NAME, with -BUDGET]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Folder of pretrained encoders, for grids that share them [default: encoders/ in --out]
    #[arg(long, value_name = "DIR")]
    pub(crate) encoders: Option<PathBuf>,
    /// Only list cells, the encoders that they share, and what is done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Recommender {
    /// The user encoder's own item head
    Encoder,
    /// The language model that reads user embeddings
    UserLlm,
}

#[derive(Args, Debug)]
pub(crate) struct RecommendArgs {
    #[command(flatten)]
    pub(crate) people: PeopleArgs,
    /// How many items each
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) k: u16,
    /// Who recommends [default: user-llm if the run is tuned, else encoder]
    #[arg(long, value_enum)]
    pub(crate) model: Option<Recommender>,
    /// Float type of the language model's matrices: f16 is half the memory and, on flex, a third less
    /// time a token [default: as the run has it]
    #[arg(long, value_name = "f32|f16|bf16")]
    pub(crate) precision: Option<Precision>,
    /// Which tuned model, where the run has several, as in enc-cross-attention
    #[arg(long, value_name = "NAME")]
    pub(crate) tuning: Option<String>,
    /// Leave items of the history out [default: as the run's evaluation does]
    #[arg(long, conflicts_with = "include_seen")]
    pub(crate) exclude_seen: bool,
    /// Items of the history, too
    #[arg(long)]
    pub(crate) include_seen: bool,
    /// Recommend only the items whose ids are in this file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) available_items: Option<PathBuf>,
    /// A table of user, rank, item, title and score, whole or not at all; the name says the format
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The table's format, whatever its name; without --out it goes to standard output as CSV
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// One person's as JSON
    #[arg(long, requires = "user", conflicts_with_all = ["out", "format"])]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct AddItemsArgs {
    /// .csv or .jsonl with id, title, and if known genres (with | between) and year
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) people: PeopleArgs,
    /// Which embedding, with its shape
    #[arg(long, value_enum, default_value = "last")]
    pub(crate) what: What,
    /// The file, which appears whole or not at all; its name says the format
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The file's format, whatever its name
    #[arg(long, value_enum)]
    pub(crate) format: Option<vectors::Format>,
    /// Which tuned model, where the run has several, as in enc-cross-attention
    #[arg(long, value_name = "NAME")]
    pub(crate) tuning: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The folder, which appears whole or not at all
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Which tuned model, where the run has several, as in enc-cross-attention
    #[arg(long, value_name = "NAME")]
    pub(crate) tuning: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// Events of the history [default: as many as the run reads]
    #[arg(long, value_name = "N")]
    pub(crate) events: Option<usize>,
    /// Tokens of the prompt; 32 in the paper
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tokens: u32,
    /// Runs that a time is the median of
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Which tuned model, where the run has several, as in enc-cross-attention
    #[arg(long, value_name = "NAME")]
    pub(crate) tuning: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    /// The person's id, as the data files spell it
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    /// What is asked
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: String,
    /// Give the prompt as it is, not as a turn of a conversation
    #[arg(long)]
    pub(crate) raw: bool,
    /// At most so many tokens
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,
    /// Above 0 tokens are drawn at random: below 1 is bolder, above 1 more varied
    #[arg(long, default_value_t = 0.0, value_name = "T", value_parser = temperature)]
    pub(crate) temperature: f64,
    /// Draw from so many of the likeliest tokens; 0 is all of them
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) top_k: usize,
    /// Draw from the likeliest tokens whose probabilities add up to this
    #[arg(long, default_value_t = 1.0, value_name = "P", value_parser = probability)]
    pub(crate) top_p: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Float type of the language model's matrices: f16 is half the memory and, on flex, a third less
    /// time a token [default: as the run has it]
    #[arg(long, value_name = "f32|f16|bf16")]
    pub(crate) precision: Option<Precision>,
    /// Which tuned model, where the run has several, as in enc-cross-attention
    #[arg(long, value_name = "NAME")]
    pub(crate) tuning: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

fn temperature(text: &str) -> Result<f64, String> {
    number(
        text,
        |value| (0.0..=100.0).contains(&value),
        "from 0 to 100",
    )
}

fn probability(text: &str) -> Result<f64, String> {
    number(
        text,
        |value| value > 0.0 && value <= 1.0,
        "above 0 and at most 1",
    )
}

fn gigabytes(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value.is_finite(), "above 0")
}

fn number(text: &str, is_fine: fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if is_fine(value) => Ok(value),
        _ => Err(format!("expected a number {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Options::command().debug_assert();
    }
}
