//! Runs as one HTML file that needs nothing else: no network, no script.

mod html;

use std::fs;
use std::path::{Path, PathBuf};

use crate::ablate::Summary;
use crate::evaluate::Row;
use crate::plots::Gates;
use crate::report::Report;
use crate::results::Results;
use crate::run_folder::{gates, read_metrics};
use crate::{Error, RunConfig, RunFolder, plots};

/// The table by which a grid's folder is known.
pub const GRID_TABLE: &str = "table.md";
/// The same as figures.
pub const GRID_FIGURES: &str = "table.json";
/// The folder of a grid with the folders of its runs.
pub const GRID_CELLS: &str = "cells";
/// The folder of each of them with its results.
pub const CELL_RESULTS: &str = "results";

const STYLE: &str = include_str!("page/style.css");

/// A page that grows by runs, grids and people.
#[derive(Clone, Debug, Default)]
pub struct Page {
    body: String,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add what a run folder holds: tables with their protocol, intervals, curves, gates by block,
    /// costs by length of history, and the run file. What is not there is left out.
    ///
    /// # Errors
    ///
    /// If there is no run in the folder, or a file of it cannot be read.
    pub fn add_run(&mut self, path: &Path) -> Result<(), Error> {
        let config = RunFolder::config(path, &[])?;
        self.heading(&format!("{}, seed {}", config.name, config.seed));
        self.add_evaluation(path)?;
        if let Some(curves) = plots::training(&read_metrics(path)?, "") {
            self.figure("Training", &curves);
        }
        let gates = tuned_gates(path)?;
        if !gates.is_empty() {
            self.figure("Gates by block", &plots::gates(&gates));
        }
        self.add_config(&config);
        Ok(())
    }

    /// Add what a grid's folder holds, as `user-llm ablate` leaves it: its table, what its cells
    /// reach with their intervals, and all of each run that is done, folded up.
    ///
    /// # Errors
    ///
    /// If there is no table, or a file of a run cannot be read.
    pub fn add_grid(&mut self, path: &Path) -> Result<(), Error> {
        let table = read(&path.join(GRID_TABLE))?;
        self.body += &html::from_markdown(&table);
        let runs = done_cells(path)?;
        let protocol = runs.first().map(|(_, results)| results.protocol.clone());
        let name = |results: &Results| format!("{}, seed {}", results.name, results.seed);
        let rows = runs.iter().filter_map(|(_, results)| {
            let row = results.contenders.last()?.clone();
            let name = name(results);
            Some(Row { name, ..row })
        });
        let rows: Vec<Row> = rows.collect();
        if let Some(protocol) = protocol {
            self.figure("Next item, cell by cell", &plots::recall(&rows, &protocol));
        }
        for (run, results) in &runs {
            let name = html::escaped(&name(results));
            self.body += &format!("<details><summary>{name}</summary>\n");
            self.add_run(run)?;
            self.body += "</details>\n";
        }
        Ok(())
    }

    /// Add what is told of people, line by line.
    pub fn add_people(&mut self, text: &str) {
        self.body += &format!("<h3>People</h3>\n<pre>{}</pre>\n", html::escaped(text));
    }

    /// The whole file.
    pub fn to_html(&self, title: &str) -> String {
        let title = html::escaped(title);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
             {}</body>\n</html>\n",
            self.body
        )
    }

    fn add_evaluation(&mut self, path: &Path) -> Result<(), Error> {
        let json = path.join("report.json");
        if !json.exists() {
            let advice = format!(
                "Not evaluated: `user-llm evaluate --run {}`",
                path.display()
            );
            self.body += &html::from_markdown(&advice);
            return Ok(());
        }
        // The first line is the run's name.
        let tables = read(&path.join("report.md"))?;
        let tables = tables.split_once('\n').map_or("", |(_, tables)| tables);
        self.body += &html::from_markdown(tables);
        let report: Report =
            serde_json::from_str(&read(&json)?).map_err(|error| Error::RunFolder {
                path: json,
                reason: format!("is not what `user-llm evaluate` writes: {error}"),
            })?;
        self.figure(
            "Next item",
            &plots::recall(&report.contenders, &report.protocol),
        );
        if !report.costs.is_empty() {
            let costs = plots::costs(&report.costs);
            self.figure("Costs by length of history", &costs);
        }
        Ok(())
    }

    fn add_config(&mut self, config: &RunConfig) {
        let text = html::escaped(&config.to_toml());
        self.body +=
            &format!("<details><summary>Run file</summary>\n<pre>{text}</pre></details>\n");
    }

    fn heading(&mut self, text: &str) {
        self.body += &format!("<h2>{}</h2>\n", html::escaped(text));
    }

    fn figure(&mut self, title: &str, svg: &str) {
        self.body += &format!("<h3>{title}</h3>\n<figure>\n{svg}</figure>\n");
    }
}

/// Gates of everything that was tuned in a run folder and has some, in the order of the names.
fn tuned_gates(path: &Path) -> Result<Vec<Gates>, Error> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
        let weights = entry.map_err(Error::io("read", path))?.path();
        let is_tuned = weights.with_extension("toml").exists();
        if !is_tuned || weights.extension().is_none_or(|end| end != "safetensors") {
            continue;
        }
        let blocks = gates(&weights)?;
        if let (false, Some(name)) = (blocks.is_empty(), weights.file_stem()) {
            let name = name.to_string_lossy().into_owned();
            all.push(Gates { name, blocks });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The runs that a grid's table is of, in its order.
fn done_cells(grid: &Path) -> Result<Vec<(PathBuf, Results)>, Error> {
    let path = grid.join(GRID_FIGURES);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let summary: Summary =
        serde_json::from_str(&read(&path)?).map_err(|error| Error::RunFolder {
            path,
            reason: format!("is not what `user-llm ablate` writes: {error}"),
        })?;
    let folders = summary.rows.iter().flat_map(|row| &row.folders);
    let runs = folders.map(|folder| grid.join(GRID_CELLS).join(folder));
    runs.map(|run| {
        let results = Results::read(&run.join(CELL_RESULTS))?;
        Ok((run, results))
    })
    .collect()
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}
