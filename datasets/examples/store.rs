//! A dataset into a prepared store, and what is in one.
//!
//! ```sh
//! cargo run --release -p datasets --example store -- prepare ml-20m.zip films 512
//! cargo run --release -p datasets --example store -- seal theirs
//! ```
//!
//! The first reads a folder or zip of a layout that `datasets::load` knows, with at most about so
//! many megabytes of events in memory; the second locks a store that another program wrote. Both
//! print how many people, items and events there are.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::path::Path;

use datasets::Source;
use datasets::store::{PrepareConfig, PreparedStore, prepare_within};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let store = match arguments[..] {
        ["prepare", source, store, megabytes] => prepare_within(
            megabytes.parse::<usize>()? << 20,
            &Source::Path(source.into()),
            &PrepareConfig::default(),
            Path::new(store),
        )?,
        ["seal", store] => PreparedStore::seal(Path::new(store), store, false)?,
        _ => return Err("prepare SOURCE STORE MEGABYTES, or seal STORE".into()),
    };
    let lock = store.lock();
    println!(
        "{} people, {} items, {} events",
        lock.users, lock.items, lock.events
    );
    if let Some(report) = store.report()? {
        println!("{}", report.leakage);
    }
    Ok(())
}
