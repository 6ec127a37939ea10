//! A dataset into a prepared store, and what is in one.
//!
//! ```sh
//! cargo run --release -p datasets --example store -- prepare ml-20m.zip films 512
//! cargo run --release -p datasets --example store -- seal theirs
//! cargo run --release -p datasets --example store -- rewrite theirs origin.json films
//! ```
//!
//! The first reads a folder or zip of a layout that `datasets::load` knows, with at most about so
//! many megabytes of events in memory; the second locks a store that another program wrote; the third
//! writes it anew as the first would have, and what is known of it is in a file (`Origin`). All
//! print how many people, items and events there are.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::path::Path;

use datasets::Source;
use datasets::store::{Origin, PrepareConfig, PreparedStore, prepare_within, rewrite};

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
        ["rewrite", theirs, origin, store] => {
            let origin: Origin = serde_json::from_str(&std::fs::read_to_string(origin)?)?;
            rewrite(Path::new(theirs), origin, Path::new(store))?
        }
        _ => {
            let usage = "prepare SOURCE STORE MEGABYTES, seal STORE, or rewrite STORE ORIGIN STORE";
            return Err(usage.into());
        }
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
