//! The readers on generated data of the size and shape of the real. Each test prints its figures;
//! memory is that of the whole process, so run one at a time:
//!
//! ```sh
//! cargo test --release -p datasets --test real_size -- --ignored --nocapture movielens_20m_in_csv
//! ```

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use datasets::generator::{FileKind, Generator, GeneratorConfig, table_config};
use datasets::{Dataset, Error, ReadOptions, load, tables};

/// The most memory that this process had, where the system tells.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn read(kind: FileKind, folder: &Path) -> Result<Dataset, Error> {
    match kind {
        FileKind::Movielens => load(folder),
        _ => tables::load(&table_config(kind), folder, &ReadOptions::default()),
    }
}

#[expect(clippy::print_stderr, reason = "figures are to be seen")]
fn write_and_read(config: &GeneratorConfig, kind: FileKind) -> (Dataset, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    Generator::new(config)
        .unwrap()
        .write(kind, folder.path())
        .unwrap();
    let (written, to_write) = (started.elapsed(), peak_mib());
    let started = Instant::now();
    let dataset = read(kind, folder.path()).unwrap();
    let taken = started.elapsed();
    let stats = dataset.stats();
    eprintln!(
        "{kind:?}: {} events written in {written:.1?} with {to_write} MiB, read in {taken:.1?} with \
         {} MiB\n{stats}",
        stats.interactions,
        peak_mib()
    );
    assert_eq!(
        (stats.users, stats.items, stats.interactions),
        (config.users, config.items, config.events)
    );
    (dataset, taken)
}

/// The issue's bounds: 60 seconds and 3 GB.
fn movielens_20m(kind: FileKind) {
    let (_, taken) = write_and_read(&GeneratorConfig::movielens_20m(42), kind);
    assert!(taken < Duration::from_secs(60), "{taken:?}");
    assert!(peak_mib() < 3000, "{} MiB", peak_mib());
}

#[test]
#[ignore = "writes and reads some 500 MB"]
fn movielens_20m_as_movielens() {
    movielens_20m(FileKind::Movielens);
}

#[test]
#[ignore = "writes and reads some 500 MB"]
fn movielens_20m_in_csv() {
    movielens_20m(FileKind::Csv);
}

#[test]
#[ignore = "writes and reads some 150 MB"]
fn movielens_20m_in_parquet() {
    movielens_20m(FileKind::Parquet);
}

/// The issue's bound: 4 GB.
#[test]
#[ignore = "writes and reads some 700 MB"]
fn a_hundred_million_events_in_parquet() {
    write_and_read(&GeneratorConfig::hundred_million(42), FileKind::Parquet);
    assert!(peak_mib() < 4000, "{} MiB", peak_mib());
}
