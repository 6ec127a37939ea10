//! What a run leaves behind.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use datasets::{Item, Vocabulary};
use llm::load::LoadedModel;
use llm_fusion::{Blocks, UserLlm, trained_parameters};
use serde::Serialize;
use sha2::{Digest, Sha256};
use user_encoder::{HistoryEncoder, UserEncoder};

use crate::added_items::ITEM;
use crate::checkpoint::{Checkpoints, hex};
use crate::events::vocabulary;
use crate::files::{as_readable_as, write_whole};
use crate::results::Training;
use crate::tensorboard::EventFile;
use crate::{EncoderInit, Error, ModalityKind, Prepared, RunConfig};

/// Stands for how reviews are taught, in the fingerprints of those that are: a longer one is cut, and
/// not ended there as it once was.
const REVIEWS_ARE_CUT_WITHOUT_END: u8 = 1;

const RUN: &str = "run.json";
const CONFIG: &str = "config.toml";
const VOCABULARY: &str = "vocabulary.json";
const ENCODER: &str = "encoder.safetensors";
const ADDED_ITEMS: &str = "added-items.jsonl";
const METRICS: &str = "metrics.jsonl";
/// The stage, and the key of its name, in these lines.
const TUNING: &str = "tuning";
/// Key in the metadata of tuned weights.
const LANGUAGE_MODEL_SHA256: &str = "language_model_sha256";

/// A run's folder:
///
/// ```text
/// config.toml              the resolved config
/// run.json                 data, language model, seed, version, each with its hash
/// vocabulary.json          the values of every modality in the order of their ids
/// added-items.jsonl        items that came after training, if any
/// tokenizer.json           the language model's
/// metrics.jsonl            a line per step and validation
/// events.out.tfevents.*    the same for TensorBoard
/// encoder.safetensors      the pretrained encoder
/// <tuning>.safetensors     what tuning trained, and nothing else
/// <tuning>.toml            the config that it was tuned with
/// pretraining/, <tuning>/  checkpoints, to resume from
/// report.md, report.json   the tables
/// ranks.json               ranks of the test users' next items, genres right or wrong, without ids
/// recall.svg, training.svg pictures of them, and of metrics.jsonl
/// costs.svg                what a question costs, if it was measured
/// ```
///
/// `<tuning>` is [`LanguageSections::tuning_name`](crate::LanguageSections::tuning_name), as
/// `enc-cross-attention`: several share one encoder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    pretraining_print: String,
    tuning: Option<Tuning>,
}

/// Name and fingerprint of a tuning; a run of the encoder alone has none.
#[derive(Clone, Debug)]
struct Tuning {
    name: String,
    print: String,
}

impl RunFolder {
    /// Open a run's folder, or make it.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or belongs to a run whose data or pretraining is another.
    pub fn open(
        path: impl Into<PathBuf>,
        config: &RunConfig,
        prepared: &Prepared,
    ) -> Result<Self, Error> {
        let path = path.into();
        let folder = Self::at(path, config, prepared);
        fs::create_dir_all(&folder.path).map_err(Error::io("create", &folder.path))?;
        // Fails on the spot if the folder is another run's.
        folder.pretraining()?.latest()?;
        folder.refuse_other_data(prepared)?;
        folder.write(CONFIG, config.to_toml().as_bytes())?;
        let added = folder.added_items(prepared)?;
        folder.write_json(VOCABULARY, &vocabularies(prepared, &added))?;
        Ok(folder)
    }

    /// An encoder that lies here without checkpoints has to have learned from these data, as far as
    /// `run.json` tells.
    fn refuse_other_data(&self, prepared: &Prepared) -> Result<(), Error> {
        if !self.path.join(ENCODER).exists() {
            return Ok(());
        }
        let run = fs::read(self.path.join(RUN)).unwrap_or_default();
        let run: serde_json::Value = serde_json::from_slice(&run).unwrap_or_default();
        match run["data"]["sha256"].as_str() {
            Some(other) if other != prepared.dataset.sha256 => Err(Error::RunFolder {
                path: self.path.clone(),
                reason: "its encoder was pretrained on other data; choose another folder".into(),
            }),
            _ => Ok(()),
        }
    }

