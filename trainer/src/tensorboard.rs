//! The curves of a run for [TensorBoard](https://www.tensorflow.org/tensorboard): scalars alone.
//!
//! An event file is a sequence of records (length, its checksum, an `Event` in protocol buffers, its
//! checksum), as `tensorflow/core/lib/io/record_writer.h` and `event.proto` have it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::Error;
use crate::run_folder::series;

/// Name of an event file, before the second at which it begins.
const PREFIX: &str = "events.out.tfevents.";

/// An event file that goes on as `metrics.jsonl` does.
///
/// Its clock is that of training: the pauses between sessions are not in it.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
    /// Seconds since 1970, when training began, and seconds of training since.
    begin: u64,
    seconds: f64,
}

impl EventFile {
    /// The event file of a run folder, with what is in its metrics and nothing else.
    ///
    /// It is written anew: what was written down of steps that come again is gone from the metrics.
    pub(crate) fn open(folder: &Path, metrics: &[Value]) -> Result<Self, Error> {
        let (path, begin) = Self::place(folder)?;
        let file = File::create(&path).map_err(Error::io("write", &path))?;
        let mut events = Self {
            path,
            file,
            begin,
            seconds: 0.0,
        };
        let version = message(|event| {
            double(event, 1, begin as f64);
            bytes(event, 3, b"brain.Event:2");
        });
        let mut all = record(&version);
        for line in metrics {
            all.extend(
                events
                    .event(line)
                    .map(|event| record(&event))
                    .unwrap_or_default(),
            );
        }
        events.write(&all)?;
        Ok(events)
    }

    /// Write the figures of a line of the metrics.
    pub(crate) fn append(&mut self, line: &Value) -> Result<(), Error> {
        match self.event(line) {
            Some(event) => self.write(&record(&event)),
            None => Ok(()),
        }
    }

    /// The file that is there, or a new one's path, and when it begins.
    fn place(folder: &Path) -> Result<(PathBuf, u64), Error> {
        let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        for entry in entries {
            let path = entry.map_err(Error::io("read", folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let begin = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split('.').next());
            if let Some(begin) = begin.and_then(|begin| begin.parse().ok()) {
                return Ok((path, begin));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        Ok((folder.join(format!("{PREFIX}{now}.user-llm")), now))
    }

    /// Every number of a line under the name of its series; `None` where there is no step.
    fn event(&mut self, line: &Value) -> Option<Vec<u8>> {
        self.seconds += line["seconds"].as_f64().unwrap_or(0.0);
        let stage = series(line)?;
        let step = line["step"].as_u64()?;
        let values = line.as_object()?.iter().filter(|(key, _)| *key != "step");
        let values = values.filter_map(|(key, value)| Some((key, value.as_f64()?)));
        let is_validation = line["loss"].is_null();
        let summary = message(|summary| {
            for (key, value) in values {
                // A step and its validation have the same number.
                let key = match (key.as_str(), is_validation) {
                    ("seconds", true) => "validation_seconds",
                    (key, _) => key,
                };
                let value = message(|one| {
                    bytes(one, 1, format!("{stage}/{key}").as_bytes());
                    float(one, 2, value as f32);
                });
                bytes(summary, 1, &value);
            }
        });
        Some(message(|event| {
            double(event, 1, self.begin as f64 + self.seconds);
            integer(event, 2, step);
            bytes(event, 5, &summary);
        }))
    }

    fn write(&mut self, all: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(all);
        written.map_err(Error::io("write", &self.path))
    }
}

/// A message with its length and checksums.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let check = |bytes: &[u8]| masked_crc32c(bytes).to_le_bytes();
    [&length[..], &check(&length), message, &check(message)].concat()
}

/// A message of protocol buffers: fields one after another.
fn message(fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Vec::new();
    fields(&mut message);
    message
}

/// A field's number with the kind of what follows.
fn key(to: &mut Vec<u8>, field: u8, kind: u8) {
    to.push(field << 3 | kind);
}

fn integer(to: &mut Vec<u8>, field: u8, value: u64) {
    key(to, field, 0);
    varint(to, value);
}

fn double(to: &mut Vec<u8>, field: u8, value: f64) {
    key(to, field, 1);
    to.extend(value.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u8, value: &[u8]) {
    key(to, field, 2);
    varint(to, value.len() as u64);
    to.extend(value);
}

fn float(to: &mut Vec<u8>, field: u8, value: f32) {
    key(to, field, 5);
    to.extend(value.to_le_bytes());
}

/// Seven bits a byte, the lowest first.
fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// A checksum that stays one where checksums are themselves checked.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's cyclic redundancy check, bit by bit: a line of metrics has some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), fold);
    !bytes.iter().fold(!0, byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Event files in a folder.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn the_checksum_is_castagnoli_s() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// Written by TensorBoard 2.21's own `RecordWriter`: version at 100 s, then step 300 at 102.5 s
    /// with a loss of 0.5 and 2.5 seconds.
    #[test]
    fn a_file_has_the_bytes_that_tensorboard_writes() {
        let golden = "1800000000000000a37f4b220900000000000059401a0d627261696e2e4576656e743a32b0a1d5e4\
                      4300000000000000b18525a0090000000000a0594010ac022a350a170a10707265747261696e696e\
                      672f6c6f7373150000003f0a1a0a13707265747261696e696e672f7365636f6e6473150000204000\
                      27191d";
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("{PREFIX}100.user-llm")), "old").unwrap();
        let mut events = EventFile::open(folder.path(), &[]).unwrap();
        let line = json!({ "stage": "pretraining", "step": 300, "loss": 0.5, "seconds": 2.5 });
        events.append(&line).unwrap();
        let found = fs::read(&files(folder.path())[0]).unwrap();
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, golden);
    }

    #[test]
    fn a_run_that_goes_on_has_one_file_with_every_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let line =
            |step: u64| json!({ "stage": "tuning", "step": step, "loss": 1.0, "seconds": 1 });
        let all: Vec<Value> = (1..=5).map(line).collect();
        let mut whole = EventFile::open(folder.path(), &[]).unwrap();
        for line in &all {
            whole.append(line).unwrap();
        }
        let expected = fs::read(&files(folder.path())[0]).unwrap();
        // Steps 4 and 5 were not saved and come again.
        let mut resumed = EventFile::open(folder.path(), &all[..3]).unwrap();
        for line in &all[3..] {
            resumed.append(line).unwrap();
        }
        resumed.append(&json!({ "note": "no step" })).unwrap();
        assert_eq!(files(folder.path()).len(), 1);
        assert_eq!(fs::read(&files(folder.path())[0]).unwrap(), expected);
    }
}
