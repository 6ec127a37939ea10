//! `user-llm data`.

use std::fs;
use std::path::Path;

use datasets::assets::{self, Asset, AssetStore};
use trainer::sources;

use crate::arguments::DataCommand;
use crate::workplace::{Workplace, size};
use crate::{Ended, output};

pub(crate) fn run(workplace: &Workplace, command: DataCommand) -> anyhow::Result<Ended> {
    match command {
        DataCommand::Fetch { name: None } => output::print(&list(&workplace.store)),
        DataCommand::Fetch { name: Some(name) } => {
            let store = &workplace.store;
            let path = match assets::find(&name) {
                Ok(asset) => {
                    let path = store.fetch(asset, None)?;
                    output::note(&format!("licence: {}", asset.licence));
                    path
                }
                Err(_) if name.matches('/').count() == 1 => store.fetch_hub(&name, "main")?,
                Err(error) => return Err(error.into()),
            };
            output::print(&path.display().to_string());
        }
        DataCommand::Stats {
            dataset,
            min_interactions,
            json,
        } => {
            if dataset.contains('/') && !Path::new(&dataset).exists() {
                anyhow::bail!(
                    "{dataset} is not there; give a folder or zip of data files, or a known name"
                );
            }
            let dataset = sources::dataset(&dataset, None, &workplace.store)?
                .with_min_interactions(min_interactions);
            let stats = dataset.stats();
            output::print(&match json {
                true => serde_json::json!({
                    "name": dataset.name, "sha256": dataset.sha256, "stats": stats,
                })
                .to_string(),
                false => format!("{}\n\n{stats}", dataset.name),
            });
        }
    }
    Ok(Ended::Done)
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
    format!(
        "{}\n\ncache: {}",
        output::columns(&rows),
        store.cache_dir().display()
    )
}
