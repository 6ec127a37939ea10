//! The table at the end of an ablation.

use std::fs;
use std::path::Path;

use llm_fusion::FusionKind;
use serde::{Deserialize, Serialize};

use super::Cell;
use crate::evaluate::{ContenderRanks, K, RANKS, Ranks, Row};
use crate::metrics::{Paired, recall_at};
use crate::results::{Results, Spread, spread_cell};
use crate::{EncoderInit, Error, report};

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

    fn seconds(&self, uses_pretraining: bool) -> f64 {
        let pretraining = self.results.pretraining.filter(|_| uses_pretraining);
        let stages = [pretraining, self.results.tuning].into_iter().flatten();
        stages.map(|stage| stage.seconds).sum()
    }

    /// Which of the people the contender answered rightly, as `hits` finds them among its answers.
    fn hits(&self, hits: Hits) -> impl Iterator<Item = (usize, Option<bool>)> {
        let hits = self.ranks.contenders.last().map(hits);
        let hits = hits.unwrap_or_default();
        self.ranks.users.iter().copied().zip(hits)
    }
}

/// Whether each of a contender's answers is right; `None` where there was no question.
type Hits = fn(&ContenderRanks) -> Vec<Option<bool>>;

/// The next item is among the first.
fn next_item(contender: &ContenderRanks) -> Vec<Option<bool>> {
    let ranks = contender.ranks.iter();
    ranks.map(|&rank| Some(recall_at(rank, K) > 0.0)).collect()
}

/// The favourite genre is right.
fn favourite_genre(contender: &ContenderRanks) -> Vec<Option<bool>> {
    contender.genres.clone()
}

/// The table of a grid: a row per label, over its seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The grid.
    pub name: String,
    /// What the first cell's figures have in common.
    pub protocol: String,
    /// In the order of the cells.
    pub rows: Vec<SummaryRow>,
}

