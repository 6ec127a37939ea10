//! Ablations: one run file, and the keys that vary.
//!
//! ```toml
//! name = "strategies"
//! base = "../movielens-1m.toml"   # beside this file
//! seeds = [42, 43]                # left out: the base's own
//! without = ["perceiver"]         # sections that are left out
//!
//! [set]                           # of all cells, as `--set` takes them
//! "evaluation.users" = 1000
//!
//! [vary]                          # crossed; keys in the order of the alphabet, the last varies fastest
//! "fusion.kind" = ["cross-attention", "soft-prompt"]
//!
//! [[cell]]                        # listed, and crossed with [vary]
//! name = "pretrained"
//! [[cell]]
//! name = "random encoder"
//! set = { "tuning.encoder" = "random", "tuning.teacher_weight" = 0.0 }
//!
//! [budgets.cpu]                   # one of them is chosen by `--budget`
//! "tuning.training.steps" = 500
//! ```
//!
//! A cell may have a `base` and `without` of its own. Later patches win: `set`, budget, cell, `vary`,
//! seed. The first cell is what the others are held against.

mod summary;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Value;

pub use summary::{CellEnd, Summary, SummaryRow};

use crate::config::nearest;
use crate::run_folder::fingerprint;
use crate::{Error, RunConfig};

/// Characters of a fingerprint that stand in a folder's name.
const PRINT: usize = 10;
/// Characters of a cell's label that do.
const LABEL: usize = 80;

/// A base, and what varies.
#[derive(Clone, Debug, Deserialize)]
pub struct Grid {
    /// Name of the grid, and of its folder.
    pub name: String,
    base: PathBuf,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    seeds: Vec<u64>,
    #[serde(default)]
    set: Patches,
    #[serde(default)]
    vary: BTreeMap<String, Vec<Value>>,
    #[serde(default, rename = "cell")]
    listed: Vec<Listed>,
    #[serde(default)]
    budgets: BTreeMap<String, Patches>,
    /// Where it was read.
    #[serde(skip)]
    path: PathBuf,
}

/// Values by the paths of their keys.
type Patches = BTreeMap<String, Value>;

#[derive(Clone, Debug, Deserialize)]
struct Listed {
    name: String,
    base: Option<PathBuf>,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    set: Patches,
}

/// One run of a grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What it has that others have not, as `fusion.kind=soft-prompt`; seeds share it.
    pub label: String,
    /// The complete run.
    pub config: RunConfig,
}

impl Cell {
    /// Name of its folder: what it is, for people, and a fingerprint of its run. A grid that is
    /// edited leaves the runs of other configs alone.
    pub fn folder(&self) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let label = self.label.replace(", ", "-");
        let label = label.replace(|c| !is_plain(c), "-");
        let label: String = label.chars().take(LABEL).collect();
        let print = &fingerprint(&self.config)[..PRINT];
        format!("{label}-seed-{}-{print}", self.config.seed)
    }

    /// Name of the folder of its pretrained encoder: cells share it whose data, encoder, objective,
    /// pretraining and seed are the same.
    pub fn encoder_folder(&self) -> String {
        let config = &self.config;
        let print = fingerprint(&(
            (&config.seed, &config.pretraining_data(), &config.encoder),
            (&config.text_encoder, &config.dual_encoder),
            (&config.objective, &config.pretraining),
        ));
        print[..PRINT].to_string()
    }
}

