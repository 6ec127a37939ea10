//! Whom a command is about.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use datasets::History;

use crate::runs::Run;

/// One person, some, everybody, or people whom the data does not know.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct PeopleArgs {
    /// One person, by the id in the data files
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Everybody in the data
    #[arg(long)]
    pub(crate) all: bool,
    /// The people whose ids are in this file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
    /// People whom the data does not know, by their history: .csv or .jsonl with user, item, and if
    /// known rating and timestamp; an item that the catalogue lacks is read as unknown
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
}

impl PeopleArgs {
    /// Their histories, in the order asked for.
    pub(crate) fn find<'a>(&self, run: &'a Run) -> anyhow::Result<Vec<Cow<'a, History>>> {
        let dataset = &run.prepared.dataset;
        if let Some(id) = &self.user {
            return Ok(vec![Cow::Borrowed(run.history(id)?)]);
        }
        if let Some(path) = &self.history {
            let histories = datasets::read_interactions(path, &dataset.catalogue)?;
            return Ok(histories.into_iter().map(Cow::Owned).collect());
        }
        let Some(path) = &self.users else {
            return Ok(dataset.histories.iter().map(Cow::Borrowed).collect());
        };
        let all = dataset.histories.iter();
        let by_id: HashMap<&str, &History> = all
            .map(|history| (history.user.as_str(), history))
            .collect();
        let found = lines(path)?.into_iter().map(|(line, id)| {
            let Some(history) = by_id.get(id.as_str()) else {
                // The id stays unsaid: what is printed may be kept.
                let path = path.display();
                bail!(
                    "{path}:{line}: nobody in {} has this id; {}",
                    dataset.name,
                    run.ids()
                );
            };
            Ok(Cow::Borrowed(*history))
        });
        found.collect()
    }
}

/// The lines of a list of ids that hold one, with their numbers.
pub(crate) fn lines(path: &Path) -> anyhow::Result<Vec<(usize, String)>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<(usize, String)> = (1..)
        .zip(text.trim_start_matches('\u{feff}').lines())
        .map(|(line, text)| (line, text.trim().to_string()))
        .filter(|(_, id)| !id.is_empty())
        .collect();
    ensure!(
        !lines.is_empty(),
        "{} is empty; expected one id a line",
        path.display()
    );
    Ok(lines)
}
