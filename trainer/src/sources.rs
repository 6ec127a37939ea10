//! From the names in a run file to data and models on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType};
use datasets::assets::{self, AssetStore};
use datasets::reviews::ReviewTexts;
use datasets::store::PreparedStore;
use datasets::{Catalogue, Dataset, Source, SplitConfig};
use llm::LanguageModel;
use llm::load::LoadedModel;

use crate::files::write_whole;
use crate::prepared::map_reviews;
use crate::texts::TextReader;
use crate::{DataConfig, Error, LlmConfig, ModalityKind, Monitor, Precision, Prepared, RunConfig};

/// The dataset that `data.dataset` names: a known name, fetched if need be, or a path. `given` is
/// a folder or zip that holds it already, or a prepared store. With `data.tables` the folder holds
/// these tables.
///
/// # Errors
///
/// If it is neither, cannot be fetched, or cannot be read.
pub fn dataset(
    config: &DataConfig,
    given: Option<&Path>,
    store: &AssetStore,
) -> Result<Dataset, Error> {
    let path = path_of(config, given, store)?;
    if PreparedStore::is_at(&path) {
        return from_store(&path, config);
    }
    Ok(source_at(config, path).load(&config.read)?)
}

/// Where that dataset is read from.
///
/// # Errors
///
/// If it is neither a known name nor a path, or cannot be fetched.
pub fn source(
    config: &DataConfig,
    given: Option<&Path>,
    store: &AssetStore,
) -> Result<Source, Error> {
    Ok(source_at(config, path_of(config, given, store)?))
}

fn source_at(config: &DataConfig, path: PathBuf) -> Source {
    match &config.tables {
        None => Source::Path(path),
        Some(tables) => Source::Tables {
            config: tables.clone(),
            folder: path,
        },
    }
}

/// What `user-llm data prepare` made of a dataset.
fn from_store(path: &Path, config: &DataConfig) -> Result<Dataset, Error> {
    let store = PreparedStore::open(path)?;
    match &store.lock().settings {
        Some(settings) if settings.split != config.split => {
            let as_toml = |split: &SplitConfig| toml::to_string(split).unwrap_or_default();
            Err(Error::value(
                "data.split",
                as_toml(&config.split).trim().replace('\n', ", "),
                format!(
                    "what the store was prepared with: {}",
                    as_toml(&settings.split).trim().replace('\n', ", ")
                ),
            ))
        }
        _ => Ok(store.dataset()?),
    }
}

/// What people wrote, by the events of a dataset that [`dataset`] read; it may have been filtered
/// since.
///
/// # Errors
///
/// If the files cannot be read again; if a store was prepared without them.
///
/// # Panics
///
/// Panics if the dataset is not of this store.
pub fn review_texts(
    config: &DataConfig,
    given: Option<&Path>,
    store: &AssetStore,
    dataset: &Dataset,
) -> Result<ReviewTexts, Error> {
    let path = path_of(config, given, store)?;
    match PreparedStore::is_at(&path) {
        true => reviews_of(&PreparedStore::open(&path)?, &path, dataset),
        false => Ok(source_at(config, path).review_texts(dataset, &config.read)?),
    }
}

fn reviews_of(store: &PreparedStore, path: &Path, dataset: &Dataset) -> Result<ReviewTexts, Error> {
    let texts = store.review_texts(dataset)?;
    texts.ok_or_else(|| Error::value("data.dataset", path.display(), PREPARED_WITHOUT))
}

const PREPARED_WITHOUT: &str = "a store that keeps what people wrote, as `user-llm data prepare \
                                --config` makes it with this run file";

fn path_of(
    config: &DataConfig,
    given: Option<&Path>,
    store: &AssetStore,
) -> Result<PathBuf, Error> {
    match given {
        Some(path) => Ok(path.to_path_buf()),
        None => dataset_path(&config.dataset, store),
    }
}

