//! The program as a user meets it: on tiny data, with a tiny language model, without a network.

#[path = "cli/ablate.rs"]
mod ablate;
#[path = "cli/report.rs"]
mod report;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{ListAccessor, RowAccessor};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_user-llm");
const WORDS: [&str; 15] = [
    "the", "a", "red", "old", "new", "big", "sun", "sea", "man", "war", "love", "cat", "dog",
    "ice", "sky",
];
/// An id and a title that no log may show.
const CANARY_USER: &str = "40404";
const CANARY_TITLE: &str = "canary winter voyage";

/// A folder with data, cache and runs of its own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        place.write_data("ml", |_| None);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// 12 people and 15 films as MovieLens 100K writes them; `ratings` may replace a line.
    fn write_data(&self, name: &str, replace: impl Fn(usize) -> Option<String>) {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        let genres = "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama \
                      Fantasy Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western";
        let genres: String = genres
            .split(' ')
            .enumerate()
            .map(|(at, name)| format!("{name}|{at}\n"))
            .collect();
        fs::write(folder.join("u.genre"), genres).unwrap();

        let mut items = String::new();
        for item in 1..=15 {
            let flags: Vec<&str> = (0..19)
                .map(|at| if at == 1 + item % 4 { "1" } else { "0" })
                .collect();
            let title = match item {
                15 => CANARY_TITLE.to_string(),
                _ => format!("{} {}", WORDS[item - 1], WORDS[item * 7 % 15]),
            };
            let flags = flags.join("|");
            writeln!(
                items,
                "{item}|{title} (199{})|01-Jan-1995||http://x|{flags}",
                item % 10
            )
            .unwrap();
        }
        fs::write(folder.join("u.item"), items).unwrap();

        let mut ratings = String::new();
        for user in 1..=12_usize {
            let id = if user == 12 {
                CANARY_USER.to_string()
            } else {
                user.to_string()
            };
            for at in 0..9 {
                let item = 1 + (user * 3 + at * 4) % 15;
                let rating = 1 + (user + at) % 5;
                let time = 880_000_000 + at * 100;
                let line = (user - 1) * 9 + at + 1;
                match replace(line) {
                    Some(text) => ratings += &text,
                    None => writeln!(ratings, "{id}\t{item}\t{rating}\t{time}").unwrap(),
                }
            }
        }
        fs::write(folder.join("u.data"), ratings).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("USER_LLM_CACHE", self.path("cache"))
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        Said::from(self.command(words).output().unwrap())
    }

    /// `pretrain` in `run`, `n` steps, tiny, with the run's first words.
    fn pretrain_words(run: &str, steps: usize, every: usize) -> Vec<String> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../llm/tests/fixtures/tiny-llama");
        let mut words: Vec<String> = ["pretrain", "--data", "ml", "--run", run]
            .map(String::from)
            .to_vec();
        let mut set = |patch: String| words.extend(["--set".to_string(), patch]);
        for patch in [
            "data.history_len=5",
            "data.stride=2",
            "encoder.d_model=8",
            "encoder.n_layers=1",
            "encoder.max_length=20",
            "pretraining.batch_size=4",
            "perceiver.d_model=8",
            "perceiver.n_latents=3",
            "perceiver.n_heads=2",
            "perceiver.n_layers=1",
            "fusion.d_user=8",
            "fusion.n_heads=2",
            "fusion.d_head=4",
            "fusion.blocks.upper=1",
            "tuning.training.steps=40",
            "tuning.whole_model_steps=10",
            "tuning.training.batch_size=3",
            "tuning.training.validate_every=20",
            "tuning.training.validation_users=4",
            "tuning.training.checkpoint_every=5",
            "evaluation.users=6",
            "evaluation.beam_width=10",
            "evaluation.text_events=2",
        ] {
            set(patch.to_string());
        }
        set(format!("llm.model={}", model.display()));
        set(format!("pretraining.steps={steps}"));
        set(format!("pretraining.validate_every={}", steps / 3));
        set(format!("pretraining.checkpoint_every={every}"));
        words
    }

    /// Twelve people who review nine of fifteen toys, in words that no log may have.
    fn write_toys(&self) {
        fs::create_dir(self.path("toys")).unwrap();
        let mut reviews = String::new();
        for user in 0..12 {
            for (at, word) in WORDS.iter().enumerate().take(9) {
                let (item, time) = ((user * 3 + at * 4) % 15, 1_400_000_000 + at * 86_400);
                writeln!(
                    reviews,
                    "{{\"reviewerID\": \"canary-u{user}\", \"asin\": \"canary-b{item}\", \"overall\": {}.0, \
                     \"reviewerName\": \"canary name\", \"summary\": \"canary sums up\", \
                     \"reviewText\": \"canary red {word}\", \"unixReviewTime\": {time}}}",
                    1 + at % 5,
                )
                .unwrap();
            }
        }
        fs::write(self.path("toys/Toys_5.json"), reviews).unwrap();
        let title = |item: usize| format!("{} {}", WORDS[item], WORDS[(item + 1) * 7 % 15]);
        let toy = |n| {
            format!(
                "{{\"asin\": \"canary-b{n}\", \"title\": \"{}\"}}\n",
                title(n)
            )
        };
        let toys: String = (0..15).map(toy).collect();
        fs::write(self.path("toys/meta_Toys.json"), toys).unwrap();
    }

    fn pretrain(&self, run: &str, steps: usize, every: usize) -> Said {
        let words = Self::pretrain_words(run, steps, every);
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn spawn_pretrain(&self, run: &str, steps: usize, every: usize) -> Child {
        let words = Self::pretrain_words(run, steps, every);
        self.spawn(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn spawn(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn weights(&self, run: &str, name: &str) -> Vec<u8> {
        fs::read(self.path(run).join(name)).unwrap()
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// It failed with 1, no panic, and told all of this.
    #[track_caller]
    fn fails(self, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{self:#?}");
        assert!(self.err.contains("error: "), "{self:#?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing in {self:#?}");
        }
        self
    }
}

#[test]
fn help_lists_the_commands_and_teaches_by_example() {
    let place = Place::new();
    let help = place.run(&["--help"]).ok().out;
    let commands = [
        "data",
        "config",
        "pretrain",
        "tune",
        "evaluate",
        "ablate",
        "report",
        "recommend",
        "add-items",
        "embed",
        "generate",
        "export",
        "bench",
        "doctor",
    ];
    for command in commands {
        assert!(help.contains(&format!("  {command} ")), "{help}");
        let own = place.run(&[command, "--help"]).ok().out;
        assert!(own.contains("EXAMPLES"), "{own}");
    }
    assert!(
        help.contains("EXAMPLES") && help.contains("user-llm recommend --user 42"),
        "{help}"
    );
    assert_eq!(place.run(&["recommend"]).code, Some(2));
}

#[test]
fn config_prints_a_file_that_comes_back_the_same() {
    let place = Place::new();
    let file = place.run(&["config"]).ok().out;
    assert!(file.starts_with("# The quick run"), "comments stay: {file}");
    fs::write(place.path("run.toml"), &file).unwrap();
    let patched = place
        .run(&["config", "--from", "run.toml", "--set", "seed=42"])
        .ok()
        .out;
    fs::write(place.path("again.toml"), &patched).unwrap();
    assert_eq!(
        place.run(&["config", "--from", "again.toml"]).ok().out,
        patched
    );
    let (a, b): (toml::Table, toml::Table) = (
        toml::from_str(&file).unwrap(),
        toml::from_str(&patched).unwrap(),
    );
    assert_eq!(a, b);
}

#[test]
fn set_patches_and_unknown_keys_and_bad_values_are_refused() {
    let place = Place::new();
    let set = |patch: &str| place.run(&["config", "--set", patch]);
    let file: toml::Table = toml::from_str(&set("pretraining.steps=3").ok().out).unwrap();
    assert_eq!(file["pretraining"]["steps"].as_integer(), Some(3));
    set("pretraining.stepps=3")
        .fails(&["`pretraining.stepps`", "did you mean `pretraining.steps`?"]);
    set("encoder.n_heads=7").fails(&["`encoder.n_heads` = 7", "divisor of `encoder.d_model`"]);
    set("seed").fails(&["expected `key=value`"]);
    fs::write(place.path("broken.toml"), "name = \"x\nseed = 1\n").unwrap();
    place
        .run(&["config", "--from", "broken.toml"])
        .fails(&["broken.toml", "line 1"]);
    place
        .run(&["config", "--from", "no.toml"])
        .fails(&["no.toml", "No such file"]);
}

#[test]
fn tables_of_ones_own_train_a_run_and_say_which_columns_they_have() {
    let place = Place::new();
    let shop = place.path("shop");
    fs::create_dir_all(&shop).unwrap();
    let mut log = "member_id,sku,stars,ts\n".to_string();
    for member in 0..12 {
        for at in 0..9 {
            let (item, time) = (
                (member * 3 + at * 4) % 15,
                1_700_000_000_000_i64 + at * 60_000,
            );
            writeln!(log, "member-{member},sku-{item},{},{time}", 1 + at % 5).unwrap();
        }
    }
    fs::write(shop.join("log.csv"), log).unwrap();
    let items = (0..15).map(|item| format!("sku-{item},Thing {item},kind {}|thing\n", item % 3));
    let items = format!("sku,name,tags\n{}", items.collect::<String>());
    fs::write(shop.join("items.csv"), items).unwrap();
    let tables = |time: &str| {
        format!(
            "data.tables={{ events = \"log.csv\", user = \"member_id\", item = \"sku\", \
             rating = \"stars\", time = {{ column = \"{time}\", unit = \"ms\" }}, catalogue = {{ \
             path = \"items.csv\", id = \"sku\", title = \"name\", \
             categories = {{ column = \"tags\", separator = \"|\" }} }} }}"
        )
    };
    let pretrain = |tables: &str, more: &[&str]| {
        let mut words = Place::pretrain_words("runs/shop", 6, 3);
        words[2] = "shop".into();
        words.extend(["--set".into(), tables.into()]);
        words.extend(more.iter().map(ToString::to_string));
        place.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    pretrain(&tables("when"), &[]).fails(&[
        "shop/log.csv has no column \"when\"",
        "\"member_id\", \"sku\", \"stars\", \"ts\"",
    ]);
    pretrain(&tables("ts"), &["--set", "data.tables.usr=\"x\""]).fails(&["usr"]);
    let cuts = "data.split={ kind = \"global-time\", validation = { fraction = 0.5 }, \
                test = { fraction = 0.7 } }";
    pretrain(&tables("ts"), &["--set", cuts]).ok();
    let asked = ["--run", "runs/shop", "--data", "shop"];
    let protocol = place.run(&[&["evaluate", "--protocol"], &asked[..]].concat());
    let out = protocol.ok().out;
    assert!(
        out.contains("global time, validation from 17000002"),
        "{out}"
    );
    let model = ["recommend", "--user", "member-3", "--model", "encoder"];
    let out = place.run(&[&model, &asked[..]].concat()).ok().out;
    assert!(out.contains("Thing "), "{out}");
}

#[test]
fn data_is_counted_and_what_is_wrong_with_it_is_told() {
    let place = Place::new();
    let stats = place.run(&["data", "stats", "ml"]).ok().out;
    assert!(stats.contains("users") && stats.contains("108"), "{stats}");
    let json = place.run(&["data", "stats", "ml", "--json"]).ok().out;
    assert!(json.contains("\"interactions\":108"), "{json}");

    let stats = |name: &str| place.run(&["data", "stats", name]);
    place.write_data("five", |line| {
        (line == 7).then(|| "1\t7\tfive\t880000000\n".into())
    });
    stats("five").fails(&["u.data:7", "column 3", "\"five\""]);
    place.write_data("empty", |_| Some(String::new()));
    stats("empty").fails(&["u.data is empty"]);
    fs::create_dir(place.path("else")).unwrap();
    stats("else").fails(&["is no dataset of a known layout", "expected u.data"]);
    stats("movielens-2m").fails(&["no asset is called \"movielens-2m\"", "movielens-1m"]);
    stats("no/such/folder").fails(&["is not there"]);

    place
        .run(&["data", "stats", "five", "--mask-values"])
        .fails(&["u.data:7", "4 bytes"]);
    let masked = place.run(&["data", "stats", "five", "--mask-values"]).err;
    assert!(!masked.contains("\"five\""), "{masked}");
    let skipped = place.run(&[
        "data",
        "stats",
        "five",
        "--skip-bad",
        "1",
        "--plots",
        "plots",
    ]);
    assert!(skipped.ok().out.contains("records skipped"));
    assert!(place.path("plots/histories.svg").exists() && place.path("plots/items.svg").exists());

    let validate = |name: &str, more: &[&str]| {
        place.run(&[&["data", "validate", name, "--skip-bad", "1"], more].concat())
    };
    let report: serde_json::Value = serde_json::from_str(&validate("five", &[]).ok().out).unwrap();
    assert_eq!(report["stats"]["report"]["skipped_record"], 1);
    assert!(
        report["leakage"]["neighbours_future"].is_number(),
        "{report}"
    );
    validate("ml", &["--strict"]).ok();
    assert_eq!(validate("five", &["--strict"]).code, Some(1));

    let prepare = |out: &str, more: &[&str]| {
        let words = ["data", "prepare", "ml", "--min-history", "5", "--out", out];
        place.run(&[&words[..], more].concat())
    };
    let out = prepare("store", &["--candidates", "4"]).ok().out;
    assert!(out.contains("12 users, 15 items, 108 events"), "{out}");
    prepare("within", &["--candidates", "4", "--memory", "0.000001"]).ok();
    for file in [
        "events.arrow",
        "users.arrow",
        "candidates.arrow",
        "data.lock",
    ] {
        let bytes = |store: &str| fs::read(place.path(store).join(file)).unwrap();
        assert!(bytes("store") == bytes("within"), "{file} differs");
    }
    prepare("store", &[]).fails(&["store"]);
    // What another program writes has the tables, and neither rows nor lock.
    fs::create_dir(place.path("theirs")).unwrap();
    for table in ["events", "users", "items", "genres", "ratings"] {
        let file = |store: &str| place.path(store).join(format!("{table}.arrow"));
        fs::copy(file("store"), file("theirs")).unwrap();
    }
    stats("theirs").fails(&["theirs"]);
    let seal = ["data", "seal", "theirs", "--name", "theirs"];
    let out = place.run(&seal).ok().out;
    assert!(out.contains("12 users, 15 items, 108 events"), "{out}");
    let pretrain = |store: &str| {
        let mut words = Place::pretrain_words(&format!("of/{store}"), 6, 3);
        words[2] = store.into();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        place.run(&words).ok();
        place.weights(&format!("of/{store}"), "encoder.safetensors")
    };
    assert!(
        pretrain("store") == pretrain("theirs"),
        "the weights differ"
    );
    assert!(stats("store").ok().out.contains("108"));

    // A person with one event can be recommended to, and hinders nobody.
    place.write_data("one", |line| (2..=9).contains(&line).then(String::new));
    stats("one").ok();
    let mut words = Place::pretrain_words("runs/one", 6, 3);
    words[2] = "one".into();
    place
        .run(&words.iter().map(String::as_str).collect::<Vec<_>>())
        .ok();
    place
        .run(&["recommend", "--user", "1", "--data", "one"])
        .ok();
}

#[test]
fn half_a_download_and_a_wrong_file_are_told_apart() {
    let place = Place::new();
    let folder = place.path("cache/movielens-1m");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ml-1m.zip.part"), vec![0; 20_000]).unwrap();
    let list = place.run(&["data", "fetch"]).ok().out;
    assert!(
        list.contains("20 kB are here; user-llm data fetch movielens-1m"),
        "{list}"
    );

    fs::write(folder.join("ml-1m.zip"), "not a zip").unwrap();
    let fetch = place.run(&["data", "fetch", "movielens-1m", "--offline"]);
    fetch.fails(&["ml-1m.zip", "5917549", "grouplens.org", "--offline"]);
    assert!(folder.join("ml-1m.zip.part").exists());
}

#[test]
fn from_nothing_to_an_answer() {
    let place = Place::new();
    place.pretrain("r", 12, 3).ok();
    let tuned = place.run(&["tune", "--run", "r", "--data", "ml"]).ok();
    assert!(
        tuned
            .out
            .contains("next: user-llm evaluate --run r --data ml"),
        "{tuned:?}"
    );
    place
        .run(&[
            "tune",
            "--run",
            "r",
            "--data",
            "ml",
            "--fusion",
            "soft-prompt",
            "--strategy",
            "proj",
        ])
        .ok();

    let table = place
        .run(&["evaluate", "--run", "r", "--data", "ml", "--costs"])
        .ok()
        .out;
    for row in [
        "popularity",
        "user encoder",
        "text prompt",
        "User-LLM, cross-attention, Enc",
        "User-LLM, soft prompt, Proj",
        "leave-one-out",
        "GFLOP",
    ] {
        assert!(table.contains(row), "{row} is missing in {table}");
    }
    let plot = |name: &str| fs::read_to_string(place.path("r").join(name)).unwrap();
    for part in ["popularity", "Recall@5", "leave-one-out"] {
        assert!(plot("recall.svg").contains(part), "{part} is missing");
    }
    for part in [
        "pretraining: loss",
        "tuning enc-cross-attention: loss",
        "tuning proj-soft-prompt: loss",
        "leave-one-out",
    ] {
        assert!(plot("training.svg").contains(part), "{part} is missing");
    }
    let report = fs::read_to_string(place.path("r/report.md")).unwrap();
    assert!(report.contains(&table), "{report}");
    assert!(
        fs::read_to_string(place.path("r/report.json"))
            .unwrap()
            .contains("protocol")
    );
    let short = [
        "evaluate",
        "--run",
        "r",
        "--data",
        "ml",
        "--no-text",
        "--users",
        "3",
    ];
    assert!(place.run(&short).ok().out.contains("3 of 12 users"));

    let ask = |words: &[&str]| place.run(&[words, &["--run", "r", "--data", "ml"]].concat());
    let protocol = ask(&["evaluate", "--protocol"]).ok().out;
    assert!(protocol.contains("leave-one-out"), "{protocol}");
    assert!(!protocol.contains("Recall@10"), "{protocol}");
    let seen: usize = 9;
    let list = ask(&["recommend", "--user", "3", "--model", "encoder", "--json"])
        .ok()
        .out;
    assert_eq!(list.matches("\"title\"").count(), 15 - seen, "{list}");
    let all = [
        "recommend",
        "--user",
        "3",
        "--tuning",
        "enc-cross-attention",
        "--include-seen",
        "-k",
        "15",
    ];
    let all = ask(&all).ok().out;
    assert!(
        all.contains("15. ") && all.contains("newest first"),
        "{all}"
    );
    ask(&["recommend", "--user", "3"]).fails(&["choose one with --tuning", "proj-soft-prompt"]);
    ask(&["recommend", "--user", "3", "--tuning", "full-x"])
        .fails(&["here are: enc-cross-attention"]);
    let unknown = ask(&["recommend", "--user", "99"]).fails(&["12 ids are of 1 to 5 digits"]);
    assert!(!unknown.err.contains("99"), "{unknown:?}");

    let prompt = [
        "generate",
        "--user",
        "3",
        "--tuning",
        "enc-cross-attention",
        "--prompt",
    ];
    let generate = |words: &[&str]| ask(&[&prompt, words].concat());
    let answer = generate(&["the winter", "--max-tokens", "6", "--raw"])
        .ok()
        .out;
    assert!(!answer.trim().is_empty());
    assert_eq!(
        generate(&["the winter", "--max-tokens", "6", "--raw"])
            .ok()
            .out,
        answer
    );
    generate(&[
        "hello",
        "--temperature",
        "0.8",
        "--top-k",
        "5",
        "--top-p",
        "0.9",
        "--seed",
        "1",
    ])
    .ok();

    let export = |words: &[&str]| ask(&[&["export", "--out", "x"], words].concat());
    export(&[]).fails(&["choose one with --tuning"]);
    let chosen = ["--tuning", "enc-cross-attention"];
    let said = export(&chosen).ok().out;
    assert!(said.contains("all accounted for"), "{said}");
    let card = fs::read_to_string(place.path("x/README.md")).unwrap();
    assert!(card.contains("User-LLM, cross-attention, Enc"), "{card}");
    export(&chosen).fails(&["is there already and not empty"]);

    generate(&["", "--raw"]).fails(&["--prompt is empty"]);
    assert_eq!(generate(&["x", "--top-p", "0"]).code, Some(2));
}

/// A tuning that reads text has the person's text in every prompt, and no embeddings to measure.
#[test]
fn what_a_tuning_reads_as_text_it_reads_whatever_is_asked() {
    let place = Place::new();
    place.pretrain("r", 6, 3).ok();
    let of_run = ["--run", "r", "--data", "ml"];
    let tune = [
        "tune",
        "--fusion",
        "none",
        "--strategy",
        "full",
        "--set",
        "prompts.text_events=2",
        "--set",
        "tuning.whole_model_steps=2",
    ];
    place.run(&[&tune, &of_run[..]].concat()).ok();
    let answer = |user: &str| {
        let words = ["generate", "--raw", "--prompt", "x", "--user", user];
        place.run(&[&words, &of_run[..]].concat()).ok().out
    };
    assert_eq!(answer("3"), answer("3"));
    assert!(
        ["1", "2", "4", "5"]
            .iter()
            .any(|other| answer(other) != answer("3")),
        "nobody is told about"
    );
    place
        .run(&[&["bench"], &of_run[..]].concat())
        .fails(&["full-none-text-2 reads no user embeddings"]);
    let embeddings = [
        "tune",
        "--fusion",
        "soft-prompt",
        "--strategy",
        "proj",
        "--set",
        "prompts.text_events=0",
        "--set",
        "tuning.whole_model_steps=2",
    ];
    place.run(&[&embeddings, &of_run[..]].concat()).ok();
    // The text's name comes first.
    let costs = ["evaluate", "--no-text", "--costs", "--users", "2"];
    let table = place.run(&[&costs, &of_run[..]].concat()).ok().out;
    assert!(table.contains("| user embeddings, soft prompt"), "{table}");
}

/// The commands that `evaluate --save` names make the same weights from nothing.
#[test]
fn what_is_kept_of_an_evaluation_makes_the_same_models_again() {
    let place = Place::new();
    place.pretrain("r", 6, 3).ok();
    let of_run = ["--run", "r", "--data", "ml"];
    let tune = [
        "tune",
        "--strategy",
        "lora",
        "--set",
        "tuning.blocks={ upper = 1 }",
        "--set",
        "tuning.training.steps=6",
    ];
    place.run(&[&tune, &of_run[..]].concat()).ok();
    let evaluate = ["evaluate", "--no-text", "--save", "kept/one"];
    place.run(&[&evaluate, &of_run[..]].concat()).ok();

    let metrics = fs::read_to_string(place.path("kept/one/metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    fs::rename(place.path("r"), place.path("before")).unwrap();
    for (at, command) in ["pretrain", "tune", "evaluate"].into_iter().enumerate() {
        let typed = metrics["origin"]["commands"][at].as_str().unwrap();
        let words: Vec<&str> = typed.split(' ').collect();
        assert_eq!(words[..2], ["user-llm", command], "{typed}");
        place.run(&words[1..]).ok();
    }
    for weights in [
        "encoder.safetensors",
        "lora-cross-attention-upper-1.safetensors",
    ] {
        assert!(
            place.weights("before", weights) == place.weights("r", weights),
            "{weights} differ"
        );
    }
}

/// A run file about the encoder alone goes through everything that needs no language model.
#[test]
fn an_encoder_is_studied_without_a_language_model() {
    let place = Place::new();
    let mut run: toml::Table = toml::from_str(&place.run(&["config"]).ok().out).unwrap();
    for section in ["llm", "perceiver", "fusion", "tuning", "prompts"] {
        run.remove(section).unwrap();
    }
    fs::write(place.path("encoder.toml"), run.to_string()).unwrap();
    let data = ["--data", "ml", "--run", "e"];
    let small = [
        "pretraining.steps=4",
        "encoder.n_layers=1",
        "evaluation.users=6",
    ];
    let small: Vec<&str> = small.iter().flat_map(|patch| ["--set", patch]).collect();
    let words = [&["pretrain", "--config", "encoder.toml"], &data[..], &small].concat();
    let said = place.run(&words).ok();
    assert!(
        said.out.contains("next: user-llm evaluate --run e"),
        "{}",
        said.out
    );
    let table = place.run(&[&["evaluate"], &data[..]].concat()).ok().out;
    assert!(
        table.contains("popularity") && table.contains("user encoder"),
        "{table}"
    );
    assert!(!table.contains("text prompt"), "{table}");

    // Kept, and set beside another seed.
    place
        .run(&[&["evaluate", "--save", "results/one"], &data[..]].concat())
        .ok();
    let metrics = fs::read_to_string(place.path("results/one/metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!(metrics["pretraining"]["steps"], 4);
    assert_eq!(metrics["asked"]["candidates"], 15);
    let commands = &metrics["origin"]["commands"];
    assert_eq!(
        commands[0],
        "user-llm pretrain --config results/one/config.toml --run e --data ml"
    );
    let command = commands[1].as_str().unwrap();
    assert!(
        command.starts_with("user-llm evaluate --save results/one"),
        "{command}"
    );
    let second = ["--data", "ml", "--run", "e2"];
    let seed = ["--set", "seed=43"];
    let words = [
        &["pretrain", "--config", "encoder.toml"],
        &second[..],
        &small,
        &seed,
    ]
    .concat();
    place.run(&words).ok();
    place
        .run(&[&["evaluate", "--save", "results/two"], &second[..]].concat())
        .ok();
    let compare = ["evaluate", "--compare", "results/one", "results/two"];
    let compared = place.run(&compare).ok().out;
    assert!(
        compared.contains("±") && compared.contains("| 2 "),
        "{compared}"
    );
    place
        .run(&[&compare[..], &["results/one"]].concat())
        .fails(&["cannot stand in one table", "twice with seed 42"]);
    place
        .run(&[&["tune"], &data[..]].concat())
        .fails(&["no [llm] section", "user-llm config"]);
}

#[test]
fn whoever_comes_in_the_wrong_order_is_sent_to_the_right_command() {
    let place = Place::new();
    let words = ["--run", "nowhere", "--data", "ml"];
    let run = |command: &[&str]| place.run(&[command, &words].concat());
    run(&["tune"]).fails(&[
        "no pretrained encoder",
        "user-llm pretrain --run nowhere --data ml",
    ]);
    run(&["evaluate"]).fails(&["there is no such folder", "user-llm pretrain"]);
    place
        .run(&["recommend", "--user", "1"])
        .fails(&["there is no run in runs/", "user-llm pretrain"]);
    place
        .run(&["evaluate", "--run", "ml"])
        .fails(&["holds no run", "user-llm pretrain"]);

    place.pretrain("r", 6, 3).ok();
    let generate = [
        "generate", "--user", "1", "--prompt", "x", "--run", "r", "--data", "ml",
    ];
    place
        .run(&generate)
        .fails(&["no tuned model", "user-llm tune --run r"]);
    place.write_data("other", |line| {
        (line == 9).then(|| "1\t2\t5\t880000900\n".into())
    });
    place
        .run(&["evaluate", "--run", "r", "--data", "other"])
        .fails(&["other data", "--data as before"]);
    place
        .pretrain("r", 9, 3)
        .fails(&["another config", "another --run"]);
    assert!(
        fs::read_to_string(place.path("r/config.toml"))
            .unwrap()
            .contains("steps = 6")
    );
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_backend_that_is_not_built_in_names_the_command_that_builds_it() {
    let place = Place::new();
    let said = place.run(&["pretrain", "--data", "ml", "--backend", "cuda"]);
    said.fails(&["cargo build --release --features cuda", "user-llm doctor"]);
    let said = place.run(&["pretrain", "--data", "ml", "--backend", "abacus"]);
    said.fails(&["unknown backend 'abacus'", "flex"]);
    let doctor = place.run(&["doctor"]).ok().out;
    assert!(
        doctor.contains("✓ flex") && doctor.contains("burn 0.22"),
        "{doctor}"
    );
    assert_eq!(place.run(&["doctor", "--backend", "cuda"]).code, Some(1));
}

#[test]
#[cfg(unix)]
fn ctrl_c_saves_and_the_same_command_ends_as_if_nothing_had_been() {
    let place = Place::new();
    place.pretrain("whole", 600, 50).ok();
    let child = place.spawn_pretrain("cut", 600, 50);
    let metrics = place.path("cut/metrics.jsonl");
    wait_until(|| fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() > 60));
    signal(&child, "-INT");
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{said:#?}");
    assert!(
        said.err.contains("the same command goes on from there"),
        "{said:#?}"
    );
    assert!(!place.path("cut/encoder.safetensors").exists());
    place.pretrain("cut", 600, 50).ok();
    let name = "encoder.safetensors";
    assert!(
        place.weights("cut", name) == place.weights("whole", name),
        "the weights differ"
    );
    // The same figures; how long it took may differ.
    let figures = |run: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
        let line = |line: &str| {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["seconds"].take().as_f64().unwrap() >= 0.0);
            value
        };
        text.lines().map(line).collect()
    };
    assert_eq!(figures("cut"), figures("whole"));
}

#[test]
fn a_run_that_is_killed_at_any_moment_goes_on() {
    let place = Place::new();
    place.pretrain("whole", 300, 7).ok();
    let expected = place.weights("whole", "encoder.safetensors");
    let mut moments = Moments {
        random: 7,
        patience: 1,
    };
    let mut n_killed = 0;
    let mut run = 0;
    while n_killed < 24 {
        run += 1;
        let name = format!("killed-{run}");
        while !killed(
            place.spawn_pretrain(&name, 300, 7),
            &mut moments,
            &mut n_killed,
        ) {}
        assert!(
            place.weights(&name, "encoder.safetensors") == expected,
            "the weights differ"
        );
    }

    let tune = ["tune", "--data", "ml", "--run"];
    place.run(&[&tune[..], &["whole"]].concat()).ok();
    let expected = place.weights("whole", "enc-cross-attention.safetensors");
    n_killed = 0;
    while n_killed < 8 {
        place.pretrain("tuned", 300, 7).ok();
        let words = [&tune[..], &["tuned"]].concat();
        while !killed(place.spawn(&words), &mut moments, &mut n_killed) {}
        assert!(place.weights("tuned", "enc-cross-attention.safetensors") == expected);
        fs::remove_dir_all(place.path("tuned")).unwrap();
    }
}

/// Kill a run at some moment. `true` if it was done before; a failure is one of the test's.
fn killed(mut child: Child, moments: &mut Moments, n_killed: &mut usize) -> bool {
    std::thread::sleep(moments.next());
    child.kill().unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert!(matches!(said.code, None | Some(0)), "{said:#?}");
    let is_done = said.code == Some(0);
    *n_killed += usize::from(!is_done);
    moments.patience = if is_done { 1 } else { moments.patience + 1 };
    is_done
}

/// Moments that look random and are the same every time; later ones the more often a run has been
/// killed, so that it gets somewhere however slowly the program starts.
struct Moments {
    random: u64,
    patience: u64,
}

impl Moments {
    fn next(&mut self) -> Duration {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((20 + (self.random >> 33) % 180) * self.patience)
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_warning() {
    let place = Place::new();
    place.pretrain("r", 12, 3).ok();
    let expected = place.weights("r", "encoder.safetensors");
    let mut steps: Vec<PathBuf> = fs::read_dir(place.path("r/pretraining"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    steps.sort();
    let model = steps.last().unwrap().join("model.bpk");
    let bytes = fs::read(&model).unwrap();
    fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let said = place.pretrain("r", 12, 3).ok();
    assert!(
        said.err.contains("WARN") && said.err.contains("passed over"),
        "{said:#?}"
    );
    assert!(
        place.weights("r", "encoder.safetensors") == expected,
        "the weights differ"
    );
}

/// A file system of its own, gone with the test.
#[cfg(target_os = "linux")]
struct Small(PathBuf);

#[cfg(target_os = "linux")]
impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_full_disk_is_told_and_loses_nothing() {
    let place = Place::new();
    let folder = place.path("small");
    fs::create_dir(&folder).unwrap();
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&folder)
        .stderr(Stdio::null());
    if !mount.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let _small = Small(folder.clone());
    place.pretrain("whole", 30, 2).ok();
    fs::write(folder.join("filler"), vec![0; (2 << 20) - 250_000]).unwrap();

    let said = place
        .pretrain("small/r", 30, 2)
        .fails(&["No space left", "free some space"]);
    let saved = fs::read_dir(folder.join("r/pretraining")).unwrap().count();
    assert!(saved > 0, "nothing was saved before: {said:#?}");
    fs::remove_file(folder.join("filler")).unwrap();
    place.pretrain("small/r", 30, 2).ok();
    let name = "encoder.safetensors";
    assert!(
        place.weights("small/r", name) == place.weights("whole", name),
        "the weights differ"
    );
}

#[test]
fn no_log_shows_a_person_or_what_they_watched() {
    let place = Place::new();
    let mut words = Place::pretrain_words("r", 6, 3);
    words.push("-vvv".into());
    let mut logs = place
        .run(&words.iter().map(String::as_str).collect::<Vec<_>>())
        .ok()
        .err;
    for command in [
        &["tune"][..],
        &["evaluate"],
        &["recommend", "--user", CANARY_USER],
        &["recommend", "--user", CANARY_USER, "--model", "encoder"],
        &[
            "generate",
            "--user",
            CANARY_USER,
            "--prompt",
            CANARY_TITLE,
            "--max-tokens",
            "3",
        ],
        &["recommend", "--user", "404040"],
    ] {
        let said = place.run(&[command, &["-vvv", "--run", "r", "--data", "ml"]].concat());
        assert!(said.code.is_some_and(|code| code < 2), "{said:#?}");
        logs += &said.err;
    }
    for command in [
        &[
            "data",
            "prepare",
            "ml",
            "--out",
            "store",
            "--candidates",
            "3",
        ][..],
        &[
            "data", "prepare", "ml", "--out", "within", "--memory", "0.000001",
        ],
        &["data", "validate", "ml"],
        &["data", "validate", "store"],
        &["data", "stats", "store", "--json"],
        &[
            "evaluate", "--run", "r", "--data", "store", "--save", "saved",
        ],
    ] {
        let said = place.run(&[command, &["-vvv"]].concat()).ok();
        logs += &said.err;
        // What is printed of data are counts.
        if command[0] == "data" {
            logs += &said.out;
        }
    }
    assert!(logs.contains("language model loaded"), "{logs}");
    for canary in [CANARY_USER, CANARY_TITLE, "canary"] {
        assert!(!logs.contains(canary), "{canary:?} is in the logs: {logs}");
    }
    for file in [
        "metrics.jsonl",
        "run.json",
        "config.toml",
        "report.md",
        "report.json",
        "ranks.json",
    ] {
        let text = fs::read_to_string(place.path("r").join(file)).unwrap();
        assert!(
            !text.contains(CANARY_USER) && !text.contains(CANARY_TITLE),
            "{file}: {text}"
        );
    }
}

#[test]
fn no_log_or_report_shows_what_people_wrote() {
    let place = Place::new();
    place.write_toys();
    let mut words = Place::pretrain_words("t", 6, 3);
    words[2] = "toys".into();
    for patch in [
        "encoder.modalities=[{ name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }]",
        "tuning.genre_share=0",
        "review={ prompt = \"On{title}:\", target = \"text\", max_tokens = 4, share = 0.5 }",
    ] {
        words.extend(["--set".to_string(), patch.to_string()]);
    }
    words.push("-vvv".into());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut logs = place.run(&words).ok().err;
    let asked = ["--run", "t", "--data", "toys", "-vvv"];
    logs += &place.run(&[&["tune"], &asked[..]].concat()).ok().err;
    let evaluate = [&["evaluate", "--save", "saved"], &asked[..]].concat();
    let said = place.run(&evaluate).ok();
    assert!(
        said.out.contains("ROUGE"),
        "no review was written: {said:#?}"
    );
    let kept = fs::read_to_string(place.path("saved/README.md")).unwrap();
    for table in [
        "| ROUGE-Lsum",
        "| before tuning",
        "enc-cross-attention.toml",
    ] {
        assert!(kept.contains(table), "{table} is missing in {kept}");
    }
    logs += &said.err;
    logs += &said.out;
    assert!(!logs.contains("canary"), "{logs}");
    for folder in ["t", "saved"] {
        for entry in fs::read_dir(place.path(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_text = path.extension().is_some_and(|kind| kind != "safetensors");
            // The items' ids are what a model's numbers mean.
            let is_vocabulary = path.ends_with("vocabulary.json");
            if path.is_file() && is_text && !is_vocabulary {
                // TensorBoard's event file has numbers between its texts.
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains("canary"), "{path:?}: {text}");
            }
        }
    }
}

#[test]
fn what_people_wrote_is_kept_by_a_store_for_every_run_on_it() {
    let place = Place::new();
    place.write_toys();
    let bert = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bert = bert.join("../text-encoder/tests/fixtures/tiny-bert");
    let mut words = Place::pretrain_words("", 6, 3).split_off(5);
    for patch in [
        "data.dataset=toys",
        "encoder.modalities=[\
         { name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }, \
         { name = \"review-text\", vocab_size = 0, d_embedding = 4, weight = 0.0 }]",
        &format!("text_encoder.model={}", bert.display()),
        "tuning.genre_share=0",
        "review={ prompt = \"On{title}:\", target = \"text\", max_tokens = 4, share = 0.5 }",
    ] {
        words.extend(["--set".to_string(), patch.to_string()]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let config = place.run(&[&["config"], &words[..]].concat()).ok().out;
    fs::write(place.path("toys.toml"), config).unwrap();
    let logs = std::cell::RefCell::new(String::new());
    let run = |words: &[&str]| {
        let said = place.run(&[words, &["-vvv"]].concat()).ok();
        *logs.borrow_mut() += &said.err;
        *logs.borrow_mut() += &said.out;
        said
    };

    let prepare = ["data", "prepare", "--config", "toys.toml", "--out", "store"];
    let prepared = run(&prepare);
    assert!(
        prepared.err.contains("reading reviews: 9 texts read"),
        "{prepared:#?}"
    );
    // All that is known of the texts is the store's.
    fs::remove_dir_all(place.path("cache/text-vectors")).unwrap();
    let pretrain = |data: &str, path: &str| {
        let said = run(&[
            "pretrain",
            "--config",
            "toys.toml",
            "--data",
            data,
            "--run",
            path,
        ]);
        (said.err, place.weights(path, "encoder.safetensors"))
    };
    let (said, of_store) = pretrain("store", "t");
    assert!(!said.contains("texts read"), "{said}");
    let of_run = ["--run", "t", "--data", "store"];
    run(&[&["tune"], &of_run[..]].concat());
    let table = run(&[&["evaluate"], &of_run[..]].concat()).out;
    assert!(table.contains("ROUGE"), "no review was written: {table}");
    let (said, of_files) = pretrain("toys", "files");
    assert!(said.contains("reading reviews: 9 texts read"), "{said}");
    assert!(of_store == of_files, "the weights differ");
    assert!(!logs.borrow().contains("canary"), "{}", logs.borrow());

    place
        .run(&["data", "prepare", "toys", "--out", "bare"])
        .ok();
    let on_it = [
        "--config",
        "toys.toml",
        "--data",
        "bare",
        "--run",
        "bare-run",
    ];
    place
        .run(&[&["pretrain"], &on_it[..]].concat())
        .fails(&["`data.dataset` = bare", "data prepare --config"]);
}

#[track_caller]
fn wait_until(is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(unix)]
fn signal(child: &Child, signal: &str) {
    let kill = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
}

#[test]
fn everybody_some_and_strangers_are_recommended_to_in_tables() {
    let place = Place::new();
    place.pretrain("r", 12, 3).ok();
    let recommend =
        |words: &[&str]| place.run(&[&["recommend", "--run", "r", "--data", "ml"], words].concat());
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();

    let all = recommend(&["--all", "-k", "4", "--plain", "--out", "all.csv"]).ok();
    assert!(
        all.err.contains("recommend: 12 people") && all.out.is_empty(),
        "{all:?}"
    );
    let all = read("all.csv");
    assert!(all.starts_with("user,rank,item,title,score\n1,1,"), "{all}");
    assert_eq!(all.lines().count(), 1 + 12 * 4);
    // The same as one at a time, to standard output, and as JSON lines.
    let one = recommend(&["--user", "3", "-k", "4", "--format", "csv"])
        .ok()
        .out;
    assert!(
        all.contains(one.strip_prefix("user,rank,item,title,score\n").unwrap()),
        "{one}"
    );
    recommend(&["--all", "-k", "4", "--out", "all.jsonl"]).ok();
    let lines = read("all.jsonl");
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["user"], &first["rank"]), (&"1".into(), &1.into()));
    assert_eq!(lines.lines().count(), 12 * 4);

    // Parquet, read back.
    recommend(&["--all", "-k", "4", "--out", "all.parquet"]).ok();
    let file = fs::File::open(place.path("all.parquet")).unwrap();
    let rows = SerializedFileReader::new(file).unwrap();
    let csv_of = |row: parquet::record::Row| {
        let cell = |(_, field): (&String, &parquet::record::Field)| match field {
            parquet::record::Field::Str(text) => text.clone(),
            other => other.to_string(),
        };
        row.get_column_iter()
            .take(4)
            .map(cell)
            .collect::<Vec<_>>()
            .join(",")
    };
    let rows: Vec<String> = rows
        .get_row_iter(None)
        .unwrap()
        .map(|row| csv_of(row.unwrap()))
        .collect();
    let lines = all.lines().skip(1);
    let expected: Vec<&str> = lines.map(|line| line.rsplit_once(',').unwrap().0).collect();
    assert_eq!(rows, expected);

    // Some people, and only what is there.
    fs::write(place.path("ids"), "40404\n\n2\n").unwrap();
    fs::write(place.path("stock"), "1\n2\n3\n4\n").unwrap();
    let some = [
        "--users",
        "ids",
        "--available-items",
        "stock",
        "--include-seen",
    ];
    let some = recommend(&some).ok().out;
    let of = |at: usize| -> Vec<Vec<&str>> {
        let rows = some.lines().skip(1 + 4 * at).take(4);
        rows.map(|line| line.split(',').collect()).collect()
    };
    assert_eq!(some.lines().count(), 1 + 2 * 4);
    for (at, user) in [(0, CANARY_USER), (1, "2")] {
        let mut items: Vec<&str> = of(at).iter().map(|row| row[2]).collect();
        items.sort_unstable();
        assert_eq!(items, ["1", "2", "3", "4"]);
        assert!(of(at).iter().all(|row| row[0] == user));
    }
    let unseen = [
        "--users",
        "ids",
        "--available-items",
        "stock",
        "--exclude-seen",
    ];
    assert!(recommend(&unseen).ok().out.lines().count() < 1 + 2 * 4);

    // Somebody new, who saw what the catalogue lacks, and the unknown alone is no panic either.
    fs::write(
        place.path("new.csv"),
        "user,item,rating\nada,3,5\nada,not-there,4\nbob,nor-this,\n",
    )
    .unwrap();
    let new = recommend(&["--history", "new.csv", "-k", "15"]).ok().out;
    let n_of = |user: &str| new.lines().filter(|line| line.starts_with(user)).count();
    assert_eq!((n_of("ada,"), n_of("bob,")), (14, 15), "{new}");
    assert!(!new.contains("not-there"));
    assert_ne!(
        new.lines()
            .find(|line| line.starts_with("bob,1,"))
            .unwrap()
            .rsplit(',')
            .next(),
        new.lines()
            .find(|line| line.starts_with("ada,1,"))
            .unwrap()
            .rsplit(',')
            .next(),
    );

    // The language model, too.
    place.run(&["tune", "--run", "r", "--data", "ml"]).ok();
    let tuned = recommend(&["--all", "-k", "2"]).ok().out;
    assert_eq!(tuned.lines().count(), 1 + 12 * 2);
    let one = recommend(&["--user", "3", "-k", "2", "--format", "csv"])
        .ok()
        .out;
    let items = |text: &str| -> Vec<String> {
        let of_3 = text.lines().filter(|line| line.starts_with("3,"));
        of_3.map(|line| line.rsplit_once(',').unwrap().0.to_string())
            .collect()
    };
    assert_eq!(items(&tuned), items(&one));
    let new = recommend(&["--history", "new.csv", "-k", "3"]).ok().out;
    assert_eq!(new.lines().count(), 1 + 2 * 3);
}

#[test]
fn what_cannot_be_recommended_is_told_and_leaves_no_file() {
    let place = Place::new();
    place.pretrain("r", 6, 3).ok();
    let recommend =
        |words: &[&str]| place.run(&[&["recommend", "--run", "r", "--data", "ml"], words].concat());
    fs::write(place.path("ids"), "2\n31337\n").unwrap();
    let said = recommend(&["--users", "ids", "--out", "x.csv"]);
    let said = said.fails(&[
        "ids:2: nobody in ml has this id",
        "12 ids are of 1 to 5 digits",
    ]);
    assert!(!said.err.contains("31337"), "{said:?}");
    fs::write(place.path("stock"), "1\nnothing\n").unwrap();
    recommend(&["--all", "--available-items", "stock", "--out", "x.csv"])
        .fails(&["stock:2: the catalogue has no item \"nothing\""]);
    fs::write(place.path("none"), "\n").unwrap();
    recommend(&["--users", "none"]).fails(&["none is empty; expected one id a line"]);
    fs::write(place.path("new.csv"), "user,item,rating\nada,3,9\n").unwrap();
    recommend(&["--history", "new.csv"]).fails(&["new.csv:2: a rating of 9"]);
    recommend(&["--all", "--out", "x.xlsx"]).fails(&["x.xlsx", ".parquet, .csv or .jsonl"]);
    recommend(&["--all", "--format", "parquet"]).fails(&["name a file with --out"]);
    recommend(&["--all", "--out", "no/such/x.csv"]).fails(&["cannot write no/such/x.csv"]);
    assert_eq!(recommend(&["--all", "--user", "3"]).code, Some(2));
    assert_eq!(
        recommend(&["--all", "--exclude-seen", "--include-seen"]).code,
        Some(2)
    );
    let left: Vec<String> = fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("x.") || name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn people_are_embedded_with_their_ids_beside_the_vectors() {
    let place = Place::new();
    place.pretrain("r", 12, 3).ok();
    let embed =
        |words: &[&str]| place.run(&[&["embed", "--run", "r", "--data", "ml"], words].concat());
    embed(&["--all", "--what", "latents", "--out", "x.parquet"])
        .fails(&["no tuned model", "--what last does without"]);
    embed(&["--all", "--out", "x.bin"]).fails(&["x.bin", ".parquet or .safetensors"]);
    place.run(&["tune", "--run", "r", "--data", "ml"]).ok();

    /// Ids, shape and values of a safetensors file.
    fn read(bytes: &[u8]) -> (Vec<String>, Vec<usize>, Vec<f32>) {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
        let users = &header.metadata().as_ref().unwrap()["users"];
        let tensor = file.tensor("embeddings").unwrap();
        let values = tensor
            .data()
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (
            serde_json::from_str(users).unwrap(),
            tensor.shape().to_vec(),
            values.collect(),
        )
    }
    let saved = |what: &str, people: &[&str]| {
        let words = [people, &["--what", what, "--out", "x.safetensors"]].concat();
        embed(&words).ok();
        // As readable as any other file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::write(place.path("plain"), "").unwrap();
            let mode = |name| fs::metadata(place.path(name)).unwrap().permissions().mode();
            assert_eq!(mode("x.safetensors"), mode("plain"));
        }
        read(&place.weights("", "x.safetensors"))
    };
    let (users, shape, last) = saved("last", &["--all"]);
    assert_eq!(
        (users.len(), users[11].as_str(), shape),
        (12, CANARY_USER, vec![12, 8])
    );
    assert_eq!(saved("mean", &["--all"]).1, [12, 8]);
    assert_eq!(saved("latents", &["--all"]).1, [12, 3, 8]);
    // Three latents and the latest event.
    assert_eq!(saved("user-embeddings", &["--user", "3"]).1, [1, 4, 8]);
    // Histories are cut at five events, and the last event embedding is `last`.
    let (_, shape, events) = saved("events", &["--all"]);
    assert_eq!(shape, [12, 5, 8]);
    assert_eq!(events[4 * 8..5 * 8], last[..8]);

    fs::write(
        place.path("new.csv"),
        "user,item\nada,3\nbob,1\nbob,not-there\n",
    )
    .unwrap();
    let (users, shape, events) = saved("events", &["--history", "new.csv"]);
    assert_eq!(
        (users, shape),
        (vec!["ada".to_string(), "bob".into()], vec![3, 8])
    );
    let bytes = place.weights("", "x.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(
        file.tensor("lengths").unwrap().data(),
        [1_i64, 2].map(i64::to_le_bytes).concat()
    );

    embed(&[
        "--history",
        "new.csv",
        "--what",
        "events",
        "--out",
        "x.parquet",
    ])
    .ok();
    let rows = SerializedFileReader::new(fs::File::open(place.path("x.parquet")).unwrap()).unwrap();
    let mut people = Vec::new();
    let mut values = Vec::new();
    for row in rows.get_row_iter(None).unwrap() {
        let row = row.unwrap();
        people.push((row.get_string(0).unwrap().clone(), row.get_int(1).unwrap()));
        let list = row.get_list(2).unwrap();
        values.extend((0..list.len()).map(|at| list.get_float(at).unwrap()));
    }
    let expected = [("ada", 0), ("bob", 0), ("bob", 1)].map(|(user, at)| (user.to_string(), at));
    assert_eq!(people, expected);
    assert_eq!(values, events);
}

#[test]
fn items_that_came_later_are_added_and_recommended() {
    let place = Place::new();
    place.pretrain("r", 12, 3).ok();
    place.run(&["tune", "--run", "r", "--data", "ml"]).ok();
    let run = |words: &[&str]| place.run(&[words, &["--run", "r", "--data", "ml"]].concat());
    let weights = place.weights("r", "encoder.safetensors");
    let by = |model: &str| {
        let words = [
            "recommend",
            "--user",
            "3",
            "-k",
            "17",
            "--include-seen",
            "--format",
            "csv",
            "--model",
            model,
        ];
        run(&words).ok().out
    };
    let before = by("encoder");
    fs::write(
        place.path("new.csv"),
        "id,title,genres\n901,Brand new day (1999),Action\n902,\"Newer yet, The\",Animation|Adventure\n",
    )
    .unwrap();
    let said = run(&["add-items", "new.csv"]).ok();
    assert!(
        said.out.contains("901  Brand new day  like ") && said.err.contains("2 items"),
        "{said:?}"
    );
    run(&["add-items", "new.csv"]).fails(&["new.csv:2: another item has the id \"901\""]);

    let after = by("encoder");
    assert!(
        after.contains(",901,Brand new day (1999),") && after.contains(",902,The Newer yet,"),
        "{after}"
    );
    // The old items: in the order they had, with the scores they had.
    let items = |table: &str| -> Vec<(String, f32)> {
        let rows = table
            .lines()
            .skip(1)
            .map(|line| line.split(',').collect::<Vec<_>>());
        let old = rows.filter(|row| !row[2].starts_with("90"));
        old.map(|row| (row[2].to_string(), row[4].parse().unwrap()))
            .collect()
    };
    assert_eq!((items(&before).len(), items(&after).len()), (15, 15));
    for (before, after) in items(&before).iter().zip(items(&after)) {
        assert_eq!(before.0, after.0);
        assert!((before.1 - after.1).abs() < 1e-5, "{before:?} {after:?}");
    }
    assert!(by("user-llm").contains(",901,Brand new day (1999),"));
    fs::write(place.path("history.csv"), "user,item\nada,901\n").unwrap();
    assert!(
        !run(&["recommend", "--history", "history.csv", "--exclude-seen"])
            .ok()
            .out
            .contains(",901,")
    );
    // The run is what it was: evaluated, tuned and continued with the items it was trained with.
    assert!(place.weights("r", "encoder.safetensors") == weights);
    assert!(
        run(&["evaluate", "--no-text"])
            .ok()
            .out
            .contains("all 15 items")
    );
    place.pretrain("r", 12, 3).ok();
    assert!(place.weights("r", "encoder.safetensors") == weights);
    let vocabulary = String::from_utf8(place.weights("r", "vocabulary.json")).unwrap();
    assert!(vocabulary.contains("\"902\""));

    fs::write(place.path("bad.csv"), "id,title,genres\n903,X,Opera\n").unwrap();
    run(&["add-items", "bad.csv"])
        .fails(&["bad.csv:2: no item has the genre \"Opera\"; known are Action"]);
    fs::write(place.path("bad.csv"), "id,title\n903,Qwertz\n").unwrap();
    run(&["add-items", "bad.csv"]).fails(&["\"903\" shares no genre", "give it genres"]);
    fs::remove_file(place.path("r/added-items.jsonl")).unwrap();
    assert_eq!(by("encoder"), before);
}

#[test]
fn titles_are_read_once_and_every_command_knows_them() {
    let place = Place::new();
    let model = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = model.join("../text-encoder/tests/fixtures/tiny-bert");
    let one = |(name, weight): (&str, f64)| {
        format!("{{ name = \"{name}\", vocab_size = 0, d_embedding = 4, weight = {weight} }}")
    };
    let modalities = ["item", "gap", "hour-of-week", "title-text"];
    let modalities = modalities.into_iter().zip([1.0, 1.0, 0.0, 0.0]).map(one);
    let modalities: Vec<String> = modalities.collect();
    let modalities = format!("encoder.modalities=[{}]", modalities.join(", "));
    let model = format!("text_encoder.model={}", model.display());
    let pretrain = |patches: &[&str]| {
        let mut words = Place::pretrain_words("t", 6, 3);
        let patches = patches.iter().flat_map(|patch| ["--set", patch]);
        words.extend(patches.map(String::from));
        place.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    pretrain(&[&modalities]).fails(&["`text_encoder` = missing"]);
    let said = pretrain(&[&modalities, &model]).ok();
    assert!(
        said.err.contains("reading titles: 15 texts read"),
        "{said:#?}"
    );

    let run = |words: &[&str]| place.run(&[words, &["--run", "t", "--data", "ml"]].concat());
    let recommend = ["recommend", "--user", "3", "-k", "17", "--format", "csv"];
    let said = run(&recommend).ok();
    assert!(!said.err.contains("reading titles"), "{said:#?}");
    run(&["embed", "--all", "--out", "people.parquet"]).ok();
    let table = run(&["evaluate", "--no-text"]).ok().out;
    assert!(table.contains("all 15 items"), "{table}");

    fs::write(
        place.path("new.csv"),
        "id,title,genres\n901,The old sea (1999),Action\n",
    )
    .unwrap();
    run(&["add-items", "new.csv"]).ok();
    let said = run(&recommend).ok();
    assert!(
        said.out.contains(",901,") && said.err.contains("16 texts read"),
        "{said:#?}"
    );
    let again = run(&recommend).ok();
    assert!(
        again.out == said.out && !again.err.contains("texts read"),
        "{again:#?}"
    );

    // Nothing of the titles stands in the cache's files.
    let mut folders = vec![place.path("cache/text-vectors")];
    let mut n_files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            n_files += 1;
            let bytes = fs::read(&path).unwrap();
            assert!(
                !String::from_utf8_lossy(&bytes).contains("winter"),
                "{path:?}"
            );
        }
    }
    assert_eq!(n_files, 2);
}

#[test]
fn descriptions_are_read_while_a_store_is_prepared_and_by_no_run_on_it() {
    let place = Place::new();
    let shop = place.path("shop");
    fs::create_dir_all(&shop).unwrap();
    let mut log = "member,sku,stars,ts\n".to_string();
    for member in 0..12 {
        for at in 0..9 {
            let item = (member * 3 + at * 4) % 15;
            writeln!(
                log,
                "canary-{member},sku-{item},{},{}",
                1 + at % 5,
                1000 + at
            )
            .unwrap();
        }
    }
    fs::write(shop.join("log.csv"), log).unwrap();
    let items = (0..15).map(|n| format!("sku-{n},Thing {n},canary of the {}\n", WORDS[n]));
    let items = format!("sku,name,about\n{}", items.collect::<String>());
    fs::write(shop.join("items.csv"), items).unwrap();
    let bert = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bert = bert.join("../text-encoder/tests/fixtures/tiny-bert");
    let mut words = Place::pretrain_words("", 6, 3).split_off(5);
    for patch in [
        "data.dataset=shop",
        "data.tables={ events = \"log.csv\", user = \"member\", item = \"sku\", \
         rating = \"stars\", time = \"ts\", catalogue = { path = \"items.csv\", id = \"sku\", \
         title = \"name\", description = \"about\" } }",
        "encoder.modalities=[\
         { name = \"item\", vocab_size = 0, d_embedding = 4, weight = 1.0 }, \
         { name = \"title-text\", vocab_size = 0, d_embedding = 4, weight = 0.0 }, \
         { name = \"description-text\", vocab_size = 0, d_embedding = 4, weight = 0.0 }]",
        &format!("text_encoder.model={}", bert.display()),
    ] {
        words.extend(["--set".to_string(), patch.to_string()]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let config = place.run(&[&["config"], &words[..]].concat()).ok().out;
    fs::write(place.path("shop.toml"), config).unwrap();

    let prepare = [
        "data",
        "prepare",
        "--config",
        "shop.toml",
        "--out",
        "store",
        "-vvv",
    ];
    let prepared = place.run(&prepare).ok();
    for what in ["reading titles: 15", "reading descriptions: 15"] {
        assert!(prepared.err.contains(what), "{prepared:#?}");
    }
    let pretrain = |data: &str| {
        let run = format!("runs/{data}");
        let words = [
            "pretrain",
            "--config",
            "shop.toml",
            "--data",
            data,
            "--run",
            &run,
            "-vvv",
        ];
        let said = place.run(&words).ok();
        assert!(!said.err.contains("canary"), "{said:#?}");
        (said.err, place.weights(&run, "encoder.safetensors"))
    };
    // All that is known of the texts is the store's.
    fs::remove_dir_all(place.path("cache/text-vectors")).unwrap();
    let (said, of_store) = pretrain("store");
    assert!(!said.contains("texts read"), "{said}");
    let (said, of_tables) = pretrain("shop");
    assert!(said.contains("reading descriptions: 15"), "{said}");
    assert!(of_store == of_tables, "the weights differ");
    // Two logs of everything that is read and written.
    let validated = place
        .run(&["data", "validate", "--config", "shop.toml", "-vvv"])
        .ok();
    for said in [&prepared, &validated] {
        assert!(
            !said.err.contains("canary") && !said.out.contains("canary"),
            "{said:#?}"
        );
    }

    // A store that was prepared without them says what to do.
    let other = ["data", "prepare", "ml", "--out", "films"];
    place.run(&other).ok();
    let words = [
        "pretrain",
        "--config",
        "shop.toml",
        "--data",
        "films",
        "--run",
        "runs/films",
    ];
    place
        .run(&words)
        .fails(&["description-text", "data prepare --config"]);
}
