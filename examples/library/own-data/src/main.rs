//! The user encoder in a project of its own, on data of its own.
//!
//! ```text
//! cargo run --release --manifest-path examples/library/own-data/Cargo.toml
//! ```
//!
//! 64 listeners walk through a shop of 40 records: each starts somewhere and always goes on by the
//! same stride, 1 to 4, which nobody tells the encoder. It learns to see the stride in a history.
#![recursion_limit = "256"]

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use user_encoder::{EventBatch, ModalityConfig, UNKNOWN, UserEncoderConfig};

const N_RECORDS: i64 = 40;
const FIRST_RECORD: i64 = UNKNOWN as i64 + 1; // ids 0 and 1 are padding and unknown
const LENGTH: usize = 12;

/// The records of one listener, in the order they were heard.
fn history(start: i64, stride: i64) -> Vec<i64> {
    let record = |at| FIRST_RECORD + (start + at * stride) % N_RECORDS;
    (0..LENGTH as i64).map(record).collect()
}

/// Histories of one length as the encoder reads them: one modality, one value an event.
fn batch(histories: &[Vec<i64>], device: &Device) -> EventBatch {
    let (n, length) = (histories.len(), histories[0].len());
    let ids = TensorData::new(histories.concat(), [n, length, 1]);
    EventBatch::new(
        vec![Tensor::<3, Int>::from_data(ids, device)],
        vec![length; n],
    )
}

fn main() {
    let device = Device::flex();
    device.seed(7);
    let record = ModalityConfig::new("record".into(), (FIRST_RECORD + N_RECORDS) as usize, 32);
    let config = UserEncoderConfig::new(vec![record])
        .with_d_model(32)
        .with_n_heads(4)
        .with_n_layers(2);
    let mut encoder = config.init(&device.clone().autodiff());

    let listeners: Vec<_> = (0..64)
        .map(|user| history(user * 7, 1 + user % 4))
        .collect();
    let events = batch(&listeners, &device.clone().autodiff());
    let mut optimizer = AdamWConfig::new().init();
    for step in 0..=150 {
        let loss = encoder.next_event_loss(&events).total;
        if step % 30 == 0 {
            println!(
                "step {step:>3}: loss {:.3}",
                loss.clone().into_scalar::<f32>()
            );
        }
        let grads = GradientsParams::from_grads(loss.backward(), &encoder);
        encoder = optimizer.step(3e-3, encoder, grads);
    }

    // What a listener heard, but for the last: which will it be?
    let (last, heard) = listeners[2].split_last().expect("nobody heard nothing");
    let scores = encoder
        .valid()
        .next_event_logits(&batch(&[heard.to_vec()], &device), 0);
    let best = scores.argmax(1).into_scalar::<i64>();
    let records: Vec<i64> = heard.iter().map(|id| id - FIRST_RECORD).collect();
    println!(
        "after {records:?}: {}, and it was {}",
        best - FIRST_RECORD,
        last - FIRST_RECORD
    );
}
