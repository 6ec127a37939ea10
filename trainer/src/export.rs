//! A tuned model as files that others can use.
//!
//! ```text
//! README.md            the model card
//! language-model/      a Hugging Face folder, what was trained in it merged
//! adapter/             the same training as adapters in PEFT's layout, under the strategy `lora`, if the
//!                      model that they belong to has a name: without `llm.adapter`
//! fusion/              the encoder and what joins the two; run file; vocabulary;
//!                      title-vectors.safetensors, of all items in order, where titles are read, and
//!                      description-vectors.safetensors
//! export.json          every trained parameter, and the file that it is in
//! check.safetensors    a prompt and its logits, which scripts/check_export.py asks transformers for
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Int, Tensor, TensorData};
use datasets::assets;
use llm::load::LoadedModel;
use llm::{LanguageModel, adapter, save};
use llm_fusion::{TuningStrategy, UserLlm, trained_parameters};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::added_items::ITEM;
use crate::files::{as_readable_as, write_whole};
use crate::{Error, LanguageSections, Prepared, RunConfig, RunFolder};

const LANGUAGE_MODEL: &str = "language-model";
const ADAPTER: &str = "adapter";
const FUSION: &str = "fusion/fusion.safetensors";

/// Whether what was trained in the language model is written as adapters, too. With an adapter
/// merged before, the model that they belong to has no name.
fn has_adapter(language: &LanguageSections<'_>) -> bool {
    language.tuning.strategy == TuningStrategy::Lora && language.llm.adapter.is_none()
}

/// The language model's name as others know it.
fn base_model(name: &str) -> &str {
    let known = assets::find(name).ok();
    known.and_then(|asset| asset.hub).unwrap_or(name)
}

/// Logits of the written model may be so far from those of the tuned one: merging rounds.
const TOLERANCE: f32 = 1e-4;

/// What was written, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exported {
    /// Parameters that were trained, all of which are in the files.
    pub n_trained: usize,
    /// Largest difference between the logits of the tuned language model and of the written one.
    pub distance: f32,
}

/// Write a tuned model to the folder `out`, whole or not at all. `llm` is the language model that
/// it was tuned on.
///
/// What was written is read back: every trained parameter has to be in one of the files, and the
/// merged language model has to give the logits that the tuned one gives.
///
/// # Errors
///
/// If `out` is there and not empty or cannot be written, nothing is tuned, or what was written is
/// not what was tuned.
pub fn export(
    run: &RunFolder,
    config: &RunConfig,
    prepared: &Prepared,
    llm: LoadedModel,
    out: &Path,
) -> Result<Exported, Error> {
    let refuse = |reason: String| Error::Export {
        path: out.to_path_buf(),
        reason,
    };
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(refuse("is there already and not empty".into()));
    }
    let (base, hash) = (llm.model.clone(), &llm.sha256);
    let tuned = run.load_adapted(config, prepared, base, hash)?;
    let trained = trained_parameters(&tuned);
    let parts = Parts {
        config,
        prepared,
        tuned: tuned.valid(),
        trained,
        llm,
    };

    let beside = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(beside).map_err(Error::io("create", beside))?;
    let partial = tempfile::Builder::new()
        .prefix(".export-")
        .tempdir_in(beside)
        .map_err(Error::io("create a folder in", beside))?;
    let whole = partial.path().join("whole");
    let exported = parts.write(run, &whole).map_err(|error| match error {
        Error::Export { reason, .. } => refuse(reason),
        other => other,
    })?;
    if out.exists() {
        fs::remove_dir(out).map_err(Error::io("replace", out))?;
    }
    fs::rename(&whole, out).map_err(Error::io("write", out))?;
    Ok(exported)
}

/// What an export is made of.
struct Parts<'a> {
    config: &'a RunConfig,
    prepared: &'a Prepared,
    /// Adapters still beside the weights.
    tuned: UserLlm,
    trained: Vec<(String, usize)>,
    /// The language model as it was before tuning.
    llm: LoadedModel,
}