impl Grid {
    /// Read a grid.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, does not parse, or has an unknown key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        const KEYS: [&str; 8] = [
            "name", "base", "without", "seeds", "set", "vary", "cell", "budgets",
        ];
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let file = path.display().to_string();
        let fail = |reason: String| Error::Grid {
            file: file.clone(),
            reason,
        };
        let table: toml::Table = toml::from_str(&text).map_err(|error| fail(error.to_string()))?;
        let mut unknown = None;
        let grid: Result<Self, _> = serde_ignored::deserialize(table, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        });
        if let Some(key) = unknown {
            // The keys of a cell are among those of the grid.
            let last = key.rsplit('.').next().unwrap_or_default();
            let known = nearest(KEYS.map(String::from).to_vec(), last);
            let advice = match known {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("a grid has {}", KEYS.join(", ")),
            };
            return Err(fail(format!("unknown key `{key}`; {advice}")));
        }
        let mut grid = grid.map_err(|error| fail(error.to_string().trim_end().to_string()))?;
        grid.path = path.to_path_buf();
        Ok(grid)
    }

    /// All runs of the grid, in the order of its table; seeds of one label stand together.
    ///
    /// # Errors
    ///
    /// If a run cannot be, two are the same, or the budget is none of the grid's.
    pub fn cells(&self, budget: Option<&str>) -> Result<Vec<Cell>, Error> {
        if self.vary.contains_key("seed") {
            let reason =
                "`vary.seed` would make a row of every seed; `seeds = [1, 2]` makes a mean";
            return Err(self.fail(reason.into()));
        }
        let budget = self.budget(budget)?;
        let plain = [Listed {
            name: String::new(),
            base: None,
            without: Vec::new(),
            set: Patches::new(),
        }];
        let listed = match self.listed.as_slice() {
            [] => &plain[..],
            listed => listed,
        };
        let mut cells: Vec<Cell> = Vec::new();
        for listed in listed {
            let base = self.base(listed)?;
            for varied in self.varied()? {
                let pairs = varied.iter().map(|(key, value)| match value {
                    Value::String(text) => format!("{key}={text}"),
                    value => format!("{key}={value}"),
                });
                let names = (!listed.name.is_empty()).then(|| listed.name.clone());
                let label = names.into_iter().chain(pairs).collect::<Vec<_>>();
                let label = match label.is_empty() {
                    true => self.name.clone(),
                    false => label.join(", "),
                };
                let own = [&self.set, budget, &listed.set, &varied];
                for seed in self.seeds.iter().map(Some).chain(self.no_seed()) {
                    let config =
                        base.run(&own, seed, &label)
                            .map_err(|source| Error::GridCell {
                                file: self.file(),
                                cell: label.clone(),
                                source: Box::new(source),
                            })?;
                    let label = label.clone();
                    cells.push(Cell { label, config });
                }
            }
        }
        for (at, cell) in cells.iter().enumerate() {
            let is_same =
                |other: &&Cell| other.label == cell.label && other.config.seed == cell.config.seed;
            if cells[..at].iter().any(|other| is_same(&other)) {
                let seed = cell.config.seed;
                return Err(self.fail(format!("\"{}\" is there twice, seed {seed}", cell.label)));
            }
        }
        Ok(cells)
    }

    /// Once without a seed of the grid, if it has none.
    fn no_seed(&self) -> Option<Option<&u64>> {
        self.seeds.is_empty().then_some(None)
    }

    fn budget(&self, name: Option<&str>) -> Result<&Patches, Error> {
        static NONE: Patches = Patches::new();
        let names = || self.budgets.keys().cloned().collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.budgets.get(name).ok_or_else(|| match names() {
                none if none.is_empty() => self.fail("has no budgets".into()),
                names => self.fail(format!("no budget is called {name:?}; it has {names}")),
            }),
            None if self.budgets.is_empty() => Ok(&NONE),
            None => Err(self.fail(format!(
                "which budget? choose one with --budget: {}",
                names()
            ))),
        }
    }

    /// Every choice of one value per varied key.
    fn varied(&self) -> Result<Vec<Patches>, Error> {
        let mut all = vec![Patches::new()];
        for (key, values) in &self.vary {
            if let Some(value) = values.iter().find(|v| v.is_table() || v.is_array()) {
                let advice = "a value under [vary] is a text, a number or a truth; list others as \
                              [[cell]] with a name";
                return Err(self.fail(format!("`vary.{key}` has {value}: {advice}")));
            }
            if values.is_empty() {
                return Err(self.fail(format!("`vary.{key}` has no values")));
            }
            let with = |patches: &Patches| {
                let each = values.iter().cloned();
                let each = each.map(|value| (key.clone(), value));
                let patches = patches.clone();
                each.map(move |one| {
                    patches
                        .clone()
                        .into_iter()
                        .chain([one])
                        .collect::<Patches>()
                })
                .collect::<Vec<_>>()
            };
            all = all.iter().flat_map(with).collect();
        }
        Ok(all)
    }

    /// The run file of a cell without the sections that it leaves out.
    fn base(&self, listed: &Listed) -> Result<Base, Error> {
        let file = listed.base.as_ref().unwrap_or(&self.base);
        let path = self.path.parent().unwrap_or(Path::new(".")).join(file);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let file = path.display().to_string();
        let mut table: toml::Table = toml::from_str(&text).map_err(|error| Error::Config {
            file: file.clone(),
            message: error.to_string(),
        })?;
        for section in self.without.iter().chain(&listed.without) {
            if table.remove(section).is_none() {
                return Err(self.fail(format!("`without` names {section:?}, which {file} has not")));
            }
        }
        Ok(Base { file, table })
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }

    fn fail(&self, reason: String) -> Error {
        Error::Grid {
            file: self.file(),
            reason,
        }
    }
}

