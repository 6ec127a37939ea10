//! Grids of runs.

use super::*;

impl Place {
    /// `run.toml`, the tiny run of [`Place::pretrain_words`], and a grid upon it.
    fn grid(&self, steps: usize, every: usize, grid: &str) {
        let words = Self::pretrain_words("-", steps, every);
        let sets = words.iter().skip_while(|word| *word != "--set");
        let words: Vec<&str> = ["config"]
            .into_iter()
            .chain(sets.map(String::as_str))
            .collect();
        fs::write(self.path("run.toml"), self.run(&words).ok().out).unwrap();
        let grid = format!("name = \"g\"\nbase = \"run.toml\"\n{grid}");
        fs::write(self.path("grid.toml"), grid).unwrap();
    }

    fn ablate(&self, more: &[&str]) -> Said {
        self.run(&[&ABLATE, more].concat())
    }

    /// The folders of this name in the grid's folder, in order.
    fn folders(&self, name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("ablations/g").join(name)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

const ABLATE: [&str; 4] = ["ablate", "grid.toml", "--data", "ml"];
const ENCODER_ONLY: &str =
    "without = [\"llm\", \"perceiver\", \"fusion\", \"tuning\", \"prompts\"]\n";

#[test]
fn a_grid_pretrains_once_and_goes_past_a_cell_that_fails() {
    let place = Place::new();
    let grid = r#"
        seeds = [1, 2]
        [[cell]]
        name = "cross"
        [[cell]]
        name = "soft"
        set = { "fusion.kind" = "soft-prompt" }
        [[cell]]
        name = "no model"
        set = { "llm.model" = "/nowhere/at/all" }
    "#;
    place.grid(12, 3, grid);
    let plan = place.ablate(&["--dry-run"]).ok();
    assert!(
        plan.err.contains("6 cells, 2 pretrained encoders"),
        "{plan:#?}"
    );
    assert_eq!(plan.out.lines().count(), 7, "{plan:#?}");
    assert!(!place.path("ablations").exists());

    let said = place.ablate(&[]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    let count = |said: &Said, stage: &str| said.err.matches(&format!(": {stage} on flex")).count();
    let counts = |said: &Said| ["pretrain", "tune", "evaluate"].map(|stage| count(said, stage));
    assert_eq!(counts(&said), [2, 6, 4], "{said:#?}");
    assert_eq!(
        (
            place.folders("encoders").len(),
            place.folders("cells").len()
        ),
        (2, 6)
    );
    assert!(
        said.out.contains("no model: seed 2 failed: tune: "),
        "{}",
        said.out
    );
    assert!(said.out.contains("/nowhere/at/all"), "{}", said.out);

    let table = fs::read_to_string(place.path("ablations/g/table.json")).unwrap();
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows[1]["contender"], "User-LLM, soft prompt, Enc");
    assert_eq!(rows[1]["seeds"], serde_json::json!([1, 2]));
    // Six people a seed, who may be the same ones.
    assert!(rows[1]["recall_10"]["deviation"].is_number(), "{table}");
    assert!(
        (6..=12).contains(&rows[1]["against_first"]["people"].as_u64().unwrap()),
        "{table}"
    );
    assert!(rows[0]["against_first"].is_null(), "{table}");
    let genre = &rows[1]["genre_against_first"];
    assert!(
        (0.0..=1.0).contains(&genre["p"].as_f64().unwrap()),
        "{table}"
    );
    let perplexities = [0, 1].map(|row| rows[row]["perplexity"]["mean"].as_f64());
    assert!(perplexities[0].is_some(), "{table}");
    assert_eq!(perplexities[0], perplexities[1], "both are frozen");
    assert_eq!(rows[2]["problems"].as_array().unwrap().len(), 2);
    let csv = fs::read_to_string(place.path("ablations/g/table.csv")).unwrap();
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let columns = csv.headers().unwrap().clone();
    assert!(columns.iter().any(|name| name == "genre_p"), "{columns:?}");
    assert_eq!(csv.records().map(Result::unwrap).count(), 3);
    let markdown = fs::read_to_string(place.path("ablations/g/table.md")).unwrap();
    assert!(
        markdown.contains("leave-one-out") && markdown.contains("±"),
        "{markdown}"
    );

    place.run(&["report", "ablations/g"]).ok();
    let page = fs::read_to_string(place.path("report.html")).unwrap();
    let at = |part: &str| {
        page.find(part)
            .unwrap_or_else(|| panic!("{part} is missing"))
    };
    let order = [
        "<h3>Next item, cell by cell</h3>",
        "<summary>cross, seed 1<",
        "<summary>soft, seed 2<",
    ];
    assert!(order.map(at).is_sorted(), "{:?}", order.map(at));

    // Once more: what failed is tried again, what is done is not.
    let again = place.ablate(&[]);
    assert_eq!(counts(&again), [0, 2, 0], "{again:#?}");
    assert_eq!(again.out, said.out);

    // An edited grid keeps what it has in common with the old one, here side by side.
    let text = fs::read_to_string(place.path("grid.toml")).unwrap();
    let text = text.replace("/nowhere/at/all", "tuned");
    let fixed = text.replace(r#""llm.model" = "tuned""#, r#""tuning.training.steps" = 5"#);
    fs::write(place.path("grid.toml"), fixed).unwrap();
    let fixed = place.ablate(&["--devices", "flex,flex"]).ok();
    assert_eq!(counts(&fixed), [0, 2, 2], "{fixed:#?}");
}

#[test]
fn grids_share_encoders_where_they_are_told_to() {
    let place = Place::new();
    place.grid(4, 4, ENCODER_ONLY);
    let shared = ["--encoders", "shared"];
    let pretrains = |said: Said| said.ok().err.contains(": pretrain on flex");
    assert!(pretrains(place.ablate(&shared)));
    let other = [&shared[..], &["--out", "other"]].concat();
    assert!(!pretrains(place.ablate(&other)));
    assert!(place.path("other/table.md").exists());
    assert!(!place.path("other/encoders").exists());
    // By itself a grid keeps its own.
    assert!(pretrains(place.ablate(&["--out", "third"])));
}

#[test]
#[cfg(unix)]
fn a_grid_that_is_stopped_or_killed_goes_on_as_if_nothing_had_been() {
    let place = Place::new();
    let vary = "[vary]\n\"evaluation.exclude_seen\" = [true, false]\n";
    place.grid(600, 20, &format!("{ENCODER_ONLY}{vary}"));
    let words = [
        "pretrain", "--config", "run.toml", "--data", "ml", "--run", "whole",
    ];
    place.run(&words).ok();
    let whole = place.weights("whole", "encoder.safetensors");

    for how in ["-TERM", "-INT", "-KILL"] {
        let begun = place.spawn(&ABLATE);
        let metrics = || {
            let folder = place.path("ablations/g/encoders");
            let first = fs::read_dir(folder).ok()?.next()?.ok()?.path();
            fs::read_to_string(first.join("metrics.jsonl")).ok()
        };
        wait_until(|| metrics().is_some_and(|text| text.lines().count() > 60));
        signal(&begun, how);
        let said = Said::from(begun.wait_with_output().unwrap());
        if how != "-KILL" {
            assert_eq!(said.code, Some(130), "{said:#?}");
            assert!(said.err.contains("the same command goes on"), "{said:#?}");
            assert!(!place.folders("encoders")[0].join("pretrain.done").exists());
        }
        // Where the process of a stage has outlived the one that began it, this waits for it.
        let said = place.ablate(&[]).ok();
        assert_eq!(
            said.out.matches("evaluation.exclude_seen=").count(),
            2,
            "{said:#?}"
        );
        let encoders = place.folders("encoders");
        assert_eq!(encoders.len(), 1, "both cells share it");
        for folder in [&encoders[0], &place.folders("cells")[1]] {
            let weights = fs::read(folder.join("encoder.safetensors")).unwrap();
            assert!(weights == whole, "{how}: the weights differ");
        }
        fs::remove_dir_all(place.path("ablations")).unwrap();
    }
}

#[test]
fn a_grid_that_cannot_be_is_refused_before_anything_starts() {
    let place = Place::new();
    place.grid(12, 3, "[vary]\n\"tuning.stratgy\" = [\"enc\"]\n");
    place.ablate(&[]).fails(&[
        "grid.toml",
        "cell \"tuning.stratgy=enc\"",
        "did you mean `tuning.strategy`?",
    ]);
    place.grid(12, 3, ENCODER_ONLY);
    place
        .ablate(&["--devices", "flex,abacus"])
        .fails(&["unknown backend 'abacus'"]);
    assert!(!place.path("ablations").exists());
}