    /// The items that were added after training; see [`Prepared::with_added_items`].
    ///
    /// # Errors
    ///
    /// If their file cannot be read, or does not fit the run's catalogue.
    pub fn added_items(&self, prepared: &Prepared) -> Result<Vec<Item>, Error> {
        let path = self.path.join(ADDED_ITEMS);
        match path.exists() {
            true => Ok(datasets::read_items(&path, &prepared.dataset.catalogue)?),
            false => Ok(Vec::new()),
        }
    }

    /// Add items to those of this run, behind the ones added before. `prepared` is without any.
    ///
    /// # Errors
    ///
    /// If an item does not fit, or they cannot be written.
    pub fn add_items(&self, prepared: &Prepared, items: Vec<Item>) -> Result<(), Error> {
        let mut added = self.added_items(prepared)?;
        added.extend(items);
        prepared.clone().with_added_items(added.clone())?;
        let lines = datasets::items_to_json_lines(&added, &prepared.dataset.catalogue);
        self.write(ADDED_ITEMS, lines.as_bytes())?;
        self.write_json(VOCABULARY, &vocabularies(prepared, &added))
    }

    fn at(path: PathBuf, config: &RunConfig, prepared: &Prepared) -> Self {
        let stage = (
            &config.seed,
            &config.pretraining_data(),
            &prepared.encoder,
            (&config.objective, &config.pretraining),
        );
        let pretraining_print = fingerprint(&(&stage, &prepared.dataset.sha256));
        let pretraining_print = match prepared.text_encoder() {
            Some(text_encoder) => fingerprint(&(&pretraining_print, text_encoder)),
            None => pretraining_print,
        };
        let pretraining_print = match &config.dual_encoder {
            Some(dual) => fingerprint(&(&pretraining_print, dual)),
            None => pretraining_print,
        };
        Self {
            path,
            pretraining_print,
            tuning: None,
        }
        .tuned_by(config)
    }

    /// The same folder for another tuning of the same pretrained encoder.
    pub fn tuned_by(&self, config: &RunConfig) -> Self {
        let tuning = config.language().ok().map(|language| {
            let mut tuning = language.tuning.clone();
            if tuning.strategy.freezes_language_model() {
                tuning.blocks = Blocks::All; // nobody asks
            }
            let prompts = language.prompts.as_taught(language.review.is_some());
            let print = fingerprint(&(
                (
                    &self.pretraining_print,
                    &language.llm,
                    &language.perceiver,
                    &language.fusion,
                ),
                // The tested users are among them: their genres are not taught.
                (&tuning, &prompts, config.evaluation.users),
                config.data.history_len,
            ));
            Tuning {
                name: language.tuning_name(),
                print: match language.review {
                    Some(review) => fingerprint(&(&print, review, REVIEWS_ARE_CUT_WITHOUT_END)),
                    None => print,
                },
            }
        });
        Self {
            tuning,
            ..self.clone()
        }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The config that a run folder was made with.
    ///
    /// # Errors
    ///
    /// If there is no run in the folder.
    pub fn config(path: &Path, patches: &[String]) -> Result<RunConfig, Error> {
        let file = path.join(CONFIG);
        if !file.exists() {
            return Err(Error::RunFolder {
                path: path.to_path_buf(),
                reason: "holds no run; `user-llm pretrain` makes one".into(),
            });
        }
        RunConfig::read(&file, patches)
    }

    /// Checkpoints of pretraining.
    ///
    /// # Errors
    ///
    /// If their folder cannot be made.
    pub fn pretraining(&self) -> Result<Checkpoints, Error> {
        Checkpoints::new(self.path.join("pretraining"), &self.pretraining_print)
    }

    /// Checkpoints of tuning.
    ///
    /// # Errors
    ///
    /// If their folder cannot be made, or the run is about the encoder alone.
    pub fn tuning(&self) -> Result<Checkpoints, Error> {
        let tuning = self.tuned()?;
        Checkpoints::new(self.path.join(&tuning.name), &tuning.print)
    }

    /// Write down what the run is made of.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn describe(
        &self,
        config: &RunConfig,
        prepared: &Prepared,
        llm: Option<&LoadedModel>,
    ) -> Result<(), Error> {
        if let Some(llm) = llm {
            let tokenizer = llm.tokenizer.inner().to_string(false).unwrap_or_default();
            self.write("tokenizer.json", tokenizer.as_bytes())?;
        }
        self.write_json(
            RUN,
            &serde_json::json!({
                "name": config.name,
                "seed": config.seed,
                "version": env!("CARGO_PKG_VERSION"),
                "data": { "name": prepared.dataset.name, "sha256": prepared.dataset.sha256,
                          "stats": prepared.dataset.stats() },
                "language_model": llm.map(|llm| serde_json::json!({
                    "name": llm.name, "sha256": llm.sha256 })),
            }),
        )
    }