/// A run file, to be patched.
struct Base {
    file: String,
    table: toml::Table,
}

impl Base {
    fn run(
        &self,
        patches: &[&Patches],
        seed: Option<&u64>,
        name: &str,
    ) -> Result<RunConfig, Error> {
        let mut words = Vec::new();
        for (key, value) in patches.iter().copied().flatten() {
            // `tuning.strategy = "enc"` without quotes is a table in TOML, and would replace all.
            if value.is_table() && self.table.get(key).is_some_and(Value::is_table) {
                return Err(Error::Config {
                    file: self.file.clone(),
                    message: format!(
                        "`{key}` would be replaced as a whole; in a grid the path of a key stands in \
                         quotes, as in \"{key}.…\" = …"
                    ),
                });
            }
            words.push(format!("{key}={value}"));
        }
        words.extend(seed.map(|seed| format!("seed={seed}")));
        words.push(format!("name={}", Value::from(name)));
        RunConfig::from_toml(&self.table.to_string(), &self.file, &words)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::toy;

    /// Cells of a grid beside two run files, `llm.toml` and `encoder.toml`.
    fn cells(grid: &str, budget: Option<&str>) -> Result<Vec<Cell>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("llm.toml", &toy::config(&[]).to_toml());
        write("encoder.toml", &toy::encoder_only(&[]).to_toml());
        write("grid.toml", grid);
        Grid::read(&folder.path().join("grid.toml"))?.cells(budget)
    }

    fn message(grid: &str) -> String {
        let error = cells(grid, None).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    }

    const CROSSED: &str = r#"
        name = "g"
        base = "llm.toml"
        seeds = [1, 2]
        [set]
        "pretraining.steps" = 3
        "tuning.training.steps" = 7
        [vary]
        "fusion.kind" = ["cross-attention", "soft-prompt"]
        "tuning.strategy" = ["enc", "proj"]
        [[cell]]
        name = "pretrained"
        [[cell]]
        name = "random"
        set = { "tuning.encoder" = "random", "tuning.teacher_weight" = 0.0 }
        [budgets.small]
        "tuning.training.steps" = 5
        [budgets.large]
        "tuning.training.steps" = 50
    "#;

    #[test]
    fn listed_cells_are_crossed_with_what_varies_and_with_seeds() {
        let cells = cells(CROSSED, Some("small")).unwrap();
        assert_eq!(cells.len(), 2 * 2 * 2 * 2);
        let labels: Vec<&str> = cells.iter().map(|cell| cell.label.as_str()).collect();
        assert_eq!(
            labels[0],
            "pretrained, fusion.kind=cross-attention, tuning.strategy=enc"
        );
        assert_eq!(labels[0], labels[1]);
        assert_eq!(
            labels[2],
            "pretrained, fusion.kind=cross-attention, tuning.strategy=proj"
        );
        assert_eq!(
            labels[15],
            "random, fusion.kind=soft-prompt, tuning.strategy=proj"
        );
        let last = &cells[15].config;
        assert_eq!((last.seed, last.pretraining.steps), (2, 3));
        let tuning = last.language().unwrap().tuning;
        assert_eq!((tuning.training.steps, tuning.teacher_weight), (5, 0.0));
        assert_eq!(last.name, labels[15]);
    }

    #[test]
    fn cells_share_the_encoder_that_pretraining_makes_alike() {
        let cells = cells(CROSSED, Some("large")).unwrap();
        let encoders: BTreeSet<_> = cells.iter().map(Cell::encoder_folder).collect();
        assert_eq!(encoders.len(), 2, "one a seed");
        let folders: BTreeSet<_> = cells.iter().map(Cell::folder).collect();
        assert_eq!(folders.len(), 16);
        let first = folders.first().unwrap();
        assert!(
            first.starts_with("pretrained-fusion.kind-cross-attention"),
            "{folders:?}"
        );
    }

    #[test]
    fn how_much_is_read_afterwards_is_nothing_to_an_encoder_whose_objective_says_how_much() {
        let grid = |in_pretraining: &str| {
            format!(
                "name = \"g\"\nbase = \"llm.toml\"\n[set]\n{in_pretraining}\n\
                 [vary]\n\"data.history_len\" = [3, 4]"
            )
        };
        let n_encoders = |grid: &str| {
            let cells = cells(grid, None).unwrap();
            assert_ne!(cells[0].folder(), cells[1].folder());
            let encoders: BTreeSet<_> = cells.iter().map(Cell::encoder_folder).collect();
            encoders.len()
        };
        assert_eq!(n_encoders(&grid("\"objective.history_len\" = 5")), 1);
        assert_eq!(n_encoders(&grid("")), 2);
    }

