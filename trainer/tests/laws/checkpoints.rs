//! Checkpoints are whole or absent.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, Param, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use trainer::Checkpoints;

use crate::toy;

#[derive(Module, Debug)]
struct Point {
    at: Param<Tensor<1>>,
}

fn point(x: f32) -> Point {
    let device = Device::flex().autodiff();
    Point {
        at: Param::from_tensor(Tensor::from_floats([x, -x, 0.5], &device).require_grad()),
    }
}

fn optimizer() -> ModuleOptimizer {
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
    let point = point(2.0);
    let grads = point.at.val().powi_scalar(2).sum().backward();
    let grads = GradientsParams::from_grads(grads, &point);
    optimizer.step(0.1, point, grads);
    optimizer
}

fn save(
    checkpoints: &Checkpoints,
    step: usize,
    best: Option<(f64, usize)>,
) -> Result<PathBuf, trainer::Error> {
    let all = ParamGroup::from_regex(".*").unwrap();
    checkpoints.save(step, best, &point(step as f32), &all, &optimizer())
}

fn open(folder: &Path) -> Checkpoints {
    Checkpoints::new(folder, "print").unwrap()
}

fn latest(folder: &Path) -> Option<usize> {
    open(folder).latest().unwrap().map(|(_, state)| state.step)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    // A figure that `serde_json` would read back with another last bit.
    let best = Some((0.132_147_789_456_123_1 / 3.0, 4));
    save(&open(folder.path()), 4, best).unwrap();
    let (path, state) = open(folder.path()).latest().unwrap().unwrap();
    assert_eq!((state.step, state.best), (4, best));
    let model = Checkpoints::load_model(&path, point(9.0)).unwrap();
    assert_eq!(toy::parameters(&model), toy::parameters(&point(4.0)));
    Checkpoints::load_optimizer(&path, AdamWConfig::new().init()).unwrap();
}

#[test]
fn the_last_two_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    for step in [2, 4, 6, 8] {
        save(&checkpoints, step, Some((0.5, 2))).unwrap();
    }
    assert_eq!(
        names(folder.path()),
        ["step-00000002", "step-00000006", "step-00000008"]
    );
    save(&checkpoints, 10, Some((0.6, 10))).unwrap();
    assert_eq!(names(folder.path()), ["step-00000008", "step-00000010"]);
}

/// Every file of a checkpoint, damaged in turn: cut short at several places, emptied, gone, or
/// with one bit flipped at many places.
#[test]
fn a_checkpoint_with_any_damage_is_passed_over_for_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    save(&open(folder.path()), 2, None).unwrap();
    let newest = save(&open(folder.path()), 4, Some((0.25, 4))).unwrap();
    let files = names(&newest);
    assert_eq!(
        files,
        ["model.bpk", "optimizer.bpk", "state.json", "state.sha256"]
    );
    for file in files {
        let path = newest.join(&file);
        let whole = fs::read(&path).unwrap();
        let n = whole.len();
        let cuts = [0, 1, n / 2, n - 1].map(|at| whole[..at].to_vec());
        let flips = (0..n * 8).step_by((n / 40).max(1) * 8 + 3).map(|bit| {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        });
        for damaged in cuts.into_iter().chain(flips) {
            fs::write(&path, damaged).unwrap();
            assert_eq!(
                latest(folder.path()),
                Some(2),
                "{file} is damaged and was taken"
            );
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(latest(folder.path()), Some(2), "{file} is gone");
        fs::write(&path, whole).unwrap();
        assert_eq!(latest(folder.path()), Some(4));
    }
}

#[test]
fn a_damaged_checkpoint_is_replaced_when_its_step_comes_again_and_later_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    for step in [2, 4, 6] {
        save(&checkpoints, step, Some((0.5, 2))).unwrap();
    }
    for step in [4, 6] {
        fs::write(checkpoints.at(step).join("model.bpk"), "damaged").unwrap();
    }
    assert_eq!(latest(folder.path()), Some(2));
    save(&checkpoints, 3, None).unwrap();
    assert_eq!(latest(folder.path()), Some(3));
    assert_eq!(names(folder.path()), ["step-00000002", "step-00000003"]);

    fs::write(checkpoints.at(3).join("model.bpk"), "damaged").unwrap();
    save(&checkpoints, 3, None).unwrap();
    assert_eq!(latest(folder.path()), Some(3));
}

#[test]
fn what_a_killed_save_leaves_is_ignored_and_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    let partial = folder.path().join(".step-00000004.partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("model.bpk"), "half").unwrap();
    assert_eq!(latest(folder.path()), None);
    save(&checkpoints, 2, None).unwrap();
    assert_eq!(latest(folder.path()), Some(2));
    save(&checkpoints, 4, None).unwrap();
    assert_eq!(latest(folder.path()), Some(4));
    assert!(!partial.exists());
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&open(folder.path()), 2, None).unwrap();
    let other = Checkpoints::new(folder.path(), "another print").unwrap();
    let message = other.latest().unwrap_err().to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(
        message.contains("another config or other data"),
        "{message}"
    );
}

#[test]
fn a_save_that_fails_leaves_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    save(&checkpoints, 2, None).unwrap();
    // A file where the new checkpoint would be put together: no folder can be made there, by
    // nobody, root included.
    fs::write(folder.path().join(".step-00000004.partial"), "in the way").unwrap();
    let message = save(&checkpoints, 4, None).unwrap_err().to_string();
    assert!(message.contains(".step-00000004.partial"), "{message}");
    assert_eq!(latest(folder.path()), Some(2));
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let message = Checkpoints::new(file.join("below"), "print")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("cannot create") && message.contains("below"),
        "{message}"
    );
}

#[test]
fn weights_of_another_shape_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&open(folder.path()), 2, None).unwrap();
    let device = Device::flex().autodiff();
    let other = Point {
        at: Param::from_tensor(Tensor::from_floats([1.0, 2.0], &device)),
    };
    let message = Checkpoints::load_model(&path, other)
        .unwrap_err()
        .to_string();
    assert!(message.contains("do not fit the model"), "{message}");
}
