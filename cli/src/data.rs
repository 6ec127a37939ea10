//! `user-llm data`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use datasets::assets::{self, Asset, AssetStore};
use datasets::store::{self, CandidatesConfig, Lock, PrepareConfig, PreparedStore};
use datasets::{Dataset, Split};
use trainer::{DataConfig, ModalityKind, RunConfig, plots, sources};

use crate::arguments::{DataCommand, SourceArgs};
use crate::config::{QUICK, QUICK_NAME};
use crate::workplace::{Workplace, size};
use crate::{Ended, output};

pub(crate) fn run(workplace: &Workplace, command: DataCommand) -> anyhow::Result<Ended> {
    match command {
        DataCommand::Fetch { name: None } => output::print(&list(&workplace.store)),
        DataCommand::Fetch { name: Some(name) } => {
            let store = &workplace.store;
            let path = match (assets::find(&name), assets::edition_of(&name)) {
                (Ok(asset), _) => {
                    let path = store.fetch(asset, None)?;
                    output::note(&format!("licence: {}", asset.licence));
                    path
                }
                (_, Some((edition, part))) => {
                    let path = store.fetch_reviews(edition, part)?;
                    output::note(&format!("licence: {}", edition.licence));
                    path
                }
                (Err(_), _) if name.matches('/').count() == 1 => store.fetch_hub(&name, "main")?,
                (Err(error), _) => return Err(error.into()),
            };
            output::print(&path.display().to_string());
        }
        DataCommand::Stats {
            source,
            json,
            plots,
        } => {
            let (_, dataset) = read(workplace, &source)?;
            if let Some(folder) = plots {
                draw(&dataset, &folder)?;
            }
            let stats = dataset.stats();
            output::print(&match json {
                true => serde_json::json!({
                    "name": dataset.name, "sha256": dataset.sha256, "stats": stats,
                })
                .to_string(),
                false => format!("{}\n\n{stats}", dataset.name),
            });
        }
        DataCommand::Prepare {
            source,
            out,
            memory,
            candidates,
            candidates_seed: seed,
        } => {
            let run = run_config(workplace, &source)?;
            let config = &run.data;
            let reads = run.text_modalities();
            let prepare_config = PrepareConfig {
                read: config.read.clone(),
                min_interactions: config.min_interactions,
                min_history: config.min_history,
                split: config.split.clone(),
                candidates: candidates.map(|n| CandidatesConfig { n, seed }),
                descriptions: reads.contains(&ModalityKind::DescriptionText),
                reviews: reads.contains(&ModalityKind::ReviewText) || run.review.is_some(),
            };
            let source = sources::source(config, None, &workplace.store)?;
            let store = match memory {
                None => store::prepare(&source, &prepare_config, &out)?,
                Some(gigabytes) => {
                    let bytes = (gigabytes * 1e9) as usize;
                    store::prepare_within(bytes, &source, &prepare_config, &out)?
                }
            };
            workplace.keep_texts(&out, &run)?;
            let report = store.report()?;
            let found = report.map_or(String::new(), |report| {
                format!("\n{}\n{}", report.repairs, report.leakage)
            });
            output::print(&format!("{}{found}", counts(&store, &out)));
        }
        DataCommand::Seal { store, name, ranks } => {
            let sealed = PreparedStore::seal(&store, &name, ranks)?;
            output::print(&counts(&sealed, &store));
        }
        DataCommand::Validate { source, strict } => {
            let (config, dataset) = read(workplace, &source)?;
            let split = Split::new(&dataset, &config.split)?;
            let report = serde_json::json!({
                "name": dataset.name,
                "sha256": dataset.sha256,
                "stats": dataset.stats(),
                "split": split.to_string(),
                "leakage": split.leakage(),
            });
            output::print(&serde_json::to_string_pretty(&report)?);
            if strict && !dataset.report.is_empty() {
                return Ok(Ended::Problem);
            }
        }
    }
    Ok(Ended::Done)
}

fn counts(store: &PreparedStore, path: &Path) -> String {
    format!(
        "{}: {} users, {} items, {} events",
        path.display(),
        store.n_users(),
        store.catalogue().len(),
        store.n_events(),
    )
}

