//! How long data takes to be prepared, and batches to be read: `bash benches/peers/run.sh data`.
//!
//! ```sh
//! data --make DIR [--events N]    # generated data of MovieLens 20M's size, or of N events
//! data MEASURE                    # one measure, of what USER_LLM_BENCH_DATA names
//! ```
#![expect(
    clippy::print_stdout,
    reason = "a bench talks to a person or to a script"
)]

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use datasets::Source;
use datasets::generator::{FileKind, Generator, GeneratorConfig};
use datasets::store::{PrepareConfig, PreparedStore, prepare_within};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A measure, named after the peer beside it, and what gives its seconds.
type Measure = fn(&Path) -> Result<f64, Box<dyn Error>>;

const MEASURES: [(&str, Measure); 3] = [
    ("prepare-20m-pandas", prepare_movielens),
    ("prepare-20m-polars", prepare_movielens),
    ("batches-pandas", read_batches),
];

/// Bytes of events to have in memory while preparing.
const MEMORY: usize = 512 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--list"] => MEASURES.iter().for_each(|(name, _)| println!("{name}")),
        ["--make", folder] => make(Path::new(folder), &GeneratorConfig::movielens_20m(42))?,
        ["--make", folder, "--events", events] => {
            make(Path::new(folder), &of_size(events.parse()?))?;
        }
        [name, ..] => {
            let measure = MEASURES.iter().find(|(known, _)| known == &name);
            let (_, measure) = measure.ok_or("no such measure: see --list")?;
            let folder = env::var("USER_LLM_BENCH_DATA")?;
            let seconds = measure(Path::new(&folder))?;
            let memory = format!("{name}, peak memory");
            for (name, unit, value) in [(name, "s", seconds), (&memory, "MB", peak_megabytes()?)] {
                println!(r#"{{"name": "{name}", "unit": "{unit}", "value": {value}}}"#);
            }
        }
        [] => return Err("what to measure? see --list".into()),
    }
    Ok(())
}

/// In the proportions of MovieLens 20M.
fn of_size(events: usize) -> GeneratorConfig {
    let whole = GeneratorConfig::movielens_20m(42);
    GeneratorConfig {
        users: (events / 144).max(1),
        items: whole.items.min(events / 10).max(300),
        events,
        ..whole
    }
}

fn make(folder: &Path, config: &GeneratorConfig) -> Result<(), Box<dyn Error>> {
    if !folder.exists() {
        let partial = folder.with_extension("partial");
        Generator::new(config)?.write(FileKind::Movielens, &partial)?;
        fs::rename(partial, folder)?;
    }
    Ok(())
}

/// The files of the release to a store.
fn prepare_movielens(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let path = store_path(folder);
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    let started = Instant::now();
    let source = Source::Path(folder.into());
    prepare_within(MEMORY, &source, &PrepareConfig::default(), &path)?;
    Ok(started.elapsed().as_secs_f64())
}

/// A store that the measures before have made.
fn store_path(folder: &Path) -> PathBuf {
    folder.with_extension("store")
}

/// A thousand batches of 64 windows of 50 events each, anywhere.
fn read_batches(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let store = PreparedStore::open(&store_path(folder))?;
    let mut random = StdRng::seed_from_u64(1);
    let started = Instant::now();
    let mut draw = || -> Vec<_> {
        let window = |_| {
            let user = random.random_range(0..store.n_users());
            let end = random.random_range(0..store.history_len(user)) + 1;
            (user, end.saturating_sub(50)..end)
        };
        (0..64).map(window).collect()
    };
    let mut batch = draw();
    for _ in 0..1000 {
        // As training does while a step is computed.
        let next = draw();
        for (user, window) in &next {
            store.history(*user).events.read_ahead(window.clone());
        }
        for (user, window) in batch {
            black_box(store.events(user, window).to_vec());
        }
        batch = next;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Most memory that this process ever had, as Linux counts it.
fn peak_megabytes() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kibibytes.ok_or("no VmHWM")?.parse::<f64>()? * 1024.0 / 1e6)
}