    /// Keep the pretrained encoder, of whichever kind the run is about.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save_encoder(&self, encoder: impl Into<HistoryEncoder>) -> Result<(), Error> {
        let path = self.path.join(ENCODER);
        let mut store = Self::save_to(&path);
        let saved = match encoder.into() {
            HistoryEncoder::NextEvent(encoder) => encoder.save_into(&mut store),
            HistoryEncoder::Dual(encoder) => encoder.save_into(&mut store),
        };
        saved.map_err(|error| Self::unwritable(&path, &error.to_string()))?;
        self.share(&path)
    }

    /// Let others read weights as they may read what stands beside them.
    fn share(&self, weights: &Path) -> Result<(), Error> {
        as_readable_as(&self.vocabulary(), weights).map_err(Error::io("write", weights))
    }

    /// The pretrained encoder, with rows for the items added to `prepared`.
    ///
    /// # Errors
    ///
    /// If there is none, or its file does not fit the config.
    pub fn load_encoder(&self, prepared: &Prepared, device: &Device) -> Result<UserEncoder, Error> {
        let mut encoder = self.load_into(prepared.new_encoder(device))?;
        prepared.add_rows(&mut encoder.embedding.modalities[ITEM]);
        Ok(encoder)
    }

    /// The pretrained encoder, of whichever kind the run is about, with rows for the items added to
    /// `prepared`.
    ///
    /// # Errors
    ///
    /// If there is none, or its file does not fit the config.
    pub fn load_history_encoder(
        &self,
        config: &RunConfig,
        prepared: &Prepared,
        device: &Device,
    ) -> Result<HistoryEncoder, Error> {
        let mut encoder = self.load_pretrained(config, prepared, device)?;
        prepared.add_rows(encoder.modality_mut(ITEM));
        Ok(encoder)
    }

    /// The pretrained encoder as it was pretrained: without rows for added items.
    fn load_pretrained(
        &self,
        config: &RunConfig,
        prepared: &Prepared,
        device: &Device,
    ) -> Result<HistoryEncoder, Error> {
        Ok(match &config.dual_encoder {
            Some(dual) => self
                .load_into(prepared.new_dual_encoder(dual, device))?
                .into(),
            None => self.load_into(prepared.new_encoder(device))?.into(),
        })
    }

    fn load_into<M: Module>(&self, mut encoder: M) -> Result<M, Error> {
        let path = self.path.join(ENCODER);
        if !path.exists() {
            return Err(Error::RunFolder {
                path,
                reason: "is not there; `user-llm pretrain` makes it".into(),
            });
        }
        let result = encoder.load_from(&mut SafetensorsStore::from_file(&path));
        match result {
            Ok(result) if result.errors.is_empty() && result.unused.is_empty() => Ok(encoder),
            Ok(result) => Err(unfit(
                &path,
                &format!("{:?} {:?}", result.errors, result.unused),
            )),
            Err(error) => Err(unfit(&path, &error.to_string())),
        }
    }

    /// Keep the parameters that tuning trained, and the config that it was tuned with; the rest is
    /// the language model as it was.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn save_user_llm(
        &self,
        config: &RunConfig,
        model: &UserLlm,
        trained: &[(String, usize)],
        llm_sha256: &str,
    ) -> Result<(), Error> {
        let path = self.weights()?;
        let mut store = Self::save_to(&path)
            .with_full_paths(trained.iter().map(|(path, _)| path.clone()))
            .metadata(LANGUAGE_MODEL_SHA256, llm_sha256);
        self.write(
            &format!("{}.toml", self.tuned()?.name),
            config.to_toml().as_bytes(),
        )?;
        model
            .save_into(&mut store)
            .map_err(|error| Self::unwritable(&path, &error.to_string()))?;
        self.share(&path)
    }

    /// Everything that was tuned here: names, with the configs it was tuned with, in the order of
    /// the names.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or a config is none.
    pub fn tunings(&self) -> Result<Vec<(String, RunConfig)>, Error> {
        let entries = fs::read_dir(&self.path).map_err(Error::io("read", &self.path))?;
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(Error::io("read", &self.path))?.path();
            let config = path.with_extension("toml");
            let is_weights = path.extension().is_some_and(|end| end == "safetensors");
            if let (true, true, Some(name)) = (is_weights, config.exists(), path.file_stem()) {
                let name = name.to_string_lossy().into_owned();
                all.push((name, RunConfig::read(&config, &[])?));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// The tuned model: the language model and encoder it began with, and what tuning trained, with
    /// rows for the items added to `prepared`.
    ///
    /// # Errors
    ///
    /// If tuning has not been done, its weights do not fit, or it was done on another language
    /// model than the one with `llm_sha256`, which would answer, but not as it was taught.
    pub fn load_user_llm(
        &self,
        config: &RunConfig,
        prepared: &Prepared,
        llm: llm::LanguageModel,
        llm_sha256: &str,
    ) -> Result<UserLlm, Error> {
        let model = self.load_adapted(config, prepared, llm, llm_sha256)?;
        // Adapters are merged once, instead of in every forward pass.
        let mut model = model.valid().materialize();
        prepared.add_rows(model.encoder.modality_mut(ITEM));
        Ok(model)
    }

    /// The tuned model as it was while it was tuned: what trains does, adapters stand beside their
    /// weights, and added items have no rows.
    pub(crate) fn load_adapted(
        &self,
        config: &RunConfig,
        prepared: &Prepared,
        llm: llm::LanguageModel,
        llm_sha256: &str,
    ) -> Result<UserLlm, Error> {
        let path = self.weights()?;
        if !path.exists() {
            return Err(Error::RunFolder {
                path,
                reason: "is not there; `user-llm tune` makes it".into(),
            });
        }
        match metadata(&path, LANGUAGE_MODEL_SHA256)? {
            Some(tuned_on) if tuned_on != llm_sha256 => {
                return Err(unfit(
                    &path,
                    &format!(
                        "the language model has SHA-256 {llm_sha256}, it was tuned on {tuned_on}"
                    ),
                ));
            }
            _ => {}
        }
        let language = config.language()?;
        let device = llm.device();
        // Without rows for added items: tuning knew none.
        let encoder = match language.tuning.encoder {
            EncoderInit::Pretrained => self.load_pretrained(config, prepared, &device)?,
            EncoderInit::Random => prepared.random_encoder(config, &device),
        };
        let model = language.fuse(llm.train(), encoder.train())?;
        let mut model = language.tuning.apply(model);
        let expected = trained_parameters(&model).len();
        let result = model.load_from(&mut SafetensorsStore::from_file(&path).allow_partial(true));
        match result {
            Ok(result) if result.unused.is_empty() && result.applied.len() == expected => Ok(model),
            Ok(result) => Err(unfit(
                &path,
                &format!(
                    "{} of {expected} tensors, {:?} left over",
                    result.applied.len(),
                    result.unused
                ),
            )),
            Err(error) => Err(unfit(&path, &error.to_string())),
        }
    }

    /// Append a line to `metrics.jsonl`.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn log(&self, line: &serde_json::Value) -> Result<(), Error> {
        let path = self.path.join(METRICS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .map_err(Error::io("write", path))
    }

    /// What a stage of training took, by the lines of `metrics.jsonl`; `None` if they do not tell.
    pub fn training(&self, stage: &str) -> Option<Training> {
        let mut training = Training {
            steps: 0,
            seconds: 0.0,
        };
        for line in self.metrics().ok()? {
            if self.is_of(&line, stage) {
                training.steps = training.steps.max(line["step"].as_u64()? as usize);
                training.seconds += line["seconds"].as_f64()?;
            }
        }
        (training.steps > 0).then_some(training)
    }

    /// Whether a line of `metrics.jsonl` is of this stage, and if it names a tuning, of this folder's.
    pub fn is_of(&self, line: &serde_json::Value, stage: &str) -> bool {
        let own = |named: &str| self.tuning.as_ref().is_some_and(|own| own.name == named);
        line["stage"] == stage && line[TUNING].as_str().is_none_or(own)
    }

    /// The lines of `metrics.jsonl`, if there are any; one that is cut short is left out.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn metrics(&self) -> Result<Vec<serde_json::Value>, Error> {
        read_metrics(&self.path)
    }

    /// Takes lines as a [`Session`](crate::Session) gives them, and writes them to `metrics.jsonl`,
    /// those of tuning with its name, and TensorBoard's event file; what cannot be written is
    /// warned of, once, and does not stop the training.
    ///
    /// # Errors
    ///
    /// If the event file cannot be begun.
    pub fn logger(&self) -> Result<impl FnMut(serde_json::Value) + '_, Error> {
        let mut events = EventFile::open(&self.path, &self.metrics()?)?;
        let mut has_failed = false;
        Ok(move |mut line: serde_json::Value| {
            if let (Some(tuning), true) = (&self.tuning, line["stage"] == TUNING) {
                line[TUNING] = tuning.name.clone().into();
            }
            let written = self.log(&line).and_then(|()| events.append(&line));
            if let (Err(error), false) = (written, has_failed) {
                tracing::warn!("the training's figures are not complete: {error}");
                has_failed = true;
            }
        })
    }

    /// Write a file of the folder, whole or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        write_whole(&path, contents).map_err(Error::io("write", path))
    }

    /// Write a file as JSON.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(value).expect("plain data");
        self.write(name, &text)
    }

    /// The file of the values behind the ids.
    pub(crate) fn vocabulary(&self) -> PathBuf {
        self.path.join(VOCABULARY)
    }

    fn weights(&self) -> Result<PathBuf, Error> {
        let name = &self.tuned()?.name;
        Ok(self.path.join(format!("{name}.safetensors")))
    }

    fn tuned(&self) -> Result<&Tuning, Error> {
        self.tuning.as_ref().ok_or_else(|| Error::RunFolder {
            path: self.path.clone(),
            reason: "is of a run about the encoder alone: nothing is tuned in it".into(),
        })
    }

    /// A file to save weights in, whole or not at all. burn's own metadata are three in random
    /// order; with at most one, equal weights are equal files.
    fn save_to(path: &Path) -> SafetensorsStore {
        SafetensorsStore::from_file(path)
            .clear_metadata()
            .overwrite(true)
    }

    fn unwritable(path: &Path, error: &str) -> Error {
        Error::RunFolder {
            path: path.to_path_buf(),
            reason: format!("cannot be written: {error}"),
        }
    }
}

