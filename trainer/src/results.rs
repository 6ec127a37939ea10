//! A results folder: what was measured, how and on what, small enough to be committed.
//!
//! ```text
//! config.toml    the resolved config
//! <tuning>.toml  that of each tuned model
//! metrics.json   Results
//! README.md      the commands and the tables
//! ```

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::evaluate::{K, Row, protocol, split};
use crate::metrics::Figure;
use crate::plain_text::PlainTextRow;
use crate::review_writing::ReviewRow;
use crate::{Error, Prepared, RunConfig, report};

const METRICS: &str = "metrics.json";

/// The figures of a run's contenders with all that they depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Name of the run; several seeds of one run share it.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// What the figures have in common, in one line.
    pub protocol: String,
    /// How it was asked.
    pub asked: Asked,
    /// A row per contender, with 95 % intervals over users.
    pub contenders: Vec<Row>,
    /// The same for the reviews that they wrote, if they were asked for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviews: Vec<ReviewRow>,
    /// What tuning did to the language model itself; a row per tuned model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain_text: Vec<PlainTextRow>,
    /// What pretraining took; `None` where the run's metrics do not tell.
    pub pretraining: Option<Training>,
    /// What tuning took; `None` where nothing or several things were tuned, whose steps the run's
    /// metrics do not tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Training>,
    /// Where the figures come from.
    pub origin: Origin,
}

/// What has to agree for two results to stand in one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Name of the dataset.
    pub dataset: String,
    /// Its files' SHA-256.
    pub sha256: String,
    /// Fewest interactions of each person and item.
    pub min_interactions: usize,
    /// Fewest interactions of each person, items aside.
    pub min_history: usize,
    /// How targets are chosen.
    pub split: String,
    /// Number of items that are ranked.
    pub candidates: usize,
    /// Whether items of the history are left out (the target never is).
    pub exclude_seen: bool,
    /// Length of the lists behind Recall@k and NDCG@k.
    pub k: usize,
    /// Number of people who are tested.
    pub users: usize,
}

/// What a stage of training took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Steps that were made.
    pub steps: usize,
    /// Wall time of steps and validations, in seconds, over all sessions.
    pub seconds: f64,
}

/// Where figures come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The commands that lead to them, the one that measured them last, as it was typed.
    pub commands: Vec<String>,
    /// Processor and threads.
    pub machine: String,
    /// The backend.
    pub backend: String,
    /// Commit of the repository that the command ran in, if it ran in one.
    pub commit: Option<String>,
    /// Version of the program.
    pub version: String,
}

impl Results {
    /// Gather the results of a run; `reviews` and `plain_text` are left empty.
    pub fn new(
        prepared: &Prepared,
        config: &RunConfig,
        contenders: Vec<Row>,
        [pretraining, tuning]: [Option<Training>; 2],
        origin: Origin,
    ) -> Self {
        let dataset = &prepared.dataset;
        Self {
            name: config.name.clone(),
            seed: config.seed,
            protocol: protocol(prepared, config),
            asked: Asked {
                dataset: dataset.name.clone(),
                sha256: dataset.sha256.clone(),
                min_interactions: dataset.min_interactions,
                min_history: dataset.min_history,
                split: split(prepared, config),
                candidates: dataset.catalogue.len(),
                exclude_seen: config.evaluation.exclude_seen,
                k: K,
                users: prepared.test_users.len(),
            },
            contenders,
            reviews: Vec::new(),
            plain_text: Vec::new(),
            pretraining,
            tuning,
            origin,
        }
    }

    /// Write the folder: these, with the config of pretraining and that of each tuning, by its name.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(
        &self,
        folder: &Path,
        config: &RunConfig,
        tunings: &[(&str, &RunConfig)],
    ) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(Error::io("write", path))
        };
        write("config.toml", config.to_toml())?;
        for (name, config) in tunings {
            write(&format!("{name}.toml"), config.to_toml())?;
        }
        let metrics = serde_json::to_string_pretty(self).expect("plain data");
        write(METRICS, metrics + "\n")?;
        write("README.md", self.readme())
    }

    /// Read a folder that [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// If there is none, or its `metrics.json` is not one of these.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(METRICS);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        serde_json::from_str(&text).map_err(|error| Error::Results {
            path,
            reason: format!("is not what `user-llm evaluate --save` writes: {error}"),
        })
    }

    fn readme(&self) -> String {
        let origin = &self.origin;
        let took = |stage: &str, training: Option<Training>| {
            training.map_or(String::new(), |Training { steps, seconds }| {
                format!(" {stage}: {steps} steps in {seconds:.0} s.")
            })
        };
        let training = took("Pretraining", self.pretraining) + &took("Tuning", self.tuning);
        let commit = origin.commit.as_deref().unwrap_or("no repository");
        let mut tables = report::rankings(&self.contenders, &self.protocol);
        tables += &report::of_texts(&self.reviews, &self.plain_text, &self.protocol);
        format!(
            "# {}, seed {}\n\n```sh\n{}\n```\n\n{tables}\n\
             {}, backend {}, user-llm {} ({commit}).{training}\n",
            self.name,
            self.seed,
            origin.commands.join("\n"),
            origin.machine,
            origin.backend,
            origin.version,
        )
    }
}

