//! Titles are read once by a text encoder that does not train, and every file and command knows
//! their vectors.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use datasets::Item;
use trainer::ranking::RankItems;
use trainer::texts::TextReader;
use trainer::{Monitor, Prepared, RunConfig, RunFolder, Session, Silent, pretrain};

use crate::toy;

/// The tiny BERT of the text encoder's own tests.
pub(crate) fn tiny_bert() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../text-encoder/tests/fixtures/tiny-bert")
}

pub(crate) fn reader(model: &Path, cache: &Path) -> TextReader {
    TextReader::new(model, cache, &Device::flex()).unwrap()
}

fn config(patches: &[&str]) -> RunConfig {
    let titles = [
        "encoder.modalities=[\
           { name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }, \
           { name = \"rating\", vocab_size = 0, d_embedding = 3, weight = 1.0 }, \
           { name = \"title-text\", vocab_size = 0, d_embedding = 4, weight = 0.0 }]",
        "text_encoder.model=tiny",
    ];
    toy::encoder_only(&[&titles[..], patches].concat())
}

fn prepared(config: &RunConfig, cache: &Path) -> Prepared {
    let reader = reader(&tiny_bert(), cache);
    let prepared = toy::prepared(config);
    prepared.with_texts_read(&reader, &[], &mut Silent).unwrap()
}

/// Notes how many texts were read when, and how many had been before.
#[derive(Default)]
pub(crate) struct Counts(pub(crate) Vec<usize>);

impl Monitor for Counts {
    fn begin(&mut self, _stage: &str, done: usize, _total: usize) {
        self.0.push(done);
    }
    fn step(&mut self, done: usize, _figures: &[(&str, f64)]) {
        self.0.push(done);
    }
    fn validated(&mut self, _done: usize, _figures: &[(&str, f64)]) {}
    fn end(&mut self, _summary: &str) {}
}

#[test]
fn texts_are_read_once_and_reading_goes_on_where_it_stopped() {
    let cache = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..1100).map(|n| format!("toy story {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let read = |texts: &[&str]| {
        let mut counts = Counts::default();
        let reader = reader(&tiny_bert(), cache.path());
        let vectors = reader.read("titles", texts, &mut counts).unwrap();
        assert_eq!((vectors.width, vectors.len()), (24, texts.len()));
        (vectors.values, counts.0)
    };
    let (first, counts) = read(&texts);
    assert_eq!(counts, [0, 512, 1024, 1100]);
    let whole = text_encoder::TextEncoder::load(&tiny_bert(), &Device::flex()).unwrap();
    let whole: Vec<f32> = whole.encode(&texts).unwrap().into_data().iter().collect();
    let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5;
    assert!(!first.iter().zip(&whole).any(differs));

    let none: [usize; 0] = [];
    assert_eq!(read(&texts), (first.clone(), none.to_vec()));
    // One file is cut short, another is gone.
    let folder = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap();
    let files = fs::read_dir(folder.path()).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 3);
    fs::remove_file(&files[0]).unwrap();
    let bytes = fs::read(&files[1]).unwrap();
    fs::write(&files[1], &bytes[..bytes.len() - 1]).unwrap();
    let (again, counts) = read(&texts);
    assert_eq!((again, counts.len()), (first.clone(), 3));
    // Texts that came later are few.
    let (more, counts) = read(&[&texts[..], &["a", "the"]].concat());
    assert_eq!(more[..first.len()], first);
    assert_eq!(counts, [1024, 1102]);
}

#[test]
fn what_is_saved_of_a_run_that_reads_titles_gives_the_same_scores_without_their_vectors() {
    let _alone = toy::alone();
    let cache = tempfile::tempdir().unwrap();
    let config = config(&["objective.workers=2"]);
    let prepared = prepared(&config, cache.path());
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path(), &config, &prepared).unwrap();
    let checkpoints = run.pretraining().unwrap();
    let mut silent = Silent;
    let session = Session::new(&mut silent).saving(&checkpoints);
    let (encoder, outcome) = pretrain(&prepared, &config, &device, session).unwrap();
    let trained: Vec<&str> = outcome
        .trained
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    let frozen: Vec<&&str> = trained
        .iter()
        .filter(|path| path.contains("frozen"))
        .collect();
    let projection = "embedding.frozen.0.projection";
    assert_eq!(
        frozen,
        [
            &format!("{projection}.weight"),
            &format!("{projection}.bias")
        ]
    );
    // No head predicts a title's vector: two modalities have one.
    assert!(trained.contains(&"heads.1.weight") && !trained.contains(&"heads.2.weight"));

    run.save_encoder(encoder.clone()).unwrap();
    let bytes = fs::read(folder.path().join("encoder.safetensors")).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("vectors"));
    let history = prepared.dataset.histories[3].events.slice(..);
    let scores = |encoder: &user_encoder::UserEncoder, prepared: &Prepared| -> Vec<f32> {
        let logits = encoder.item_logits(prepared, &[history], &device);
        logits.into_data().iter().collect()
    };
    let expected = scores(&encoder, &prepared);
    let loaded = run.load_encoder(&prepared, &device).unwrap();
    assert_eq!(scores(&loaded, &prepared), expected);
    // A run that is done goes on from its checkpoint to the same encoder.
    let session = Session::new(&mut silent).saving(&checkpoints);
    let (resumed, _) = pretrain(&prepared, &config, &device, session).unwrap();
    assert_eq!(scores(&resumed, &prepared), expected);
    // And the titles are part of what it knows.
    let mut blind = loaded;
    let n_rows = prepared.dataset.catalogue.len() + 2;
    blind
        .embedding
        .set_vectors(vec![Some(Tensor::zeros([n_rows, 24], &device))]);
    assert_ne!(scores(&blind, &prepared), expected);
}

