//! `user-llm ablate`.
//!
//! ```text
//! grid.toml             the grid as it was
//! encoders/PRINT/       a run folder per pretrained encoder, which cells share, and with
//!                       --encoders grids
//! cells/LABEL-PRINT/    a run folder per cell, with results/ as `evaluate --save` writes them
//! */log.txt             what the stages said
//! */STAGE.done          stages that are over
//! table.md, .csv, .json
//! ```
//!
//! Every stage is this program in a process of its own, so that one that fails, or is killed for
//! its memory, takes no other with it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use trainer::ablate::{Cell, CellEnd, Grid, Summary};
use trainer::backend;
use trainer::page::{CELL_RESULTS, GRID_CELLS, GRID_FIGURES, GRID_TABLE};
use trainer::results::Spread;

use crate::arguments::AblateArgs;
use crate::files::WholeFile;
use crate::workplace::Workplace;
use crate::{Ended, interrupt, output};

/// Time between looks at a process.
const LOOK: Duration = Duration::from_millis(50);
/// What a cell takes of the folder of its encoder, the weights last: where they are, all is.
const OF_ENCODER: [&str; 3] = ["run.json", "metrics.jsonl", "encoder.safetensors"];

pub(crate) fn run(workplace: &Workplace, args: &AblateArgs) -> anyhow::Result<Ended> {
    let grid = Grid::read(&args.grid)?;
    let cells = grid.cells(args.budget.as_deref())?;
    let folder = args.out.clone().unwrap_or_else(|| {
        let budget = args.budget.as_ref().map(|budget| format!("-{budget}"));
        Path::new("ablations").join(grid.name.clone() + &budget.unwrap_or_default())
    });
    let site = Site {
        workplace,
        args,
        folder,
    };
    let encoders = site.encoders(&cells);
    output::note(&format!(
        "{}: {} cells, {} pretrained encoders, in {}",
        grid.name,
        cells.len(),
        encoders.len(),
        site.folder.display()
    ));
    if args.dry_run {
        output::print(&site.plan(&cells));
        return Ok(Ended::Done);
    }
    let devices = match args.devices.as_slice() {
        [] => vec![workplace.backend().to_string()],
        devices => devices.to_vec(),
    };
    for device in &devices {
        backend::device(device)?;
    }
    fs::create_dir_all(&site.folder)
        .and_then(|()| fs::copy(&args.grid, site.folder.join("grid.toml")))
        .with_context(|| format!("cannot write {}", site.folder.display()))?;

    let _heard = interrupt::heard();
    let pretrained = share(&devices, &encoders, |device, cell| {
        site.pretrain(device, cell)
    });
    let ended = share(&devices, &cells, |device, cell| {
        let encoder = cell.encoder_folder();
        let at = encoders
            .iter()
            .position(|cell| cell.encoder_folder() == encoder);
        match at.map(|at| &pretrained[at]) {
            Some(Ok(Stage::Done)) => site.finish(device, cell),
            Some(Ok(Stage::Failed(error))) => Ok(Stage::Failed(error.clone())),
            Some(Err(error)) => Ok(Stage::Failed(format!("{error:#}"))),
            Some(Ok(Stage::Stopped)) | None => Ok(Stage::Stopped),
        }
    });
    let ends = cells.into_iter().zip(ended).map(|(cell, stage)| {
        let end = match stage {
            Ok(Stage::Done) => site.read(&cell),
            Ok(Stage::Failed(error)) => CellEnd::Failed(error),
            Ok(Stage::Stopped) => CellEnd::Open,
            Err(error) => CellEnd::Failed(format!("{error:#}")),
        };
        (cell, end)
    });
    let ends: Vec<(Cell, CellEnd)> = ends.collect();
    let summary = Summary::new(&grid.name, &ends);
    site.write(&summary)?;
    output::print(&summary.to_markdown());
    let is_any = |wanted: fn(&CellEnd) -> bool| ends.iter().any(|(_, end)| wanted(end));
    Ok(
        if interrupt::is_asked() && is_any(|end| matches!(end, CellEnd::Open)) {
            output::note("stopped and saved; the same command goes on from there");
            Ended::Interrupted
        } else if is_any(|end| !matches!(end, CellEnd::Done(_))) {
            Ended::Problem
        } else {
            Ended::Done
        },
    )
}

/// How a stage has ended.
enum Stage {
    Done,
    Failed(String),
    /// Somebody asked to stop.
    Stopped,
}

/// Where a grid is run.
struct Site<'a> {
    workplace: &'a Workplace,
    args: &'a AblateArgs,
    folder: PathBuf,
}