/// Where the dataset of this name is, fetched if need be.
///
/// # Errors
///
/// If it is neither a path nor a known name, or cannot be fetched.
pub fn dataset_path(name: &str, store: &AssetStore) -> Result<PathBuf, Error> {
    match Path::new(name) {
        path if path.exists() => Ok(path.to_path_buf()),
        _ => match assets::edition_of(name) {
            Some((edition, part)) => Ok(store.fetch_reviews(edition, part)?),
            None => Ok(store.fetch(assets::find(name)?, None)?),
        },
    }
}

/// The language model that `llm.model` names: a known name, a `.gguf` file, a Hugging Face folder,
/// or `owner/name` on the hub; with the adapters of `llm.adapter` merged into it, and its matrices in
/// `llm.precision`.
///
/// # Errors
///
/// If it is none of them, cannot be fetched, or cannot be read, if the adapters do not fit, or the
/// device does not know the float type.
pub fn language_model(
    config: &LlmConfig,
    store: &AssetStore,
    device: &Device,
) -> Result<LoadedModel, Error> {
    let loaded = llm::load::load(&model_path(&config.model, store)?, device)?;
    let loaded = match &config.adapter {
        Some(folder) => llm::adapter::merge_adapter(folder, loaded)?,
        None => loaded,
    };
    Ok(LoadedModel {
        model: in_precision(loaded.model, config.precision)?,
        ..loaded
    })
}

/// A language model with its matrices in a float type.
///
/// # Errors
///
/// If its device does not know the type.
pub fn in_precision(model: LanguageModel, precision: Precision) -> Result<LanguageModel, Error> {
    let (matrices, device) = (FloatDType::from(precision), model.device());
    if !device.supports_dtype(matrices) {
        let found = format!("{matrices:?} on {device:?}");
        return Err(Error::value("precision", found, "`f32` on this device"));
    }
    Ok(model.with_matrices_in(matrices))
}

/// Where vectors are kept in the cache and in prepared stores.
const TEXT_VECTORS: &str = "text-vectors";

/// Whose they are in a store.
const ENCODERS: &str = "encoders.json";

/// The same data with the vectors of texts, of all items' and of what people wrote, where a modality
/// of the run reads them. The text encoder is what `text_encoder.model` names: a known name, a
/// folder, or `owner/name` on the hub; vectors are kept in the folder `text-vectors` of the cache.
/// `given` is as for [`dataset`]; the vectors of a prepared store need not be computed, nor the
/// encoder be at hand for them.
///
/// # Errors
///
/// If the text encoder cannot be fetched or read, vectors cannot be written, or the data have no
/// descriptions or reviews and a modality reads them.
pub fn with_texts(
    prepared: Prepared,
    config: &RunConfig,
    given: Option<&Path>,
    store: &AssetStore,
    device: &Device,
    monitor: &mut dyn Monitor,
) -> Result<Prepared, Error> {
    let Some(text_encoder) = &config.text_encoder else {
        return Ok(prepared);
    };
    let path = path_of(&config.data, given, store)?;
    let kept = path.join(TEXT_VECTORS);
    let reader = text_reader(&text_encoder.model, &kept, store, device)?.with_store(&kept);
    let kinds = config.text_modalities();
    let descriptions = match kinds.contains(&ModalityKind::DescriptionText) {
        true => descriptions(&config.data, &path, &prepared.dataset.catalogue)?,
        false => Vec::new(),
    };
    let prepared = prepared.with_texts_read(&reader, &descriptions, monitor)?;
    if !kinds.contains(&ModalityKind::ReviewText) {
        return Ok(prepared);
    }
    let reviews = review_texts(&config.data, given, store, &prepared.dataset)?;
    prepared.with_reviews_read(&reader, &reviews, monitor)
}