#[test]
fn items_that_came_later_have_their_titles_read() {
    let _alone = toy::alone();
    let cache = tempfile::tempdir().unwrap();
    let config = config(&[]);
    let prepared = prepared(&config, cache.path());
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path(), &config, &prepared).unwrap();
    device.seed(4);
    run.save_encoder(prepared.new_encoder(&device)).unwrap();
    let new = |title: &str| Item {
        id: "new".into(),
        title: title.into(),
        year: None,
        genres: vec![1],
    };
    let scores_after = |title: &str| -> Vec<f32> {
        let reader = reader(&tiny_bert(), cache.path());
        let larger = prepared.clone().with_added_items(vec![new(title)]).unwrap();
        let larger = larger.with_texts_read(&reader, &[], &mut Silent).unwrap();
        let encoder = run.load_encoder(&larger, &device).unwrap();
        let mut history = larger.dataset.histories[0].events[..2].to_vec();
        history[1].item = 19;
        let logits = encoder.item_logits(&larger, &[history.as_slice().into()], &device);
        assert_eq!(logits.dims(), [1, 20]);
        logits.into_data().iter().collect()
    };
    assert_ne!(scores_after("the long voyage"), scores_after("toy city"));
}

#[test]
#[should_panic(expected = "have not been computed yet")]
fn an_encoder_that_reads_titles_is_not_made_before_they_are_read() {
    toy::prepared(&config(&[])).new_encoder(&Device::flex());
}

#[test]
fn a_run_does_not_go_on_with_another_text_encoder() {
    let _alone = toy::alone();
    let cache = tempfile::tempdir().unwrap();
    let config = config(&["pretraining.steps=2"]);
    let one = prepared(&config, cache.path());
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path(), &config, &one).unwrap();
    let checkpoints = run.pretraining().unwrap();
    let mut silent = Silent;
    let session = Session::new(&mut silent).saving(&checkpoints);
    pretrain(&one, &config, &Device::flex(), session).unwrap();
    RunFolder::open(folder.path(), &config, &one).unwrap();

    let other = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(tiny_bert().join(name), other.path().join(name)).unwrap();
    }
    let path = other.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("1e-12", "1e-3")).unwrap();
    let reader = reader(other.path(), cache.path());
    let two = toy::prepared(&config);
    let two = two.with_texts_read(&reader, &[], &mut Silent).unwrap();
    let error = RunFolder::open(folder.path(), &config, &two).unwrap_err();
    assert!(error.to_string().contains("another config"), "{error}");
}

#[test]
fn descriptions_are_read_beside_titles_and_an_item_without_one_has_zeros() {
    let _alone = toy::alone();
    let cache = tempfile::tempdir().unwrap();
    let both = [
        "encoder.modalities=[\
           { name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }, \
           { name = \"description-text\", vocab_size = 0, d_embedding = 4, weight = 0.0 }, \
           { name = \"title-text\", vocab_size = 0, d_embedding = 4, weight = 0.0 }]",
        "text_encoder.model=tiny",
        "pretraining.steps=2",
    ];
    let config = toy::encoder_only(&both);
    let reader = reader(&tiny_bert(), cache.path());
    let device = Device::flex();
    let scores = |texts: &[String]| -> Vec<f32> {
        let prepared = toy::prepared(&config);
        let prepared = prepared
            .with_texts_read(&reader, texts, &mut Silent)
            .unwrap();
        device.seed(4);
        let encoder = prepared.new_encoder(&device);
        let history = prepared.dataset.histories[3].events.slice(..);
        let logits = encoder.item_logits(&prepared, &[history], &device);
        logits.into_data().iter().collect()
    };
    let mut texts: Vec<String> = (0..19).map(|n| format!("a story of {n} seas")).collect();
    let all = scores(&texts);
    let met = toy::dataset().histories[3].events.last().unwrap().item as usize;
    texts[met].clear();
    let but_one = scores(&texts);
    assert_ne!(all, but_one, "descriptions are not read");

    texts[met] = "zeros".into();
    assert_ne!(scores(&texts), but_one);
    let vectors = reader.read("texts", &["", "sea", ""], &mut Silent).unwrap();
    let alone = reader.read("texts", &["sea"], &mut Silent).unwrap();
    let zeros = vec![0.0; 24];
    assert_eq!(
        vectors.values,
        [zeros.clone(), alone.values, zeros].concat()
    );

    let prepared = toy::prepared(&config);
    let none = vec![String::new(); 19];
    let error = prepared
        .with_texts_read(&reader, &none, &mut Silent)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`encoder.modalities.name` = description-text"),
        "{error}"
    );
}