    #[test]
    fn a_cell_has_a_base_of_its_own_and_leaves_sections_out() {
        let grid = r#"
            name = "g"
            base = "llm.toml"
            [[cell]]
            name = "with"
            [[cell]]
            name = "without"
            without = ["perceiver"]
            [[cell]]
            name = "encoder"
            base = "encoder.toml"
        "#;
        let cells = cells(grid, None).unwrap();
        let has = |at: usize| {
            let config: &RunConfig = &cells[at].config;
            (config.perceiver.is_some(), config.is_encoder_only())
        };
        assert_eq!(
            [has(0), has(1), has(2)],
            [(true, false), (false, false), (false, true)]
        );
    }

    #[test]
    fn every_published_grid_has_cells_that_can_be() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let folders = ["paper", "ablations"].map(|name| fs::read_dir(configs.join(name)).unwrap());
        let mut n = 0;
        for entry in folders.into_iter().flatten() {
            let path = entry.unwrap().path();
            let grid = Grid::read(&path).unwrap();
            assert_eq!(path.file_stem().unwrap().to_str(), Some(grid.name.as_str()));
            let is_of_paper = path.parent().unwrap().ends_with("paper");
            let budgets = match (is_of_paper, grid.budgets.is_empty()) {
                (true, _) => vec![Some("cpu"), Some("gpu")],
                (false, true) => vec![None],
                (false, false) => vec![Some("cpu"), Some("full")],
            };
            for budget in budgets {
                let cells = grid.cells(budget).unwrap_or_else(|error| {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    panic!("{error}: {}", cause.unwrap_or_default())
                });
                assert!(cells.len() >= 3, "{}", path.display());
                // A cell's own patches win: none takes a budget's figure away.
                for (cell, (key, value)) in cells.iter().flat_map(|cell| {
                    grid.budget(budget)
                        .unwrap()
                        .iter()
                        .map(move |it| (cell, it))
                }) {
                    let config = Value::try_from(&cell.config).unwrap();
                    let found = key
                        .split('.')
                        .try_fold(&config, |table, key| table.get(key));
                    assert_eq!(found, Some(value), "{}: {key}", cell.label);
                }
            }
            n += 1;
        }
        assert_eq!(n, 11);
    }

    #[test]
    fn whatever_cannot_be_is_refused_before_anything_starts() {
        let base = "name = \"g\"\nbase = \"llm.toml\"\n";
        for (grid, expected) in [
            ("vari = {}", "unknown key `vari`; did you mean `vary`?"),
            (
                "[[cell]]\nname = \"a\"\nbass = \"x\"",
                "`cell.0.bass`; did you mean `base`?",
            ),
            (
                "quantum = 1",
                "unknown key `quantum`; a grid has name, base",
            ),
            ("seeds = [1, 1]", "\"g\" is there twice, seed 1"),
            ("without = [\"percever\"]", "`without` names \"percever\""),
            ("[vary]\n\"seed\" = [1, 2]", "`seeds = [1, 2]` makes a mean"),
            (
                "[vary]\n\"data.stride\" = []",
                "`vary.data.stride` has no values",
            ),
            (
                "[vary]\n\"fusion.blocks\" = [{ upper = 1 }]",
                "list others as [[cell]]",
            ),
            (
                "[vary]\n\"tuning.stratgy\" = [\"enc\"]",
                "did you mean `tuning.strategy`?",
            ),
            (
                "[vary]\n\"tuning.strategy\" = [\"enc\", \"most\"]",
                "strategy=most",
            ),
            ("[set]\ntuning.strategy = \"enc\"", "in quotes"),
            ("[set]\n\"data.history_len\" = 0", "`data.history_len` = 0"),
            (
                "[budgets.cpu]\n\"seed\" = 1",
                "choose one with --budget: cpu",
            ),
        ] {
            let said = message(&format!("{base}{grid}"));
            assert!(said.contains(expected), "{grid}: {said}");
        }
        assert!(message("name = \"g\"").contains("missing field `base`"));
        assert!(message("name = \"g\"\nbase = \"x.toml\"").contains("x.toml"));
        let grid = format!("{base}[budgets.cpu]\n\"seed\" = 1");
        let said = cells(&grid, Some("gpu")).unwrap_err().to_string();
        assert!(
            said.contains("no budget is called \"gpu\"; it has cpu"),
            "{said}"
        );
        let said = cells(base, Some("gpu")).unwrap_err().to_string();
        assert!(said.contains("has no budgets"), "{said}");
    }
}