/// Read the texts of a prepared store that the modalities of a run read, and keep their vectors in
/// it. What an interruption left done is found in the cache.
///
/// # Errors
///
/// As [`with_texts`].
pub fn keep_texts(
    path: &Path,
    config: &RunConfig,
    store: &AssetStore,
    device: &Device,
    monitor: &mut dyn Monitor,
) -> Result<(), Error> {
    let Some(text_encoder) = &config.text_encoder else {
        return Ok(());
    };
    let kept = path.join(TEXT_VECTORS);
    let reader = text_reader(&text_encoder.model, &kept, store, device)?;
    let prepared = PreparedStore::open(path)?;
    for kind in config.text_modalities() {
        if kind == ModalityKind::ReviewText {
            let reviews = reviews_of(&prepared, path, &prepared.dataset()?)?;
            let vectors = map_reviews(&reader, &reviews, monitor)?;
            reader.keep_mapped(&vectors, &kept)?;
            continue;
        }
        let descriptions;
        let texts: Vec<&str> = match kind {
            ModalityKind::DescriptionText => {
                descriptions = descriptions_of(&prepared)?;
                descriptions.iter().map(String::as_str).collect()
            }
            _ => {
                let items = prepared.catalogue().items.iter();
                items.map(|item| item.title.as_str()).collect()
            }
        };
        if texts.iter().any(|text| !text.is_empty()) {
            reader.read(kind.texts(), &texts, monitor)?;
            reader.keep(&texts, &kept)?;
        }
    }
    let mut encoders = encoders_of(&kept);
    encoders.insert(text_encoder.model.clone(), reader.fingerprint().into());
    let text = serde_json::to_vec_pretty(&encoders).expect("texts by texts");
    std::fs::create_dir_all(&kept).map_err(Error::io("create", &kept))?;
    let path = kept.join(ENCODERS);
    write_whole(&path, &text).map_err(Error::io("write", path))
}

/// Fingerprints of the text encoders whose vectors are in a folder, by their names in run files.
fn encoders_of(kept: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read(kept.join(ENCODERS)).unwrap_or_default();
    let mut encoders: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap_or_default();
    // They become names of folders.
    let is_hash =
        |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    encoders.retain(|_, fingerprint| is_hash(fingerprint));
    encoders
}

/// The text encoder of this name; where it would have to be fetched and is in `kept`, the vectors
/// there.
fn text_reader(
    name: &str,
    kept: &Path,
    store: &AssetStore,
    device: &Device,
) -> Result<TextReader, Error> {
    let cache = store.cache_dir().join(TEXT_VECTORS);
    let at_hand = AssetStore::new(store.cache_dir()).offline(true);
    match (model_path(name, &at_hand), encoders_of(kept).remove(name)) {
        (Ok(model), _) => TextReader::new(&model, &cache, device),
        (Err(_), Some(fingerprint)) => TextReader::of_kept(fingerprint, &cache, device),
        (Err(_), None) => TextReader::new(&model_path(name, store)?, &cache, device),
    }
}

/// What the data at a path say of each item of a catalogue; items that came later have nothing.
fn descriptions(
    config: &DataConfig,
    path: &Path,
    catalogue: &Catalogue,
) -> Result<Vec<String>, Error> {
    if !PreparedStore::is_at(path) {
        let source = source_at(config, path.to_path_buf());
        return Ok(source.descriptions(catalogue, &config.read)?);
    }
    let store = PreparedStore::open(path)?;
    let mut texts = vec![String::new(); catalogue.len()];
    for (item, text) in store.catalogue().items.iter().zip(descriptions_of(&store)?) {
        // The run may have left it out.
        if let Some(index) = catalogue.find(&item.id) {
            texts[index as usize] = text;
        }
    }
    Ok(texts)
}

fn descriptions_of(store: &PreparedStore) -> Result<Vec<String>, Error> {
    store.descriptions()?.ok_or_else(|| {
        let expected =
            "a store that was prepared with this run file: `user-llm data prepare --config`";
        Error::value("encoder.modalities.name", "description-text", expected)
    })
}

fn model_path(name: &str, store: &AssetStore) -> Result<PathBuf, Error> {
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