impl Parts<'_> {
    fn write(&self, run: &RunFolder, folder: &Path) -> Result<Exported, Error> {
        let language = self.config.language()?;
        let mut merged = self.tuned.clone().materialize();
        self.prepared.add_rows(merged.encoder.modality_mut(ITEM));

        let llm = &self.llm;
        let language_model = folder.join(LANGUAGE_MODEL);
        save::save_hugging_face(&language_model, &merged.llm, &llm.config, &llm.tokenizer)?;
        if has_adapter(&language) {
            let base = base_model(&language.llm.model);
            adapter::save_adapter(&folder.join(ADAPTER), &self.tuned.llm, base)?;
        }
        self.write_fusion(run, &merged, &folder.join(FUSION))?;

        let written = llm::load::load(&language_model, &llm.model.device())?;
        let in_fusion = sizes_in_file(&folder.join(FUSION))?;
        let places = places(&self.trained, &sizes(&written.model), &in_fusion)?;
        let distance = self.check_logits(&written.model, folder)?;

        let account = json!({
            "trained": places,
            "largest_difference_of_logits": distance,
            "language_model": { "name": llm.name, "sha256_before_tuning": llm.sha256 },
            "data_sha256": self.prepared.dataset.sha256,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let account = serde_json::to_string_pretty(&account).expect("plain data");
        write(&folder.join("export.json"), &account)?;
        let n_trained = self.trained.iter().map(|(_, size)| size).sum();
        write(&folder.join("README.md"), &self.card(run, n_trained)?)?;
        Ok(Exported {
            n_trained,
            distance,
        })
    }

    /// All that is not the language model, with what it takes to build it again.
    fn write_fusion(&self, run: &RunFolder, merged: &UserLlm, path: &Path) -> Result<(), Error> {
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut store = SafetensorsStore::from_file(path)
            .clear_metadata()
            // No parameter, and a soft prompt's is made from the embeddings before tuning.
            .metadata("projector_scale", merged.projector.scale().to_string())
            .with_regex(r"^(encoder|resampler|projector|fusion)\.");
        merged
            .save_into(&mut store)
            .map_err(|error| Error::Export {
                path: path.to_path_buf(),
                reason: format!("cannot be written: {error}"),
            })?;
        for (kind, vectors) in &self.prepared.texts {
            let name = kind.name().replace("text", "vectors");
            vectors.save(&folder.join(name).with_extension("safetensors"))?;
        }
        let config = folder.join("config.toml");
        write(&config, &self.config.to_toml())?;
        as_readable_as(&config, path).map_err(Error::io("write", path))?;
        let (from, to) = (run.vocabulary(), folder.join("vocabulary.json"));
        fs::copy(&from, to).map_err(Error::io("copy", from))?;
        Ok(())
    }

    /// Ask the tuned language model and the written one the same, and keep question and answer.
    fn check_logits(&self, written: &LanguageModel, folder: &Path) -> Result<f32, Error> {
        let prompt = &self.config.language()?.prompts.next_item;
        let ids: Vec<i64> = self
            .llm
            .tokenizer
            .encode(prompt)?
            .into_iter()
            .map(i64::from)
            .collect();
        let shape = [1, ids.len()];
        let tokens = TensorData::new(ids, shape);
        let logits = |model: &LanguageModel| {
            let tokens = Tensor::<2, Int>::from_data(tokens.clone(), &model.device());
            model.forward(tokens, None)
        };
        let expected = logits(&self.tuned.llm);
        let distance = (logits(written) - expected.clone())
            .abs()
            .max()
            .into_scalar::<f32>();
        if distance.is_nan() || distance > TOLERANCE {
            return Err(Error::Export {
                path: folder.to_path_buf(),
                reason: format!(
                    "is not written: the merged language model's logits are {distance} from those \
                     of the tuned one, at most {TOLERANCE} is rounding"
                ),
            });
        }

        let [_, n, vocab_size] = expected.dims();
        let logits: Vec<u8> = expected
            .into_data()
            .iter::<f32>()
            .flat_map(f32::to_le_bytes)
            .collect();
        let tokens: Vec<u8> = tokens.iter::<i64>().flat_map(i64::to_le_bytes).collect();
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).expect("these sizes");
        let tensors = [
            ("tokens", view(Dtype::I64, vec![n], &tokens)),
            ("logits", view(Dtype::F32, vec![n, vocab_size], &logits)),
        ];
        let path = folder.join("check.safetensors");
        let text = [("text".to_string(), prompt.clone())].into();
        // Not `serialize_to_file`, whose files are private.
        let contents = safetensors::serialize(tensors, Some(text)).expect("these sizes");
        write_whole(&path, &contents).map_err(Error::io("write", path))?;
        Ok(distance)
    }

    /// Data, protocol, licence and limits, for people.
    fn card(&self, run: &RunFolder, n_trained: usize) -> Result<String, Error> {
        let language = self.config.language()?;
        let (dataset, stats) = (&self.prepared.dataset, self.prepared.dataset.stats());
        let strategy = json!(language.tuning.strategy);
        let strategy = strategy.as_str().unwrap_or_default();
        let fusion = json!(language.fusion.kind);
        let licence = |name: &str| match assets::find(name) {
            Ok(asset) => asset.licence,
            Err(_) => "its publisher's, which this program does not know: look there",
        };
        let model = base_model(&language.llm.model);
        let figures = match fs::read_to_string(run.path().join("report.md")) {
            Ok(report) => report.lines().skip(1).collect::<Vec<_>>().join("\n"),
            Err(_) => "Not evaluated: `user-llm evaluate` does it.".into(),
        };
        let adapter = match has_adapter(&language) {
            true => "- `adapter/`: what was trained in it, for PEFT\n",
            false => "",
        };
        Ok(format!(
            "---\nlicense: other\nbase_model: {model}\nlibrary_name: transformers\ntags: [user-llm, recommendation]\n---\n\n\
             # {name}\n\n\
             A language model that knows a person by user embeddings, made from a history of events, \
             in place of reading the history as text \
             ([User-LLM](https://arxiv.org/abs/2402.13598)).\n\n\
             - `language-model/`: {llm} for transformers, with what was trained in it merged\n\
             {adapter}\
             - `fusion/`: the user encoder and what joins the two, for the crate `user-llm`; \
             `config.toml` and `vocabulary.json` say what it is made of\n\n\
             Without `fusion/` the language model knows nothing of a person.\n\n\
             ## Data\n\n\
             {data}: {interactions} interactions of {users} people with {items} items \
             (SHA-256 {sha256}). None of it is in these files but the items' and other values' \
             names, in `vocabulary.json`.\n\n\
             ## Training\n\n\
             Strategy `{strategy}`, fusion `{fusion}`: {n_trained} parameters trained, each listed in \
             `export.json`. Seed {seed}; all settings in `fusion/config.toml`.\n\n\
             ## Figures\n\n{figures}\n\n\
             ## Licence\n\n\
             - language model `{model}`: {model_licence}\n\
             - data `{data}`: {data_licence}\n\n\
             These weights are made from both.\n\n\
             ## Limits\n\n\
             - It answers the questions that it was taught, about the items of its data. Items that \
             came later, and other questions, are not what the figures speak of.\n\
             - Its taste is that of the people in the data, with their time and their bias.\n\
             - User embeddings are made from what a person did, and can tell of it: treat them as \
             the history itself.\n\
             - Under `full` and `lora` the language model itself has changed, and may be worse at \
             everything else; under `enc` and `proj` it is as it was before tuning.\n",
            name = self.config.name,
            llm = self.llm.name,
            fusion = fusion.as_str().unwrap_or_default(),
            data = dataset.name,
            interactions = stats.interactions,
            users = stats.users,
            items = stats.items,
            sha256 = dataset.sha256,
            seed = self.config.seed,
            model_licence = licence(model),
            data_licence = licence(&self.config.data.dataset),
        ))
    }
}

