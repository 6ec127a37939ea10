//! Runs that are there: their folder, config, data and tuned models.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::Device;
use datasets::History;
use llm::Tokenizer;
use llm_fusion::UserLlm;
use trainer::{Precision, Prepared, RunConfig, RunFolder, Tasks, sources};
use user_encoder::HistoryEncoder;

use crate::arguments::{RunArgs, TrainingArgs};
use crate::config::{QUICK, QUICK_NAME};
use crate::workplace::Workplace;

/// Folder of runs that are not put elsewhere.
const RUNS: &str = "runs";

/// A run, ready to be asked.
pub(crate) struct Run {
    pub(crate) config: RunConfig,
    pub(crate) prepared: Prepared,
    pub(crate) folder: RunFolder,
}

/// One tuned model of a run.
pub(crate) struct Tuned {
    /// Name of its file, as `enc-cross-attention`.
    pub(crate) name: String,
    /// The config that it was tuned with.
    pub(crate) config: RunConfig,
    pub(crate) folder: RunFolder,
}

/// Config and folder of a training command.
pub(crate) fn resolve(
    args: &TrainingArgs,
    shorthands: &[String],
) -> anyhow::Result<(RunConfig, PathBuf)> {
    let mut patches = [&args.set, shorthands].concat();
    patches.extend(args.skip_bad.map(|n| format!("data.read.skip_bad={n}")));
    let folder = |config: &RunConfig| match &args.run {
        Some(run) => run.clone(),
        None => Path::new(RUNS).join(&config.name),
    };
    if let Some(file) = &args.config {
        let config = RunConfig::read(file, &patches)?;
        let path = folder(&config);
        return Ok((config, path));
    }
    let built_in = || RunConfig::from_toml(QUICK, QUICK_NAME, &patches);
    let path = match &args.run {
        Some(run) => run.clone(),
        None => folder(&built_in()?),
    };
    match path.join("config.toml").exists() {
        true => Ok((RunFolder::config(&path, &patches)?, path)),
        false => Ok((built_in()?, path)),
    }
}

/// What a run's language model is asked; the texts that people wrote are read where it is to write.
pub(crate) fn tasks(
    workplace: &Workplace,
    config: &RunConfig,
    prepared: &Prepared,
    data: Option<&Path>,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Tasks> {
    let tasks = Tasks::new(prepared, config, tokenizer)?;
    Ok(match config.review {
        None => tasks,
        Some(_) => {
            let store = &workplace.store;
            let texts = sources::review_texts(&config.data, data, store, &prepared.dataset)?;
            tasks.with_reviews(config, texts)?
        }
    })
}

/// A model whose language model has its matrices in the float type that was asked for, if one was.
pub(crate) fn in_precision(
    mut model: UserLlm,
    asked: Option<Precision>,
) -> anyhow::Result<UserLlm> {
    if let Some(precision) = asked {
        model.llm = sources::in_precision(model.llm, precision)?;
    }
    Ok(model)
}

/// Data and folder of a run; the folder is made if it is not there.
pub(crate) fn open(
    workplace: &Workplace,
    config: RunConfig,
    path: &Path,
    data: Option<&Path>,
) -> anyhow::Result<Run> {
    let dataset = sources::dataset(&config.data, data, &workplace.store)?;
    let prepared = workplace.with_texts(Prepared::new(dataset, &config)?, &config, data)?;
    let folder = RunFolder::open(path, &config, &prepared)?;
    Ok(Run {
        config,
        prepared,
        folder,
    })
}

impl Run {
    /// The run that a command asks about.
    pub(crate) fn find(workplace: &Workplace, args: &RunArgs) -> anyhow::Result<Self> {
        let path = match &args.run {
            Some(path) => path.clone(),
            None => only_run()?,
        };
        if !path.exists() {
            bail!(
                "run folder {}: there is no such folder; `user-llm pretrain --run {}` makes it",
                path.display(),
                path.display()
            );
        }
        let config = RunFolder::config(&path, &[])?;
        open(workplace, config, &path, args.data.as_deref())
    }

    /// The run that a command asks about, with the items that were added after training.
    pub(crate) fn with_added_items(workplace: &Workplace, args: &RunArgs) -> anyhow::Result<Self> {
        let mut run = Self::find(workplace, args)?;
        let added = run.folder.added_items(&run.prepared)?;
        let prepared = run.prepared.with_added_items(added)?;
        run.prepared = workplace.with_texts(prepared, &run.config, args.data.as_deref())?;
        Ok(run)
    }

    /// The pretrained encoder, of whichever kind, to rank items by.
    pub(crate) fn encoder(&self, device: &Device) -> anyhow::Result<HistoryEncoder> {
        let (folder, config) = (&self.folder, &self.config);
        Ok(folder.load_history_encoder(config, &self.prepared, device)?)
    }

    /// All tuned models, in the order of their names.
    pub(crate) fn tuned(&self) -> anyhow::Result<Vec<Tuned>> {
        let tunings = self.folder.tunings()?.into_iter();
        let tuned = tunings.map(|(name, config)| Tuned {
            folder: self.folder.tuned_by(&config),
            name,
            config,
        });
        Ok(tuned.collect())
    }

    /// The tuned model of this name, or the only one; `None` if nothing is tuned.
    pub(crate) fn one_tuned(&self, name: Option<&str>) -> anyhow::Result<Option<Tuned>> {
        let mut all = self.tuned()?;
        let names = all
            .iter()
            .map(|tuned| tuned.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        match name {
            Some(name) => match all.iter().position(|tuned| tuned.name == name) {
                Some(at) => Ok(Some(all.swap_remove(at))),
                None if all.is_empty() => bail!("nothing is tuned here; `user-llm tune` does it"),
                None => bail!("no tuned model is called {name:?}; here are: {names}"),
            },
            None if all.len() > 1 => {
                bail!("this run has several tuned models; choose one with --tuning: {names}")
            }
            None => Ok(all.pop()),
        }
    }

    /// A person's whole history, by the id in the data files.
    pub(crate) fn history(&self, id: &str) -> anyhow::Result<&History> {
        let dataset = &self.prepared.dataset;
        match dataset.user(id) {
            Some(user) => Ok(&dataset.histories[user]),
            // Neither the id that was given nor one that exists: what is printed may be kept.
            None => bail!(
                "nobody in {} has the id that --user gave; {}",
                dataset.name,
                self.ids()
            ),
        }
    }

    /// What ids look like, without showing one of a person in particular.
    pub(crate) fn ids(&self) -> String {
        let ids = self
            .prepared
            .dataset
            .histories
            .iter()
            .map(|history| history.user.as_str());
        let kind = match ids
            .clone()
            .all(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
        {
            true => "digits",
            false => "characters",
        };
        let lengths = ids.clone().map(|id| id.chars().count());
        format!(
            "its {} ids are of {} to {} {kind}, spelled as in the data files",
            ids.count(),
            lengths.clone().min().unwrap_or(0),
            lengths.max().unwrap_or(0)
        )
    }
}

fn only_run() -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(RUNS).into_iter().flatten().flatten();
    let mut runs: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("config.toml").exists())
        .collect();
    runs.sort();
    match runs.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(anyhow::anyhow!("there is no run in {RUNS}/"))
            .context("which run? `user-llm pretrain` makes one; --run DIR names one elsewhere"),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            bail!("which run? choose one with --run: {}", names.join(", "))
        }
    }
}
