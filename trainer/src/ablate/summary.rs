//! The table at the end of an ablation.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Cell;
use crate::evaluate::{RANKS, Ranks, Row};
use crate::metrics::{Paired, recall_at};
use crate::results::{Results, Spread, spread_cell};
use crate::{Error, report};

/// Length of the lists whose hits are compared.
const K: usize = 10;

/// How one run of a grid ended.
#[derive(Clone, Debug)]
pub enum CellEnd {
    /// It was evaluated.
    Done(Box<CellResults>),
    /// It failed, with what was said.
    Failed(String),
    /// It is not done yet.
    Open,
}

/// What a run of a grid leaves.
#[derive(Clone, Debug)]
pub struct CellResults {
    results: Results,
    ranks: Ranks,
}

impl CellEnd {
    /// Read the figures of a run: its results and, in its folder, the ranks behind them.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn read(results: &Path, run: &Path) -> Result<Self, Error> {
        let path = run.join(RANKS);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let ranks = serde_json::from_str(&text).map_err(|error| Error::Results {
            path,
            reason: format!("is not what `user-llm evaluate` writes: {error}"),
        })?;
        let results = Results::read(results)?;
        Ok(Self::Done(Box::new(CellResults { results, ranks })))
    }
}

impl CellResults {
    /// The contender that the cell is about: the tuned model, or the encoder where there is none.
    fn row(&self) -> Option<&Row> {
        self.results.contenders.last()
    }

    fn seconds(&self) -> f64 {
        let stages = [self.results.pretraining, self.results.tuning];
        stages
            .into_iter()
            .flatten()
            .map(|stage| stage.seconds)
            .sum()
    }

    /// Whether the next item of each of the people is among the first, with their places.
    fn hits(&self) -> impl Iterator<Item = (usize, bool)> {
        let ranks = self.ranks.contenders.last();
        let ranks = ranks.map_or(&[][..], |contender| &contender.ranks);
        let hit = |(user, rank): (&usize, &Option<usize>)| (*user, recall_at(*rank, K) > 0.0);
        self.ranks.users.iter().zip(ranks).map(hit)
    }
}

/// The table of a grid: a row per label, over its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The grid.
    pub name: String,
    /// What the first cell's figures have in common.
    pub protocol: String,
    /// In the order of the cells.
    pub rows: Vec<SummaryRow>,
}

/// All seeds of one cell.
#[derive(Clone, Debug, Serialize)]
pub struct SummaryRow {
    /// The cell.
    pub cell: String,
    /// Its contender.
    pub contender: Option<String>,
    /// Seeds that are done.
    pub seeds: Vec<u64>,
    /// Recall@1 of the next item.
    pub recall_1: Option<Spread>,
    /// Recall@5.
    pub recall_5: Option<Spread>,
    /// Recall@10.
    pub recall_10: Option<Spread>,
    /// NDCG@10.
    pub ndcg_10: Option<Spread>,
    /// Accuracy on the favourite genre.
    pub genre: Option<Spread>,
    /// Seconds of pretraining and tuning; a shared encoder's count in every cell.
    pub seconds: Option<Spread>,
    /// Recall@10 against the first row's, on the same people and seeds; `None` where there are none,
    /// or they were asked otherwise.
    pub against_first: Option<Paired>,
    /// What became of the seeds that are not done.
    pub problems: Vec<String>,
}

impl Summary {
    /// Gather the runs of a grid, each with how it ended.
    pub fn new(name: &str, cells: &[(Cell, CellEnd)]) -> Self {
        let of_label: Vec<&[(Cell, CellEnd)]> =
            cells.chunk_by(|a, b| a.0.label == b.0.label).collect();
        let first = of_label.first().copied().unwrap_or_default();
        let protocol = done(first).next().map(|(_, found)| &found.results.protocol);
        Self {
            name: name.to_string(),
            protocol: protocol.cloned().unwrap_or_default(),
            rows: of_label
                .iter()
                .map(|of_label| row(of_label, first))
                .collect(),
        }
    }