/// The file of every trained parameter, where it has to be in the trained size or larger: items that
/// were added later have rows, too.
fn places<'a>(
    trained: &'a [(String, usize)],
    in_language_model: &BTreeMap<String, usize>,
    in_fusion: &BTreeMap<String, usize>,
) -> Result<BTreeMap<&'a str, &'static str>, Error> {
    let mut places = BTreeMap::new();
    let mut lost = Vec::new();
    for (path, size) in trained {
        let has = |sizes: &BTreeMap<String, usize>, path: &str, size: usize| {
            sizes.get(path).is_some_and(|&found| found >= size)
        };
        let place = match path.strip_prefix("llm.") {
            // An adapter is in the weight that it was merged into.
            Some(path) => match path.rsplit_once(".lora.") {
                Some((weight, _)) => has(in_language_model, weight, 1).then_some(LANGUAGE_MODEL),
                None => has(in_language_model, path, *size).then_some(LANGUAGE_MODEL),
            },
            None => has(in_fusion, path, *size).then_some(FUSION),
        };
        match place {
            Some(place) => drop(places.insert(path.as_str(), place)),
            None => lost.push(path.as_str()),
        }
    }
    match lost.is_empty() {
        true => Ok(places),
        false => Err(Error::Export {
            path: Path::new(FUSION).into(),
            reason: format!(
                "is not written: no file has what was trained in {}",
                lost.join(", ")
            ),
        }),
    }
}