/// What the curve is called that a line belongs to: its stage, with the name of a tuning that says it.
pub(crate) fn series(line: &serde_json::Value) -> Option<String> {
    let stage = line["stage"].as_str()?;
    Some(match line[TUNING].as_str() {
        Some(name) => format!("{stage} {name}"),
        None => stage.to_string(),
    })
}

/// The lines of a run folder's `metrics.jsonl`, if there are any; one that is cut short is left out.
pub(crate) fn read_metrics(folder: &Path) -> Result<Vec<serde_json::Value>, Error> {
    let path = folder.join(METRICS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", path))?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.filter_map(Result::ok).collect())
}

/// A value of a safetensors file's metadata.
fn metadata(path: &Path, key: &str) -> Result<Option<String>, Error> {
    let (header, _) = header(path)?;
    Ok(header["__metadata__"][key].as_str().map(str::to_string))
}

/// `tanh(gate)` of each fused block in a tuning's weights, by the block's number.
pub(crate) fn gates(weights: &Path) -> Result<Vec<(usize, f64)>, Error> {
    let (header, begin) = header(weights)?;
    let mut gates = Vec::new();
    for (name, tensor) in header.as_object().into_iter().flatten() {
        let block = name
            .strip_prefix("fusion.")
            .and_then(|rest| rest.strip_suffix(".gate"));
        let Some(block) = block.and_then(|block| block.parse().ok()) else {
            continue;
        };
        let at = tensor["data_offsets"][0]
            .as_u64()
            .filter(|_| tensor["dtype"] == "F32");
        let at = at.ok_or_else(|| unfit(weights, &format!("{name} is no 32-bit number")))?;
        let read = || -> std::io::Result<f32> {
            let mut file = File::open(weights)?;
            file.seek(SeekFrom::Start(begin + at))?;
            let mut value = [0; 4];
            file.read_exact(&mut value)?;
            Ok(f32::from_le_bytes(value))
        };
        let gate = read().map_err(Error::io("read", weights))?;
        gates.push((block, f64::from(gate).tanh()));
    }
    gates.sort_by_key(|&(block, _)| block);
    Ok(gates)
}

/// Header of a safetensors file, and where its data begin.
fn header(path: &Path) -> Result<(serde_json::Value, u64), Error> {
    /// More than any header of ours, and little enough to be read whatever a damaged file says.
    const MOST: u64 = 100 << 20;
    let read = || -> std::io::Result<(Vec<u8>, u64)> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length).min(MOST);
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header)?;
        Ok((header, 8 + length))
    };
    let (header, begin) = read().map_err(Error::io("read", path))?;
    let header =
        serde_json::from_slice(&header).map_err(|error| unfit(path, &error.to_string()))?;
    Ok((header, begin))
}

fn unfit(path: &Path, what: &str) -> Error {
    Error::RunFolder {
        path: path.to_path_buf(),
        reason: format!("its weights do not fit this config and data: {what}"),
    }
}

pub(crate) fn fingerprint(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("plain data");
    hex(&Sha256::digest(&text))
}

/// The values behind the ids of each modality.
fn vocabularies(prepared: &Prepared, added: &[Item]) -> BTreeMap<&'static str, Vocabulary> {
    let of_one = |kind: ModalityKind| {
        let mut values = vocabulary(kind, &prepared.dataset).values().to_vec();
        if kind == ModalityKind::Item {
            values.extend(added.iter().map(|item| item.id.clone()));
        }
        (kind.name(), Vocabulary::new(values))
    };
    // Texts that are read are numbered as the items are.
    let kinds = ModalityKind::ALL.into_iter();
    let kinds = kinds.filter(|kind| !kind.is_text());
    kinds.map(of_one).collect()
}
