//! What the machine and the global options give to every command.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use burn::tensor::Device;
use datasets::assets::{AssetStore, Progress, default_cache_dir};
use indicatif::{ProgressBar, ProgressStyle};
use trainer::{Dashboard, Monitor, Prepared, RunConfig, Terminal, backend, sources};

use crate::arguments::Global;
use crate::{interrupt, output};

pub(crate) struct Workplace {
    global: Global,
    /// Datasets and models.
    pub(crate) store: AssetStore,
}

impl Workplace {
    pub(crate) fn new(global: Global) -> Self {
        let cache = global.cache.clone();
        let cache = cache.unwrap_or_else(|| default_cache_dir(|name| std::env::var_os(name)));
        let downloads = Downloads {
            is_plain: global.plain,
            bars: Mutex::default(),
        };
        let store = AssetStore::new(cache)
            .offline(global.offline)
            .progress(move |progress| downloads.show(progress));
        Self { global, store }
    }

    /// The backend that was asked for.
    pub(crate) fn backend(&self) -> &str {
        &self.global.backend
    }

    /// This program once more, with the same global options, on another device and without bars.
    pub(crate) fn command(&self, backend: &str) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut command = Command::new(program);
        command.args(["--backend", backend, "--plain"]);
        if let Some(cache) = &self.global.cache {
            command.arg("--cache").arg(cache);
        }
        if self.global.offline {
            command.arg("--offline");
        }
        command.args((0..self.global.verbose).map(|_| "-v"));
        Ok(command)
    }

    /// The device that was asked for.
    pub(crate) fn device(&self) -> anyhow::Result<Device> {
        Ok(backend::device(&self.global.backend)?)
    }

    /// The same data with what texts say, where the run reads any.
    pub(crate) fn with_texts(
        &self,
        prepared: Prepared,
        config: &RunConfig,
        data: Option<&Path>,
    ) -> anyhow::Result<Prepared> {
        if config.text_encoder.is_none() {
            return Ok(prepared);
        }
        let (store, device) = (&self.store, self.device()?);
        let mut monitor = self.terminal();
        Ok(sources::with_texts(
            prepared,
            config,
            data,
            store,
            &device,
            &mut monitor,
        )?)
    }

    /// Keep what texts say in a prepared store, where the run reads any.
    pub(crate) fn keep_texts(&self, path: &Path, config: &RunConfig) -> anyhow::Result<()> {
        if config.text_encoder.is_none() {
            return Ok(());
        }
        let (store, device) = (&self.store, self.device()?);
        let mut monitor = self.terminal();
        Ok(sources::keep_texts(
            path,
            config,
            store,
            &device,
            &mut monitor,
        )?)
    }

    /// Who watches a stage of training.
    pub(crate) fn dashboard(&self) -> Box<dyn Monitor> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match Dashboard::is_possible() && !self.global.plain && !is_dumb {
            true => Box::new(Dashboard::new(interrupt::is_asked)),
            false => Box::new(self.terminal()),
        }
    }

    /// Who watches anything else that takes long.
    pub(crate) fn terminal(&self) -> Terminal {
        match self.global.plain {
            true => Terminal::plain(interrupt::is_asked),
            false => Terminal::new(interrupt::is_asked),
        }
    }
}

/// A bar per file on a terminal, a line per file elsewhere.
struct Downloads {
    is_plain: bool,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Downloads {
    fn show(&self, progress: Progress<'_>) {
        let is_done = progress.total == Some(progress.done);
        if self.is_plain || !std::io::stderr().is_terminal() {
            if is_done {
                output::note(&format!(
                    "fetched {} ({})",
                    progress.file,
                    size(progress.done)
                ));
            }
            return;
        }
        let Ok(mut bars) = self.bars.lock() else {
            return;
        };
        let bar = bars.entry(progress.file.to_string()).or_insert_with(|| {
            let style = "{msg:32!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is constant");
            let bar = ProgressBar::new(progress.total.unwrap_or(0)).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(500));
            bar.with_message(progress.file.to_string())
                .with_position(progress.done)
        });
        bar.set_position(progress.done);
        if is_done {
            bar.finish();
        }
    }
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