/// Paths and sizes of a model's parameters.
fn sizes(model: &LanguageModel) -> BTreeMap<String, usize> {
    #[derive(Default)]
    struct Sizes {
        path: Vec<String>,
        found: BTreeMap<String, usize>,
    }
    impl ModuleVisitor for Sizes {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let size = param.shape().num_elements();
            self.found.insert(self.path.join("."), size);
        }
    }
    let mut sizes = Sizes::default();
    model.visit(&mut sizes);
    sizes.found
}

/// Names and sizes of a safetensors file's tensors.
fn sizes_in_file(path: &Path) -> Result<BTreeMap<String, usize>, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(|error| Error::Export {
        path: path.to_path_buf(),
        reason: format!("cannot be read back: {error}"),
    })?;
    let size = |(name, view): (String, TensorView<'_>)| (name, view.shape().iter().product());
    Ok(tensors.tensors().into_iter().map(size).collect())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(names: &[(&str, usize)]) -> BTreeMap<String, usize> {
        names
            .iter()
            .map(|&(name, size)| (name.to_string(), size))
            .collect()
    }

    #[test]
    fn a_trained_parameter_that_is_in_no_file_is_an_error() {
        let llm = sized(&[("blocks.0.attention.query.weight", 16)]);
        let fusion = sized(&[("projector.linear.weight", 6), ("encoder.bos", 4)]);
        let trained = |names: &[(&str, usize)]| -> Vec<(String, usize)> {
            names
                .iter()
                .map(|&(name, size)| (name.to_string(), size))
                .collect()
        };
        let all = trained(&[
            ("llm.blocks.0.attention.query.weight.lora.a", 8),
            ("projector.linear.weight", 6),
        ]);
        let places = places(&all, &llm, &fusion).unwrap();
        assert_eq!(places[all[0].0.as_str()], LANGUAGE_MODEL);
        assert_eq!(places[all[1].0.as_str()], FUSION);

        for lost in [
            ("llm.blocks.1.attention.query.weight.lora.a", 8),
            ("llm.blocks.0.attention.query.weight", 17),
            ("resampler.latents", 1),
            ("encoder.bos", 5),
        ] {
            let error = super::places(&trained(&[lost]), &llm, &fusion).unwrap_err();
            assert!(error.to_string().contains(lost.0), "{error}");
        }
    }
}
