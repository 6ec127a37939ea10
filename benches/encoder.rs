//! Speed and memory of the user encoder: training steps, full-ranking evaluation, one new event.
//!
//! ```text
//! cargo bench --bench encoder                        # all, each in a process of its own
//! cargo bench --bench encoder -- train-3706 --json   # one
//! bash benches/peers/run.sh encoder                  # beside PyTorch
//! ```
//!
//! What each measure is: docs/benchmarks.md. PyTorch's side: benches/peers/encoder.py.
#![recursion_limit = "256"]

mod support;

use std::time::Instant;

use anyhow::ensure;
use burn::tensor::{Int, Tensor, TensorData};
use support::{Measure, Setting};
use user_llm::datasets::{Catalogue, Dataset, Event, History, Item};
use user_llm::trainer::{Monitor, Prepared, RunConfig, Session, evaluate, pretrain};
use user_llm::user_encoder::{EventBatch, UserEncoder};

/// Where PyTorch's side has it, too.
const DROPOUT: [&str; 2] = ["encoder.dropout_input=0.1", "encoder.dropout=0.1"];

/// Against the full softmax over all items: what is read is trained.
const SAMPLED: [&str; 2] = [
    "objective.item_loss={ sampled-softmax = { negatives = 4096 } }",
    "objective.sparse_rows=true",
];

fn main() -> anyhow::Result<()> {
    support::main(&[
        Measure {
            name: "train-3706",
            run: |setting| train(setting, 3706, 10, &[]),
        },
        Measure {
            name: "train-3706-dropout",
            run: |setting| train(setting, 3706, 10, &DROPOUT),
        },
        Measure {
            name: "train-27280",
            run: |setting| train(setting, 27280, 10, &[]),
        },
        Measure {
            name: "train-500000",
            run: |setting| train(setting, 500_000, 4, &[]),
        },
        Measure {
            name: "train-500000-sampled",
            run: |setting| train(setting, 500_000, 10, &SAMPLED),
        },
        Measure {
            name: "evaluate-6040",
            run: rank_all,
        },
        Measure {
            name: "event-update",
            run: event_update,
        },
        Measure {
            name: "event-afresh",
            run: event_afresh,
        },
    ])
}

/// Pretraining as `user-llm pretrain` does it: next-item cross-entropy at all positions of 64
/// histories of 50 events, AdamW. Seconds a step, with the batch's making.
fn train(
    setting: &Setting,
    n_items: usize,
    timed: usize,
    patches: &[&str],
) -> anyhow::Result<Vec<f64>> {
    let (warm_up, timed) = setting.repetitions(timed);
    let batch_size = setting.size(64, 2);
    let steps = format!("pretraining.steps={}", warm_up + timed);
    let batch = format!("pretraining.batch_size={batch_size}");
    let config = config(&[&[steps.as_str(), batch.as_str()], patches].concat())?;
    // The last two events are for validation and test.
    let dataset = dataset(batch_size, 50 + 2, setting.size(n_items, 300))?;
    let prepared = Prepared::new(dataset, &config)?;
    let mut laps = Laps(Vec::new());
    let session = Session::new(&mut laps);
    pretrain(&prepared, &config, &setting.device, session)?;
    let seconds = laps.0.windows(2).map(|at| (at[1] - at[0]).as_secs_f64());
    Ok(seconds.skip(warm_up).collect())
}

/// When training began and when each of its steps was done.
struct Laps(Vec<Instant>);

impl Monitor for Laps {
    fn begin(&mut self, _stage: &str, _done: usize, _total: usize) {
        self.0.push(Instant::now());
    }
    fn step(&mut self, _done: usize, _figures: &[(&str, f64)]) {
        self.0.push(Instant::now());
    }
    fn validated(&mut self, _done: usize, _figures: &[(&str, f64)]) {}
    fn end(&mut self, _summary: &str) {}
}

/// The ten best of all items that a user has not seen, for every user, as `user-llm evaluate` has
/// them: seconds for all.
fn rank_all(setting: &Setting) -> anyhow::Result<Vec<f64>> {
    let n_users = setting.size(6040, 8);
    let config = config(&["data.history_len=200"])?;
    let all = Prepared::new(dataset(n_users, 200 + 1, 3706)?, &config)?;
    let encoder = all.new_encoder(&setting.device);
    let warm_up = Prepared::new(dataset(64, 200 + 1, 3706)?, &config)?;
    evaluate::encoder(&warm_up, &config, &encoder, &setting.device);
    let start = Instant::now();
    let answered = evaluate::encoder(&all, &config, &encoder, &setting.device);
    let seconds = start.elapsed().as_secs_f64();
    ensure!(
        answered.recommended.len() == n_users,
        "not everybody was ranked"
    );
    Ok(vec![seconds])
}

/// One new event of one user at length 200: the whole history is read again.
fn event_afresh(setting: &Setting) -> anyhow::Result<Vec<f64>> {
    let encoder = one_user(setting)?;
    let events = events(200, setting);
    Ok(setting.time(50, || {
        let last = encoder.event_embeddings(&events).slice([0..1, 199..200]);
        last.sum().into_scalar::<f32>();
    }))
}

/// The same from what the encoder kept of the 199 events before.
fn event_update(setting: &Setting) -> anyhow::Result<Vec<f64>> {
    let encoder = one_user(setting)?;
    let mut kept = encoder.start(1);
    encoder.read_next(&events(199, setting), &mut kept);
    let event = events(1, setting);
    Ok(setting.time(50, || {
        let last = encoder.read_next(&event, &mut kept.clone());
        last.sum().into_scalar::<f32>();
    }))
}

fn one_user(setting: &Setting) -> anyhow::Result<UserEncoder> {
    Ok(Prepared::new(dataset(1, 200, 3706)?, &config(&[])?)?.new_encoder(&setting.device))
}

fn events(length: usize, setting: &Setting) -> EventBatch {
    let ids: Vec<i64> = (0..length as i64).map(|at| at + 2).collect();
    let ids = TensorData::new(ids, [1, length, 1]);
    let ids = Tensor::<3, Int>::from_data(ids, &setting.device);
    EventBatch::new(vec![ids], vec![length])
}

/// The run file of these measures, with changes.
fn config(patches: &[&str]) -> anyhow::Result<RunConfig> {
    let patches: Vec<String> = patches.iter().map(ToString::to_string).collect();
    let text = include_str!("encoder.toml");
    Ok(RunConfig::from_toml(
        text,
        "benches/encoder.toml",
        &patches,
    )?)
}

/// Histories that walk the catalogue in strides, each in its own.
fn dataset(n_users: usize, length: usize, n_items: usize) -> anyhow::Result<Dataset> {
    let item = |index: usize| Item {
        id: index.to_string(),
        title: index.to_string(),
        year: None,
        genres: Vec::new(),
    };
    let history = |user: usize| History {
        user: user.to_string(),
        events: (0..length)
            .map(|at| Event {
                item: ((user * 7919 + at * (1 + user % 97)) % n_items) as u32,
                rating: 5.0,
                timestamp: at as i64,
            })
            .collect(),
    };
    let catalogue = Catalogue::new((0..n_items).map(item).collect(), Vec::new())?;
    let histories = (0..n_users).map(history).collect();
    Ok(Dataset::from_histories("walks", catalogue, histories)?)
}