/// One table of several results: a row per run and contender, each figure the mean over the run's
/// seeds ± its standard deviation (of the sample; none where there is one seed).
///
/// # Errors
///
/// If the results were not asked alike, or a run has a seed twice: a mean would say nothing.
pub fn compare(results: &[Results]) -> Result<String, Error> {
    let mut rows = Vec::new();
    let names: Vec<&str> = results
        .iter()
        .map(|results| results.name.as_str())
        .collect();
    for results in results.windows(2) {
        if results[0].asked != results[1].asked {
            return Err(Error::Incomparable {
                what: format!(
                    "{} and {} were not asked alike: {:?} and {:?}",
                    results[0].name, results[1].name, results[0].asked, results[1].asked
                ),
            });
        }
    }
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            continue;
        }
        let of_run: Vec<&Results> = results.iter().filter(|r| r.name == *name).collect();
        let mut seeds: Vec<u64> = of_run.iter().map(|results| results.seed).collect();
        seeds.sort_unstable();
        if let Some(twice) = seeds.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Incomparable {
                what: format!("{name} is there twice with seed {}", twice[0]),
            });
        }
        for contender in &of_run[0].contenders {
            let of_seeds: Vec<&Row> = of_run
                .iter()
                .flat_map(|results| &results.contenders)
                .filter(|row| row.name == contender.name)
                .collect();
            let cell = |figure: &dyn Fn(&Row) -> Option<Figure>| {
                let figures = of_seeds.iter().filter_map(|row| figure(row));
                let means: Vec<f64> = figures.map(|figure| figure.mean).collect();
                spread_cell(Spread::of(&means))
            };
            rows.push(vec![
                (*name).to_string(),
                contender.name.clone(),
                of_seeds.len().to_string(),
                cell(&|row| Some(row.recall_1)),
                cell(&|row| Some(row.recall_5)),
                cell(&|row| Some(row.recall_10)),
                cell(&|row| Some(row.ndcg_10)),
                cell(&|row| row.mrr),
            ]);
        }
    }
    let header = [
        "run",
        "contender",
        "seeds",
        "Recall@1",
        "Recall@5",
        "Recall@10",
        "NDCG@10",
        "MRR",
    ];
    Ok(report::table(&header, &rows))
}

/// A mean over seeds with its standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// Standard deviation of the sample; `None` of one value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of one value per seed; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / n)?;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            mean,
            deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.4}", self.mean)?;
        match self.deviation {
            Some(deviation) => write!(f, " ± {deviation:.4}"),
            None => Ok(()),
        }
    }
}

/// As a cell of a table.
pub(crate) fn spread_cell(spread: Option<Spread>) -> String {
    spread.map_or("–".into(), |spread| spread.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use crate::toy;

    fn results(seed: u64) -> (RunConfig, Results) {
        let config = toy::encoder_only(&[&format!("seed={seed}"), "evaluation.users=0"]);
        let prepared = toy::prepared(&config);
        let row = evaluate::score(&prepared, &evaluate::popularity(&prepared, &config));
        let origin = Origin {
            commands: vec!["user-llm pretrain".into(), "user-llm evaluate".into()],
            machine: "abacus".into(),
            backend: "flex".into(),
            commit: None,
            version: "0".into(),
        };
        let training = Training {
            steps: 7,
            seconds: 12.0,
        };
        let results = Results::new(
            &prepared,
            &config,
            vec![row],
            [Some(training), None],
            origin,
        );
        (config, results)
    }

    #[test]
    fn a_folder_reads_back_as_it_was_written_and_its_config_runs_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("docs/one");
        let (config, results) = results(7);
        results.write(&folder, &config, &[]).unwrap();
        let read = Results::read(&folder).unwrap();
        assert_eq!(
            (&read.asked, &read.origin),
            (&results.asked, &results.origin)
        );
        assert_eq!(read.readme(), results.readme());
        let again = RunConfig::read(&folder.join("config.toml"), &[]).unwrap();
        assert_eq!(again.to_toml(), config.to_toml());
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        for part in [
            "user-llm pretrain\nuser-llm evaluate\n",
            "| popularity",
            "MRR",
            "7 steps in 12 s",
            "all 19 items",
        ] {
            assert!(readme.contains(part), "{part}: {readme}");
        }
    }

    #[test]
    fn seeds_become_a_mean_and_a_spread() {
        let (_, one) = results(7);
        let (_, mut two) = results(8);
        two.contenders[0].recall_10.mean = one.contenders[0].recall_10.mean + 0.2;
        let table = compare(&[one.clone(), two]).unwrap();
        // The standard deviation of two values is their distance divided by √2.
        let mean = one.contenders[0].recall_10.mean + 0.1;
        assert!(
            table.contains(&format!("| {mean:.4} ± 0.1414 |")),
            "{table}"
        );
        assert!(
            table.contains("| toy | popularity, majority genre | 2     |"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 3);
        let alone = compare(&[one]).unwrap();
        assert!(!alone.contains('±'), "{alone}");
    }

    #[test]
    fn what_was_asked_otherwise_or_counted_twice_is_refused() {
        let (_, one) = results(7);
        let message = |results: &[Results]| compare(results).unwrap_err().to_string();
        assert!(message(&[one.clone(), one.clone()]).contains("twice with seed 7"));
        let (_, mut other) = results(8);
        other.asked.candidates = 18;
        assert!(message(&[one, other]).contains("not asked alike"));
    }

    #[test]
    fn a_folder_without_results_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = |folder: &Path| Results::read(folder).unwrap_err().to_string();
        assert!(message(folder.path()).contains("metrics.json"));
        fs::write(folder.path().join(METRICS), "{}").unwrap();
        assert!(message(folder.path()).contains("evaluate --save"));
    }
}
