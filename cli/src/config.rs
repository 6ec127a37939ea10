//! `user-llm config`.

use trainer::RunConfig;

use crate::arguments::ConfigArgs;
use crate::{Ended, output};

/// The run that is taken where no other is named.
pub(crate) const QUICK: &str = include_str!("../../configs/movielens-100k-quick.toml");

/// [`QUICK`]'s name in messages.
pub(crate) const QUICK_NAME: &str = "the built-in run file";

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<Ended> {
    let text = match &args.from {
        Some(file) => RunConfig::read(file, &args.set)?.to_toml(),
        None if args.set.is_empty() => QUICK.to_string(),
        None => RunConfig::from_toml(QUICK, QUICK_NAME, &args.set)?.to_toml(),
    };
    output::print(&text);
    Ok(Ended::Done)
}