/// All seeds of one cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SummaryRow {
    /// The cell.
    pub cell: String,
    /// Its contender.
    pub contender: Option<String>,
    /// Seeds that are done.
    pub seeds: Vec<u64>,
    /// The folders of their runs, among those of all cells.
    #[serde(default)]
    pub folders: Vec<String>,
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
    /// ROUGE-Lsum of its reviews, where it writes any.
    pub rouge_lsum: Option<Spread>,
    /// The language model's perplexity on plain text after tuning.
    pub perplexity: Option<Spread>,
    /// Seconds of tuning, and of pretraining where the pretrained encoder is read or teaches; a shared
    /// encoder's count in every cell.
    pub seconds: Option<Spread>,
    /// Recall@10 against the first row's, on the same people and seeds; `None` where there are none,
    /// or they were asked otherwise.
    pub against_first: Option<Paired>,
    /// Accuracy on the favourite genre against the first row's, likewise.
    pub genre_against_first: Option<Paired>,
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
        let optional: [Column; 3] = [
            ("favourite genre", |row| row.genre),
            ("ROUGE-Lsum", |row| row.rouge_lsum),
            ("perplexity", |row| row.perplexity),
        ];
        let is_there = |column: &Column| self.rows.iter().any(|row| column.1(row).is_some());
        let optional: Vec<Column> = optional.into_iter().filter(is_there).collect();
        let has_genre = self
            .rows
            .iter()
            .any(|row| row.genre_against_first.is_some());
        let mut header = vec![
            "cell",
            "seeds",
            "Recall@1",
            "Recall@5",
            "Recall@10",
            "NDCG@10",
        ];
        header.extend(optional.iter().map(|(name, _)| name));
        header.extend(["Recall@10 − first", "p"]);
        if has_genre {
            header.extend(["genre − first", "p"]);
        }
        header.push("seconds");
        let cells = |row: &SummaryRow| {
            let mut cells = vec![row.cell.clone(), row.seeds.len().to_string()];
            let figures = [row.recall_1, row.recall_5, row.recall_10, row.ndcg_10];
            cells.extend(figures.map(spread_cell));
            cells.extend(optional.iter().map(|(_, figure)| spread_cell(figure(row))));
            cells.extend(paired_cells(row.against_first));
            if has_genre {
                cells.extend(paired_cells(row.genre_against_first));
            }
            cells.push(row.seconds.map_or("–".into(), |s| format!("{:.0}", s.mean)));
            cells
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        let people = self.rows.iter().filter_map(|row| row.against_first);
        let people = people.map(|paired| paired.people).max().unwrap_or(0);
        let mut text = format!(
            "# {}\n\n{}\nFirst cell: {}\n\nFigures: mean over seeds ± standard deviation; perplexity of plain \
             text, after tuning. Recall@10 − first, genre − first: difference to the first cell with its \
             95 % interval over the same {people} people (of the genre, those who have a favourite); p: \
             two-sided exact sign-flip test of the people's hits (McNemar's exact test where there is \
             one seed), not corrected for the number of cells. Seconds: tuning, and pretraining where \
             its encoder is read or teaches.\n",
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

/// A column that not every grid has: its name and its figure.
type Column = (&'static str, fn(&SummaryRow) -> Option<Spread>);

/// A difference with its interval, and its p.
fn paired_cells(paired: Option<Paired>) -> [String; 2] {
    paired.map_or(["–".into(), "–".into()], |paired| {
        let Paired {
            difference,
            low,
            high,
            p,
            ..
        } = paired;
        let difference = format!("{difference:+.4} [{low:+.4}, {high:+.4}]");
        [difference, p_cell(p)]
    })
}

/// Three digits, or the power of ten.
fn p_cell(p: f64) -> String {
    match p >= 0.001 {
        true => format!("{p:.3}"),
        false => format!("{p:.0e}"),
    }
}

fn done(cells: &[(Cell, CellEnd)]) -> impl Iterator<Item = (&Cell, &CellResults)> {
    cells.iter().filter_map(|(cell, end)| match end {
        CellEnd::Done(results) => Some((cell, results.as_ref())),
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
    let of_results = |figure: &dyn Fn(&Results) -> Option<f64>| {
        let figures = done(cells).filter_map(|(_, found)| figure(&found.results));
        Spread::of(&figures.collect::<Vec<_>>())
    };
    let is_used = uses_pretraining(&cells[0].0);
    let seconds = done(cells).map(|(_, found)| found.seconds(is_used));
    let problem = |(cell, end): &(Cell, CellEnd)| match end {
        CellEnd::Done(_) => None,
        CellEnd::Failed(error) => Some(format!("seed {} failed: {error}", cell.config.seed)),
        CellEnd::Open => Some(format!("seed {} is not done", cell.config.seed)),
    };
    let is_first =
        cells.first().map(|cell| &cell.0.label) == first.first().map(|cell| &cell.0.label);
    let against_first = |hits: Hits| match is_first {
        true => None,
        false => against(cells, first, hits),
    };
    SummaryRow {
        cell: cells[0].0.label.clone(),
        contender: rows.first().map(|row| row.name.clone()),
        seeds: done(cells).map(|(cell, _)| cell.config.seed).collect(),
        folders: done(cells).map(|(cell, _)| cell.folder()).collect(),
        recall_1: spread(&|row| Some(row.recall_1.mean)),
        recall_5: spread(&|row| Some(row.recall_5.mean)),
        recall_10: spread(&|row| Some(row.recall_10.mean)),
        ndcg_10: spread(&|row| Some(row.ndcg_10.mean)),
        genre: spread(&|row| row.genre.map(|genre| genre.mean)),
        rouge_lsum: of_results(&|results| Some(results.reviews.last()?.rouge_lsum.mean)),
        perplexity: of_results(&|results| Some(results.plain_text.last()?.after)),
        seconds: Spread::of(&seconds.collect::<Vec<_>>()),
        against_first: against_first(next_item),
        genre_against_first: against_first(favourite_genre),
        problems: cells.iter().filter_map(problem).collect(),
    }
}

/// Whether what pretraining made is of use to a cell's model: it is read, or it teaches, or there is
/// no other model.
fn uses_pretraining(cell: &Cell) -> bool {
    cell.config.language().map_or(true, |language| {
        let is_read = language.fusion.kind != FusionKind::None
            && language.tuning.encoder == EncoderInit::Pretrained;
        is_read || language.tuning.teacher_weight > 0.0
    })
}

/// Hits against the first cell's, of everybody whom both were asked about with a seed.
fn against(cells: &[(Cell, CellEnd)], first: &[(Cell, CellEnd)], of: Hits) -> Option<Paired> {
    let mut hits = std::collections::BTreeMap::<usize, (u32, u32)>::new();
    let mut questions = 0;
    for (cell, ours) in done(cells) {
        let is_same_seed = |other: &Cell| other.config.seed == cell.config.seed;
        let Some((_, theirs)) = done(first).find(|(other, _)| is_same_seed(other)) else {
            continue;
        };
        if ours.results.asked != theirs.results.asked || ours.ranks.users != theirs.ranks.users {
            return None;
        }
        for ((user, theirs), (_, ours)) in theirs.hits(of).zip(ours.hits(of)) {
            if let (Some(theirs), Some(ours)) = (theirs, ours) {
                questions += 1;
                let both = hits.entry(user).or_default();
                *both = (both.0 + u32::from(theirs), both.1 + u32::from(ours));
            }
        }
    }
    let hits: Vec<(u32, u32)> = hits.into_values().collect();
    (!hits.is_empty()).then(|| Paired::of(&hits, questions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Answered, score};
    use crate::metrics::Figure;
    use crate::plain_text::PlainTextRow;
    use crate::results::{Origin, Training};
    use crate::review_writing::ReviewRow;
    use crate::toy;

    /// A cell that is done, whose contender names a genre for each person, right or wrong.
    fn done(label: &str, patches: &[&str], is_right: impl Fn(usize) -> bool) -> (Cell, CellEnd) {
        let config = toy::config(patches);
        let prepared = toy::prepared(&config);
        let split = prepared.split();
        let users = prepared.test_users.iter().enumerate();
        let genres = users.map(|(at, &user)| {
            let history = split.test(user).unwrap().0;
            let liked = prepared.favourite_genre(&prepared.batcher.latest(history));
            let liked = liked.expect("everybody here likes something");
            (liked + usize::from(!is_right(at))) % prepared.dataset.catalogue.genres.len()
        });
        let answered = Answered {
            name: label.into(),
            recommended: vec![vec![0]; prepared.test_users.len()],
            ranks: None,
            genres: Some(genres.collect()),
        };
        let origin = Origin {
            commands: Vec::new(),
            machine: "abacus".into(),
            backend: "flex".into(),
            commit: None,
            version: "0".into(),
        };
        let took = |seconds| Some(Training { steps: 1, seconds });
        let rows = vec![score(&prepared, &answered)];
        let stages = [took(100.0), took(7.0)];
        let mut results = Results::new(&prepared, &config, rows, stages, origin);
        let figure = Figure::of(&[0.25, 0.75]);
        results.reviews.push(ReviewRow {
            name: label.into(),
            people: 2,
            rouge_1: figure,
            rouge_2: figure,
            rouge_l: figure,
            rouge_lsum: figure,
        });
        results.plain_text.push(PlainTextRow {
            name: label.into(),
            before: 20.0,
            after: 30.0,
        });
        let ranks = Ranks::new(&prepared, &[answered]);
        let label = label.to_string();
        let end = CellEnd::Done(Box::new(CellResults { results, ranks }));
        (Cell { label, config }, end)
    }

    #[test]
    fn genres_reviews_and_perplexity_have_columns_where_there_are_any() {
        let wrong_at_first = done("first", &[], |at| at > 2);
        let people = match &wrong_at_first.1 {
            CellEnd::Done(found) => found.ranks.users.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(people, 5);
        let cells = [wrong_at_first, done("second", &[], |_| true)];
        let summary = Summary::new("g", &cells);
        let [first, second] = &summary.rows[..] else {
            panic!("{summary:?}")
        };
        assert_eq!(first.genre.unwrap().mean, 0.4);
        assert_eq!(first.rouge_lsum.unwrap().mean, 0.5);
        assert_eq!(first.perplexity.unwrap().mean, 30.0);
        let paired = second.genre_against_first.unwrap();
        // Three of five people more; of 2³ ways to set the signs two are as far.
        assert!((paired.difference - 0.6).abs() < 1e-12, "{paired:?}");
        assert!((paired.p - 0.25).abs() < 1e-12, "{paired:?}");
        assert_eq!(second.against_first.unwrap().difference, 0.0);
        let text = summary.to_markdown();
        for part in ["ROUGE-Lsum", "perplexity", "genre − first", "+0.6000 ["] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Where nothing wrote a review there is no such column.
        let (cell, end) = done("first", &[], |_| true);
        let CellEnd::Done(mut found) = end else {
            panic!()
        };
        found.results.reviews.clear();
        let text = Summary::new("g", &[(cell, CellEnd::Done(found))]).to_markdown();
        assert!(
            !text.contains("ROUGE") && !text.contains("| genre − first"),
            "{text}"
        );
    }

    #[test]
    fn an_encoder_that_is_not_used_costs_a_cell_nothing() {
        let seconds = |patches: &[&str]| {
            let summary = Summary::new("g", &[done("one", patches, |_| true)]);
            summary.rows[0].seconds.unwrap().mean
        };
        let untaught = "tuning.teacher_weight=0";
        assert_eq!(seconds(&[]), 107.0);
        assert_eq!(seconds(&[untaught]), 107.0);
        assert_eq!(seconds(&[untaught, "tuning.encoder=random"]), 7.0);
        let text = [
            "fusion.kind=none",
            "prompts.text_events=2",
            "tuning.strategy=lora",
        ];
        assert_eq!(seconds(&text), 107.0, "the encoder teaches");
        assert_eq!(seconds(&[&text[..], &[untaught]].concat()), 7.0);
    }
}