/// The run file that the arguments name, with what they say of how its dataset is read.
fn run_config(workplace: &Workplace, source: &SourceArgs) -> anyhow::Result<RunConfig> {
    let mut run = match &source.config {
        Some(file) => RunConfig::read(file, &[])?,
        None => RunConfig::from_toml(QUICK, QUICK_NAME, &[])?,
    };
    let config = &mut run.data;
    if let Some(name) = &source.dataset {
        let is_known = assets::edition_of(name).is_some();
        if name.contains('/') && !is_known && !Path::new(name).exists() {
            anyhow::bail!(
                "{name} is not there; give a folder, zip, file or store of data, or a known name"
            );
        }
        config.dataset.clone_from(name);
    }
    if source.config.is_none() {
        (config.min_interactions, config.min_history) = (0, 0);
        let path = sources::dataset_path(&config.dataset, &workplace.store)?;
        if PreparedStore::is_at(&path)
            && let Some(settings) = Lock::read(&path)?.settings
        {
            config.split = settings.split;
        }
    }
    config.read.skip_bad = source.skip_bad.unwrap_or(config.read.skip_bad);
    config.read.mask_values |= source.mask_values;
    config.min_interactions = source.min_interactions.unwrap_or(config.min_interactions);
    config.min_history = source.min_history.unwrap_or(config.min_history);
    Ok(run)
}

/// The dataset that the arguments name, filtered, and how it was read.
fn read(workplace: &Workplace, source: &SourceArgs) -> anyhow::Result<(DataConfig, Dataset)> {
    let config = run_config(workplace, source)?.data;
    let dataset = config.filter(sources::dataset(&config, None, &workplace.store)?);
    Ok((config, dataset))
}

fn draw(dataset: &Dataset, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let pictures = [
        ("histories.svg", plots::histories(dataset)),
        ("items.svg", plots::items(dataset)),
    ];
    for (name, picture) in pictures {
        let path = folder.join(name);
        fs::write(&path, picture).with_context(|| format!("write {}", path.display()))?;
        output::note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// Where an asset stands in the cache.
pub(crate) enum State {
    Cached,
    Partial(u64),
    Damaged,
    Absent,
}

impl State {
    pub(crate) fn of(asset: &Asset, cache: &Path) -> Self {
        let here = AssetStore::new(cache).offline(true);
        if here.fetch(asset, None).is_ok() {
            return Self::Cached;
        }
        let folder = cache.join(asset.name);
        let files = asset.sources.iter().flat_map(|source| source.files());
        let names: Vec<&str> = files.map(|file| file.name).collect();
        let bytes = |name: &str| fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        match names
            .iter()
            .map(|name| bytes(&format!("{name}.part")))
            .sum()
        {
            0 if names.iter().any(|name| bytes(name) > 0) => Self::Damaged,
            0 => Self::Absent,
            bytes => Self::Partial(bytes),
        }
    }

    pub(crate) fn text(&self, asset: &Asset) -> String {
        let fetch = || format!("user-llm data fetch {}", asset.name);
        match self {
            Self::Cached => "cached".into(),
            Self::Partial(bytes) => format!("{} are here; {} gets the rest", size(*bytes), fetch()),
            Self::Damaged => format!("incomplete or damaged; {} puts it right", fetch()),
            Self::Absent => "–".into(),
        }
    }
}

fn list(store: &AssetStore) -> String {
    let header = ["name", "size", "here", "what", "licence"];
    let mut rows = vec![header.map(String::from).to_vec()];
    rows.extend(assets::assets().iter().map(|asset| {
        let sizes = asset
            .sources
            .iter()
            .map(|source| source.files().iter().map(|file| file.size).sum::<u64>());
        vec![
            asset.name.to_string(),
            size(sizes.min().unwrap_or(0)),
            State::of(asset, store.cache_dir()).text(asset),
            asset.what.to_string(),
            asset.licence.to_string(),
        ]
    }));
    rows.extend(assets::EDITIONS.iter().map(|edition| {
        let is_here = store.cache_dir().join(edition.name).is_dir();
        vec![
            format!("{}/{}", edition.name, edition.example),
            "by part".into(),
            if is_here { "some" } else { "–" }.into(),
            edition.what.to_string(),
            edition.licence.to_string(),
        ]
    }));
    format!(
        "{}\n\ncache: {}",
        output::columns(&rows),
        store.cache_dir().display()
    )
}