impl Site<'_> {
    /// One cell for each encoder that is to be pretrained.
    fn encoders(&self, cells: &[Cell]) -> Vec<Cell> {
        let mut encoders: Vec<Cell> = Vec::new();
        for cell in cells {
            if encoders
                .iter()
                .all(|other| other.encoder_folder() != cell.encoder_folder())
            {
                encoders.push(cell.clone());
            }
        }
        encoders
    }

    fn encoder_path(&self, cell: &Cell) -> PathBuf {
        let encoders = self.args.encoders.clone();
        let encoders = encoders.unwrap_or_else(|| self.folder.join("encoders"));
        encoders.join(cell.encoder_folder())
    }

    fn cell_path(&self, cell: &Cell) -> PathBuf {
        self.folder.join(GRID_CELLS).join(cell.folder())
    }

    /// The cells, the encoders that they share, and what is done of them.
    fn plan(&self, cells: &[Cell]) -> String {
        let mut rows = vec![
            ["cell", "seed", "encoder", "state"]
                .map(String::from)
                .to_vec(),
        ];
        rows.extend(cells.iter().map(|cell| {
            let path = self.cell_path(cell);
            let state = if path.join("evaluate.done").exists() {
                "done"
            } else if path.exists() {
                "begun"
            } else if self.encoder_path(cell).join("pretrain.done").exists() {
                "pretrained"
            } else {
                "–"
            };
            let seed = cell.config.seed.to_string();
            vec![
                cell.label.clone(),
                seed,
                cell.encoder_folder(),
                state.into(),
            ]
        }));
        output::columns(&rows)
    }

    fn pretrain(&self, device: &str, cell: &Cell) -> anyhow::Result<Stage> {
        let path = self.encoder_path(cell);
        fs::create_dir_all(&path)?;
        write(&path.join("config.toml"), &cell.config.to_toml())?;
        self.stage(device, "pretrain", &path, &[], cell)
    }

    /// Tune and evaluate a cell whose encoder is there.
    fn finish(&self, device: &str, cell: &Cell) -> anyhow::Result<Stage> {
        let path = self.cell_path(cell);
        fs::create_dir_all(&path)?;
        write(&path.join("config.toml"), &cell.config.to_toml())?;
        if !path.join(OF_ENCODER[2]).exists() {
            for name in OF_ENCODER {
                let from = self.encoder_path(cell).join(name);
                let whole = WholeFile::begin(&path.join(name))?;
                std::io::copy(&mut File::open(&from)?, &mut whole.writer()?)
                    .with_context(|| format!("cannot copy {}", from.display()))?;
                whole.keep()?;
            }
        }
        if !cell.config.is_encoder_only() {
            match self.stage(device, "tune", &path, &[], cell)? {
                Stage::Done => (),
                other => return Ok(other),
            }
        }
        let results = results(&path).display().to_string();
        let more = ["--no-text", "--save", results.as_str()];
        let end = self.stage(device, "evaluate", &path, &more, cell)?;
        // Nothing is left to resume, and checkpoints of a whole language model are of gigabytes.
        if let (Stage::Done, Ok(language)) = (&end, cell.config.language()) {
            let checkpoints = path.join(language.tuning_name());
            if checkpoints.exists() {
                fs::remove_dir_all(&checkpoints)
                    .with_context(|| format!("cannot remove {}", checkpoints.display()))?;
            }
        }
        Ok(end)
    }

    fn read(&self, cell: &Cell) -> CellEnd {
        let path = self.cell_path(cell);
        CellEnd::read(&results(&path), &path)
            .unwrap_or_else(|error| CellEnd::Failed(error.to_string()))
    }

    /// Run one stage of a run folder, unless it is over.
    ///
    /// Its log is locked as long as its process lives, which may be longer than this one: whoever
    /// comes to the same stage waits.
    fn stage(
        &self,
        device: &str,
        name: &str,
        path: &Path,
        more: &[&str],
        cell: &Cell,
    ) -> anyhow::Result<Stage> {
        let what = format!("{}, seed {}: {name}", cell.label, cell.config.seed);
        let done = path.join(format!("{name}.done"));
        let log_path = path.join("log.txt");
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        if !lock(&log, &what)? {
            return Ok(Stage::Stopped);
        }
        if done.exists() {
            return Ok(Stage::Done);
        }
        output::note(&format!(
            "{what} on {device}, log in {}",
            log_path.display()
        ));
        let begin = log.metadata()?.len();
        let mut command = self.workplace.command(device)?;
        command.arg(name).arg("--run").arg(path).args(more);
        if let Some(data) = &self.args.data {
            command.arg("--data").arg(data);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        // Ctrl-C comes to this process alone, which passes it on once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context("cannot start a process")?;
        let status = wait(&mut child)?;
        if status.success() {
            write(&done, "")?;
            return Ok(Stage::Done);
        }
        if status.code() == Some(i32::from(interrupt::EXIT_CODE)) {
            return Ok(Stage::Stopped);
        }
        let mut said = String::new();
        log.seek(SeekFrom::Start(begin))?;
        log.read_to_string(&mut said)?;
        let error = match said.rsplit_once("error: ") {
            Some((_, error)) => error.trim().to_string(),
            None => format!("{status}; see {}", log_path.display()),
        };
        output::note(&format!("{what} failed: {error}"));
        Ok(Stage::Failed(format!("{name}: {error}")))
    }

    fn write(&self, summary: &Summary) -> anyhow::Result<()> {
        write(&self.folder.join(GRID_TABLE), &summary.to_markdown())?;
        let json = serde_json::to_string_pretty(summary)? + "\n";
        write(&self.folder.join(GRID_FIGURES), &json)?;
        write(&self.folder.join("table.csv"), &csv(summary)?)
    }
}

