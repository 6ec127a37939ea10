//! A batch that is shared out trains as the whole one.

use burn::tensor::Device;
use trainer::{Session, Silent, pretrain, tune};

use crate::toy;

/// Two workers, and two devices, on a half of each batch give the curve of one on the whole. Without
/// dropout, which each draws for its own part.
#[test]
fn a_batch_that_is_shared_out_gives_the_same_loss_curve() {
    let _alone = toy::alone();
    let curves = |parts: &[&str]| {
        let plain = [
            "encoder.dropout=0",
            "encoder.dropout_input=0",
            "perceiver.dropout=0",
            "pretraining.steps=20",
            "tuning.training.steps=20",
        ];
        let config = toy::config(&[&plain, parts].concat());
        let prepared = toy::prepared(&config);
        let device = Device::flex();
        let mut silent = Silent;
        let session = Session::new(&mut silent);
        let (_, pretrained) = pretrain(&prepared, &config, &device, session).unwrap();
        let tasks = toy::tasks(&prepared, &config);
        let model = toy::user_llm(&prepared, &config);
        let session = Session::new(&mut silent);
        let (_, tuned) = tune(model, &tasks, &prepared, &config, session).unwrap();
        [pretrained.losses, tuned.losses].concat()
    };
    let whole = curves(&["objective.workers=1", "tuning.workers=1"]);
    assert_eq!(whole.len(), 40);
    for parts in [
        ["objective.workers=2", "tuning.workers=2"],
        [
            "objective.devices=[\"flex\", \"flex\"]",
            "tuning.devices=[\"flex\", \"flex\"]",
        ],
    ] {
        for (step, (a, b)) in curves(&parts).iter().zip(&whole).enumerate() {
            assert!(
                (a - b).abs() < 1e-3 * b.abs(),
                "{parts:?}, step {step}: {a} is not {b}"
            );
        }
    }
}
