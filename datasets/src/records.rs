//! Small tables that people write themselves: CSV with a header, or one JSON object a line.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::Error;
use crate::error::{MAX_DETAIL, shorten};

/// A file's records, each with its line: `.csv` as CSV, `.jsonl` and `.ndjson` as JSON lines.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<(u64, T)>, Error> {
    let text = fs::read(path).map_err(|source| Error::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let records = match extension.as_deref() {
        Some("csv") => csv(path, &text)?,
        Some("jsonl" | "ndjson") => json_lines(path, &text)?,
        _ => {
            let reason = "expected a name that ends in .csv (with a header) or .jsonl";
            return Err(bad(path, 1, reason));
        }
    };
    match records.is_empty() {
        true => Err(Error::Empty {
            file: path.to_path_buf(),
        }),
        false => Ok(records),
    }
}

fn csv<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<Vec<(u64, T)>, Error> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text);
    // A byte order mark is what some spreadsheets begin with.
    let headers = reader.headers().map_err(|error| of_csv(path, 1, &error))?;
    let headers: csv::StringRecord = headers
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}'))
        .collect();
    let mut records = Vec::new();
    for row in reader.records() {
        let at = |row: &csv::StringRecord| row.position().map_or(1, csv::Position::line);
        let last = records.last().map_or(1, |(line, _)| *line);
        let row = row.map_err(|error| of_csv(path, last + 1, &error))?;
        let record = row.deserialize(Some(&headers));
        let record = record.map_err(|error| of_csv(path, at(&row), &error))?;
        records.push((at(&row), record));
    }
    Ok(records)
}

fn json_lines<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<Vec<(u64, T)>, Error> {
    let lines = text.split(|&byte| byte == b'\n').zip(1..);
    lines
        .filter(|(line, _)| !line.trim_ascii().is_empty())
        .map(|(text, line)| match serde_json::from_slice(text) {
            Ok(record) => Ok((line, record)),
            Err(error) => {
                // Its own "at line 1 column 7" would contradict ours.
                let reason = error.to_string();
                let reason = reason.split(" at line ").next().unwrap_or_default();
                let reason = shorten(reason, MAX_DETAIL);
                Err(bad(
                    path,
                    line,
                    format!("{reason}, at column {}", error.column()),
                ))
            }
        })
        .collect()
}

fn of_csv(path: &Path, line: u64, error: &csv::Error) -> Error {
    let reason = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} columns where the header has {expected_len}"),
        _ => "is not CSV in UTF-8".to_string(),
    };
    bad(path, line, reason)
}

/// A record that is not what it must be.
pub(crate) fn bad(path: &Path, line: u64, reason: impl Into<String>) -> Error {
    Error::Record {
        file: path.to_path_buf(),
        line,
        reason: reason.into(),
    }
}