fn results(cell: &Path) -> PathBuf {
    cell.join(CELL_RESULTS)
}

/// Wait until nobody else is at work on a stage; false where somebody asked to stop before.
fn lock(log: &File, what: &str) -> anyhow::Result<bool> {
    let mut is_told = false;
    loop {
        match log.try_lock() {
            Ok(()) => return Ok(!interrupt::is_asked()),
            Err(TryLockError::WouldBlock) if interrupt::is_asked() => return Ok(false),
            Err(TryLockError::WouldBlock) => {
                if !is_told {
                    output::note(&format!(
                        "{what}: another process is at work on it; waiting"
                    ));
                    is_told = true;
                }
                std::thread::sleep(LOOK);
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock a log"),
        }
    }
}

/// Wait for a process, and let it know when somebody asks to stop.
fn wait(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::is_asked() && !is_told {
            interrupt::pass_on(child)?;
            is_told = true;
        }
        std::thread::sleep(LOOK);
    }
}

/// Give every task to the next device that is free; what became of them, in their order.
fn share<T: Sync, R: Send>(
    devices: &[String],
    tasks: &[T],
    work: impl Fn(&str, &T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for device in devices {
            scope.spawn(|| {
                while let Some((at, task)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    tasks.get(at).map(|task| (at, task))
                } {
                    let result = work(device, task);
                    done.lock()
                        .expect("nobody panics with it")
                        .push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let whole = WholeFile::begin(path)?;
    std::io::Write::write_all(&mut whole.writer()?, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    whole.keep()
}

/// The table with a column for every figure.
fn csv(summary: &Summary) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let figures = [
        "recall@1",
        "recall@5",
        "recall@10",
        "ndcg@10",
        "genre",
        "rouge_lsum",
        "perplexity",
        "seconds",
    ];
    let mut header = vec!["cell".to_string(), "contender".into(), "seeds".into()];
    header.extend(
        figures
            .iter()
            .flat_map(|name| [(*name).to_string(), format!("{name}_sd")]),
    );
    for question in ["", "genre_"] {
        let names = ["difference", "low", "high", "p", "people"];
        header.extend(names.map(|name| format!("{question}{name}")));
    }
    header.push("problems".into());
    writer.write_record(&header)?;
    for row in &summary.rows {
        let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let spread = |spread: Option<Spread>| {
            [
                text(spread.map(|s| s.mean)),
                text(spread.and_then(|s| s.deviation)),
            ]
        };
        let mut record = vec![
            row.cell.clone(),
            row.contender.clone().unwrap_or_default(),
            row.seeds.len().to_string(),
        ];
        let figures = [
            row.recall_1,
            row.recall_5,
            row.recall_10,
            row.ndcg_10,
            row.genre,
            row.rouge_lsum,
            row.perplexity,
            row.seconds,
        ];
        record.extend(figures.into_iter().flat_map(spread));
        for paired in [row.against_first, row.genre_against_first] {
            record.extend([
                text(paired.map(|paired| paired.difference)),
                text(paired.map(|paired| paired.low)),
                text(paired.map(|paired| paired.high)),
                text(paired.map(|paired| paired.p)),
                paired.map_or(String::new(), |paired| paired.people.to_string()),
            ]);
        }
        record.push(row.problems.join("; "));
        writer.write_record(&record)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
