//! Checkpoints that are whole or absent.
//!
//! A checkpoint is a folder `step-00000100/` with the trained weights, the optimizer's state and
//! `state.json`, which names the SHA-256 of the others, its own beside it. It is written under
//! another name, synced, and renamed, so a run that is killed at any moment leaves the one before.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::module::{Module, ParamGroup};
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

/// Checkpoints kept besides the best one: the last, and one to fall back on.
const KEEP_LAST: usize = 2;

const STATE: &str = "state.json";
const STATE_HASH: &str = "state.sha256";
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";

/// Where training stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Steps that are done.
    pub step: usize,
    /// Best validation so far, and the step after which it was taken.
    #[serde(with = "exact")]
    pub best: Option<(f64, usize)>,
    /// Hash of everything that must be equal for the run to go on: config, data, stage.
    pub fingerprint: String,
    /// SHA-256 of each file of the folder, by name.
    pub files: Vec<(String, String)>,
}

/// The folder that holds the checkpoints of one stage.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    fingerprint: String,
}

impl Checkpoints {
    /// Checkpoints in `folder`, which is created, for the run of this fingerprint.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created.
    pub fn new(folder: impl Into<PathBuf>, fingerprint: impl Into<String>) -> Result<Self, Error> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Self {
            folder,
            fingerprint: fingerprint.into(),
        })
    }

    /// Write a checkpoint; older ones go, but for the one before and the best.
    ///
    /// Only parameters of `trained` are written: the rest is the model that the run began with.
    ///
    /// # Errors
    ///
    /// If it cannot be written; what was there before is untouched then.
    pub fn save<M: Module>(
        &self,
        step: usize,
        best: Option<(f64, usize)>,
        model: &M,
        trained: &ParamGroup,
        optimizer: &ModuleOptimizer,
    ) -> Result<PathBuf, Error> {
        let target = self.at(step);
        let partial = self.folder.join(format!(".step-{step:08}.partial"));
        let _ = fs::remove_dir_all(&partial);
        let write = || -> Result<(), Error> {
            fs::create_dir_all(&partial).map_err(Error::io("create", &partial))?;
            let damaged = |error: burn::store::RecordError| Error::Checkpoint {
                path: partial.clone(),
                reason: format!("cannot be written: {error}"),
            };
            let record = model.clone().into_record_group(trained.clone());
            record.save(partial.join(MODEL)).map_err(damaged)?;
            optimizer.save(partial.join(OPTIMIZER)).map_err(damaged)?;
            let files = [MODEL, OPTIMIZER]
                .into_iter()
                .map(|name| Ok((name.to_string(), sha256(&partial.join(name))?)))
                .collect::<Result<_, Error>>()?;
            let state = Checkpoint {
                step,
                best,
                fingerprint: self.fingerprint.clone(),
                files,
            };
            let state = serde_json::to_vec_pretty(&state).expect("a checkpoint's state is plain");
            for (name, contents) in [
                (STATE_HASH, hex(&Sha256::digest(&state)).as_bytes()),
                (STATE, &state),
            ] {
                let path = partial.join(name);
                fs::write(&path, contents).map_err(Error::io("write", &path))?;
            }
            for name in [MODEL, OPTIMIZER, STATE_HASH, STATE] {
                sync(&partial.join(name))?;
            }
            sync(&partial)?;
            // What stands there, or after it, was passed over as damaged: this step came again.
            for damaged in self.steps().into_iter().filter(|path| *path >= target) {
                fs::remove_dir_all(&damaged).map_err(Error::io("remove", &damaged))?;
            }
            fs::rename(&partial, &target).map_err(Error::io("rename", &partial))?;
            sync(&self.folder)
        };
        if let Err(error) = write() {
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        self.prune(best.map(|(_, step)| step));
        Ok(target)
    }

    /// The latest whole checkpoint of this run, if there is one. Damaged ones are passed over with
    /// a warning.
    ///
    /// # Errors
    ///
    /// If the latest whole one belongs to another run: another config, other data.
    pub fn latest(&self) -> Result<Option<(PathBuf, Checkpoint)>, Error> {
        for path in self.steps().into_iter().rev() {
            match read_state(&path) {
                Ok(state) if state.fingerprint == self.fingerprint => {
                    return Ok(Some((path, state)));
                }
                Ok(_) => {
                    return Err(Error::Checkpoint {
                        path,
                        reason: "was written by a run with another config or other data; \
                                 choose another run folder, or remove this one to start anew"
                            .into(),
                    });
                }
                Err(error) => tracing::warn!("passed over: {error}"),
            }
        }
        Ok(None)
    }

    /// Put a checkpoint's weights into a model.
    ///
    /// # Errors
    ///
    /// If they do not fit.
    pub fn load_model<M: Module>(path: &Path, model: M) -> Result<M, Error> {
        let damaged = |error: burn::store::RecordError| Error::Checkpoint {
            path: path.to_path_buf(),
            reason: format!("its weights do not fit the model: {error}"),
        };
        let record = ModuleRecord::load(path.join(MODEL))
            .map_err(damaged)?
            .allow_partial(true);
        model.try_load_record(record).map_err(damaged)
    }

    /// Put a checkpoint's state into an optimizer.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn load_optimizer(
        path: &Path,
        optimizer: ModuleOptimizer,
    ) -> Result<ModuleOptimizer, Error> {
        let damaged = |reason: String| Error::Checkpoint {
            path: path.to_path_buf(),
            reason: format!("its optimizer state cannot be read: {reason}"),
        };
        // burn reads it to its default device, whatever the model's: with wgpu or CUDA built in
        // that is a GPU, and where there is none it panics.
        let load = std::panic::AssertUnwindSafe(|| optimizer.load(path.join(OPTIMIZER)));
        match std::panic::catch_unwind(load) {
            Ok(loaded) => loaded.map_err(|error| damaged(error.to_string())),
            Err(_) => Err(damaged(
                "burn's default device does not open; name the one in use, \
                 as in BURN_DEVICE=flex or BURN_DEVICE=ndarray, and try again"
                    .into(),
            )),
        }
    }

    /// The checkpoint after `step` steps, found to be whole.
    ///
    /// # Errors
    ///
    /// If it is damaged or not there.
    pub fn whole(&self, step: usize) -> Result<PathBuf, Error> {
        let path = self.at(step);
        read_state(&path).map(|_| path)
    }

    /// The folder of the checkpoint after `step` steps.
    pub fn at(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// Folders of checkpoints, oldest first.
    fn steps(&self) -> Vec<PathBuf> {
        let mut steps: Vec<PathBuf> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("step-"))
            })
            .collect();
        steps.sort();
        steps
    }

    fn prune(&self, best: Option<usize>) {
        let best = best.map(|step| self.at(step));
        let steps = self.steps();
        for path in steps.iter().rev().skip(KEEP_LAST) {
            if best.as_ref() != Some(path) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}

/// A figure as text: `serde_json` may read a number back that is off in its last bit.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        best: &Option<(f64, usize)>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        best.map(|(figure, step)| (format!("{figure:?}"), step))
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<(f64, usize)>, D::Error> {
        let best = Option::<(String, usize)>::deserialize(from)?;
        best.map(|(figure, step)| Ok((figure.parse().map_err(D::Error::custom)?, step)))
            .transpose()
    }
}

fn read_state(path: &Path) -> Result<Checkpoint, Error> {
    let damaged = |reason: String| Error::Checkpoint {
        path: path.to_path_buf(),
        reason,
    };
    let file = path.join(STATE);
    let text = fs::read(&file).map_err(Error::io("read", &file))?;
    let hash = path.join(STATE_HASH);
    let expected = fs::read_to_string(&hash).map_err(Error::io("read", &hash))?;
    if hex(&Sha256::digest(&text)) != expected {
        return Err(damaged(format!("{STATE} is not what {STATE_HASH} says")));
    }
    let state: Checkpoint =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("{STATE}: {error}")))?;
    for (name, expected) in &state.files {
        let found = sha256(&path.join(name))?;
        if found != *expected {
            return Err(damaged(format!(
                "{name} has SHA-256 {found}, expected {expected}"
            )));
        }
    }
    Ok(state)
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sync(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("sync", path))
}
