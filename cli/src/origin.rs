//! Where figures come from: this command, this machine, this commit.

use std::process::{Command, Stdio};

use trainer::results::Origin;

/// After these commands, this one.
pub(crate) fn after(mut commands: Vec<String>, backend: &str) -> Origin {
    let words = std::env::args().skip(1).map(|word| quoted(&word));
    let words: Vec<String> = std::iter::once("user-llm".to_string())
        .chain(words)
        .collect();
    commands.push(words.join(" "));
    Origin {
        commands,
        machine: machine(),
        backend: backend.to_string(),
        commit: commit(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    }
}

/// A word as a shell has to be given it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Processor and threads.
fn machine() -> String {
    let there = std::thread::available_parallelism().map_or(1, |n| n.get());
    // What the CPU backends keep to.
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    let asked = asked.and_then(|asked| asked.parse::<usize>().ok());
    let used = asked.filter(|&n| n > 0).map_or(there, |n| n.min(there));
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    match used == there {
        true => format!("{there} threads of {model}"),
        false => format!("{used} of {there} threads of {model}"),
    }
}

/// The commit that is checked out where the command runs; `-dirty` behind it if files differ.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let commit = String::from_utf8(output.stdout).ok()?;
    Some(commit.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        assert_eq!(quoted("--run=runs/a-1"), "--run=runs/a-1");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
