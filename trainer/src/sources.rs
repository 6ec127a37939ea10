//! From the names in a run file to data and a language model on this machine.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use datasets::Dataset;
use datasets::assets::{self, AssetStore};
use llm::load::LoadedModel;

use crate::Error;

/// The dataset that `data.dataset` names: a known name, fetched if need be, or a path. `given` is
/// a folder or zip that holds it already.
///
/// # Errors
///
/// If it is neither, cannot be fetched, or cannot be read.
pub fn dataset(name: &str, given: Option<&Path>, store: &AssetStore) -> Result<Dataset, Error> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => match Path::new(name) {
            path if path.exists() => path.to_path_buf(),
            _ => store.fetch(assets::find(name)?, None)?,
        },
    };
    Ok(datasets::load(&path)?)
}

/// The language model that `llm.model` names: a known name, a `.gguf` file, a Hugging Face folder,
/// or `owner/name` on the hub.
///
/// # Errors
///
/// If it is none of them, cannot be fetched, or cannot be read.
pub fn language_model(
    name: &str,
    store: &AssetStore,
    device: &Device,
) -> Result<LoadedModel, Error> {
    Ok(llm::load::load(&language_model_path(name, store)?, device)?)
}

fn language_model_path(name: &str, store: &AssetStore) -> Result<PathBuf, Error> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    match assets::find(name) {
        Ok(asset) => Ok(store.fetch(asset, None)?),
        Err(_)
            if name.matches('/').count() == 1 && path.extension().is_none_or(|e| e != "gguf") =>
        {
            Ok(store.fetch_hub(name, "main")?)
        }
        Err(error) => Err(error.into()),
    }
}