    /// For people.
    pub fn to_markdown(&self) -> String {
        let has_genre = self.rows.iter().any(|row| row.genre.is_some());
        let mut header = vec![
            "cell",
            "seeds",
            "Recall@1",
            "Recall@5",
            "Recall@10",
            "NDCG@10",
        ];
        if has_genre {
            header.push("favourite genre");
        }
        header.extend(["Recall@10 − first", "p", "seconds"]);
        let cells = |row: &SummaryRow| {
            let mut cells = vec![row.cell.clone(), row.seeds.len().to_string()];
            let figures = [row.recall_1, row.recall_5, row.recall_10, row.ndcg_10];
            cells.extend(figures.map(spread_cell));
            if has_genre {
                cells.push(spread_cell(row.genre));
            }
            let (difference, p) = match row.against_first {
                Some(Paired {
                    difference,
                    low,
                    high,
                    p,
                    ..
                }) => (
                    format!("{difference:+.4} [{low:+.4}, {high:+.4}]"),
                    p_cell(p),
                ),
                None => ("–".into(), "–".into()),
            };
            let seconds = row.seconds.map_or("–".into(), |s| format!("{:.0}", s.mean));
            cells.extend([difference, p, seconds]);
            cells
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        let people = self.rows.iter().filter_map(|row| row.against_first);
        let people = people.map(|paired| paired.people).max().unwrap_or(0);
        let mut text = format!(
            "# {}\n\n{}\nFirst cell: {}\n\nFigures: mean over seeds ± standard deviation. Recall@10 − \
             first: difference to the first cell with its 95 % interval over the same {people} people; p: \
             two-sided exact sign-flip test of the people's hits (McNemar's exact test where there is \
             one seed), not corrected for the number of cells. Seconds: pretraining and tuning.\n",
            self.name,
            report::table(&header, &rows),
            self.protocol,
        );
        for row in &self.rows {
            for problem in &row.problems {
                text += &format!("\n{}: {problem}\n", row.cell);
            }
        }
        text
    }
}

/// Three digits, or the power of ten.
fn p_cell(p: f64) -> String {
    match p >= 0.001 {
        true => format!("{p:.3}"),
        false => format!("{p:.0e}"),
    }
}

fn done(cells: &[(Cell, CellEnd)]) -> impl Iterator<Item = (u64, &CellResults)> {
    cells.iter().filter_map(|(cell, end)| match end {
        CellEnd::Done(results) => Some((cell.config.seed, results.as_ref())),
        CellEnd::Failed(_) | CellEnd::Open => None,
    })
}

fn row(cells: &[(Cell, CellEnd)], first: &[(Cell, CellEnd)]) -> SummaryRow {
    let rows: Vec<&Row> = done(cells).filter_map(|(_, found)| found.row()).collect();
    let spread = |figure: &dyn Fn(&Row) -> Option<f64>| {
        Spread::of(
            &rows
                .iter()
                .filter_map(|row| figure(row))
                .collect::<Vec<_>>(),
        )
    };
    let seconds: Vec<f64> = done(cells).map(|(_, found)| found.seconds()).collect();
    let problem = |(cell, end): &(Cell, CellEnd)| match end {
        CellEnd::Done(_) => None,
        CellEnd::Failed(error) => Some(format!("seed {} failed: {error}", cell.config.seed)),
        CellEnd::Open => Some(format!("seed {} is not done", cell.config.seed)),
    };
    let is_first =
        cells.first().map(|cell| &cell.0.label) == first.first().map(|cell| &cell.0.label);
    SummaryRow {
        cell: cells[0].0.label.clone(),
        contender: rows.first().map(|row| row.name.clone()),
        seeds: done(cells).map(|(seed, _)| seed).collect(),
        recall_1: spread(&|row| Some(row.recall_1.mean)),
        recall_5: spread(&|row| Some(row.recall_5.mean)),
        recall_10: spread(&|row| Some(row.recall_10.mean)),
        ndcg_10: spread(&|row| Some(row.ndcg_10.mean)),
        genre: spread(&|row| row.genre.map(|genre| genre.mean)),
        seconds: Spread::of(&seconds),
        against_first: if is_first {
            None
        } else {
            against(cells, first)
        },
        problems: cells.iter().filter_map(problem).collect(),
    }
}

/// Hits against the first cell's, of everybody whom both were asked about with a seed.
fn against(cells: &[(Cell, CellEnd)], first: &[(Cell, CellEnd)]) -> Option<Paired> {
    let mut hits = std::collections::BTreeMap::<usize, (u32, u32)>::new();
    let mut questions = 0;
    for (seed, ours) in done(cells) {
        let Some((_, theirs)) = done(first).find(|(other, _)| *other == seed) else {
            continue;
        };
        if ours.results.asked != theirs.results.asked || ours.ranks.users != theirs.ranks.users {
            return None;
        }
        questions += ours.ranks.users.len();
        for ((user, theirs), (_, ours)) in theirs.hits().zip(ours.hits()) {
            let both = hits.entry(user).or_default();
            *both = (both.0 + u32::from(theirs), both.1 + u32::from(ours));
        }
    }
    let hits: Vec<(u32, u32)> = hits.into_values().collect();
    (!hits.is_empty()).then(|| Paired::of(&hits, questions))
}
