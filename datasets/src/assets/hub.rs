//! Whole models from a hub, by the name of their repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::checked::{Expected, has_note};
use super::download::{download, network_error};
use super::store::{AssetStore, lock};
use crate::Error;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// Files that a model may come without: how to write a prompt, and when to stop.
const OPTIONAL: [&str; 2] = ["tokenizer_config.json", "generation_config.json"];

impl AssetStore {
    /// A folder with a model from the hub: `config.json`, `tokenizer.json`, and
    /// `model.safetensors` or all the shards that `model.safetensors.index.json` lists.
    ///
    /// `repo` is a name such as `HuggingFaceTB/SmolLM2-135M-Instruct`, `revision` a branch, tag or
    /// commit. A branch that is in the cache is taken as it is, even if it has moved on since:
    /// name a commit to say which one you mean.
    ///
    /// Weights are compared with the SHA-256 that the hub states; the small files, for which it
    /// states none, must be whole and valid JSON.
    ///
    /// # Errors
    ///
    /// [`Error::HubName`] if the name or revision cannot be one. [`Error::Unavailable`] if the hub
    /// cannot be reached or lacks a file. [`Error::Write`] if the cache cannot hold it.
    pub fn fetch_hub(&self, repo: &str, revision: &str) -> Result<PathBuf, Error> {
        check_repo(repo)?;
        check_name(
            revision,
            "revision",
            "a branch, tag or commit, such as `main`",
        )?;
        let folder = self
            .cache_dir
            .join("hub")
            .join(repo.replace('/', "--"))
            .join(revision);
        if is_complete(&folder) {
            return Ok(folder);
        }
        let unavailable = |reason| Error::Unavailable {
            asset: repo.to_string(),
            tried: vec![
                format!("the cache: not all in {}", folder.display()),
                reason,
            ],
            advice: format!(
                "Get it by hand, on any machine: `hf download {repo} --revision {revision} \
                 --local-dir DIR`, then give the path of DIR."
            ),
        };
        if self.is_offline {
            return Err(unavailable(
                "the hub: not asked, because of --offline".to_string(),
            ));
        }
        let _lock = lock(&folder)?;
        match self.fetch_model(repo, revision, &folder) {
            Ok(()) => Ok(folder),
            Err(error) if error.is_local() => Err(error),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    fn fetch_model(&self, repo: &str, revision: &str, folder: &Path) -> Result<(), Error> {
        let url = |name: &str| format!("{}/{repo}/resolve/{revision}/{name}", self.hub_url);
        let fetch = |name: &str| self.fetch_hub_file(&url(name), name, folder);
        let is_fetched = |name: &str| match fetch(name) {
            Err(Error::Status { status: 404, .. }) => Ok(false),
            other => other.map(|()| true),
        };
        fetch(CONFIG)?;
        fetch(TOKENIZER)?;
        for name in OPTIONAL {
            is_fetched(name)?;
        }
        if is_fetched(WEIGHTS_INDEX)? {
            shards(&folder.join(WEIGHTS_INDEX))?
                .iter()
                .try_for_each(|name| fetch(name))
        } else {
            fetch(WEIGHTS)
        }
    }

    fn fetch_hub_file(&self, url: &str, name: &str, folder: &Path) -> Result<(), Error> {
        let target = folder.join(name);
        if has_note(&target) {
            return Ok(());
        }
        let (size, sha256) = stated_hash(&self.agent, url)?;
        let expected = Expected {
            size,
            sha256: sha256.as_deref(),
        };
        tracing::info!(url, bytes = size, "downloading");
        let report = |done, total| self.report(name, done, total);
        download(&self.agent, url, &target, expected, &report)?;
        if name.ends_with(".json") {
            read_json(&target).inspect_err(|_| drop(fs::remove_file(&target)))?;
        }
        Ok(())
    }
}

/// Size and SHA-256 of a file as the hub states them, before it redirects to where large files are.
fn stated_hash(agent: &Agent, url: &str) -> Result<(Option<u64>, Option<String>), Error> {
    let response = agent
        .head(url)
        .config()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .call()
        .map_err(|source| network_error(url, source))?;
    let status = response.status();
    if !(status.is_success() || status.is_redirection() || status == StatusCode::METHOD_NOT_ALLOWED)
    {
        return Err(Error::Status {
            url: url.to_string(),
            status: status.as_u16(),
        });
    }
    let is_sha256 =
        |tag: &&str| tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sha256 = header(&response, "x-linked-etag")
        .map(|tag| tag.trim_matches('"'))
        .filter(is_sha256)
        .map(str::to_ascii_lowercase);
    // Without a hash the size may be that of a redirection.
    let size = header(&response, "x-linked-size").and_then(|size| size.parse().ok());
    Ok((size.filter(|_| sha256.is_some()), sha256))
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn is_complete(folder: &Path) -> bool {
    let is_here = |name: &str| has_note(&folder.join(name));
    let has_weights = || match is_here(WEIGHTS_INDEX) {
        true => shards(&folder.join(WEIGHTS_INDEX))
            .is_ok_and(|names| names.iter().all(|name| is_here(name))),
        false => is_here(WEIGHTS),
    };
    is_here(CONFIG) && is_here(TOKENIZER) && has_weights()
}

/// Names of the files that hold the weights.
fn shards(index: &Path) -> Result<BTreeSet<String>, Error> {
    let json = read_json(index)?;
    let names = json["weight_map"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values());
    let names: BTreeSet<String> = names
        .map(|name| name.as_str().unwrap_or_default().to_string())
        .collect();
    // The names come from a server and become paths.
    for name in &names {
        check_name(
            name,
            "file of weights",
            "a plain file name in the index of weights",
        )?;
    }
    if names.is_empty() {
        return Err(Error::Empty {
            file: index.to_path_buf(),
        });
    }
    Ok(names)
}

fn read_json(path: &Path) -> Result<Value, Error> {
    let text = fs::read(path).map_err(|source| Error::Read {
        path: path.to_path_buf(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| Error::Damaged {
        file: path.to_path_buf(),
        source: Box::new(source),
    })
}

fn check_repo(repo: &str) -> Result<(), Error> {
    const EXPECTED: &str = "`owner/name`, such as `HuggingFaceTB/SmolLM2-135M-Instruct`";
    let bad = || Error::HubName {
        name: repo.to_string(),
        what: "model of a hub",
        expected: EXPECTED,
    };
    let (owner, name) = repo.split_once('/').ok_or_else(bad)?;
    for part in [owner, name] {
        check_name(part, "model of a hub", EXPECTED).map_err(|_| bad())?;
    }
    Ok(())
}

/// Letters, digits, `.`, `_` and `-`, not starting with a dot: never a path out of the cache.
fn check_name(name: &str, what: &'static str, expected: &'static str) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(is_plain) {
        return Err(Error::HubName {
            name: name.to_string(),
            what,
            expected,
        });
    }
    Ok(())
}
