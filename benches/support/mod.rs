//! What every bench needs: timed repetitions, peak memory, one line a figure.
//!
//! Not a benchmark library, because its figures are compared with those of other programs
//! (`benches/peers/`), each in a process of its own: neither side has the other's threads
//! spinning beside it, and the peak memory is that of one measure.
#![expect(
    clippy::print_stdout,
    reason = "a bench talks to a person or to a script"
)]

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::Parser;
use user_llm::trainer::backend;

#[derive(Parser, Debug)]
struct Options {
    /// Only this one, in this process; all, each in its own process, otherwise
    measure: Option<String>,
    /// Print JSON, a line a figure
    #[arg(long)]
    json: bool,
    /// Print the names of the measures and nothing else
    #[arg(long)]
    list: bool,
    /// Tiny and once, to see that it runs
    #[arg(long)]
    smoke: bool,
    /// As in `user-llm --backend`
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Cargo's, of no meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured: a name, and what gives its seconds.
pub(crate) struct Measure {
    /// The peers' measure of the same name is its counterpart.
    pub(crate) name: &'static str,
    /// The seconds of each repetition.
    pub(crate) run: fn(&Setting) -> anyhow::Result<Vec<f64>>,
}

/// Where a measure runs and how thorough it is.
pub(crate) struct Setting {
    /// Where; not tracking gradients.
    pub(crate) device: Device,
    smoke: bool,
}

impl Setting {
    /// The full size, or the one of a smoke run.
    pub(crate) fn size(&self, full: usize, smoke: usize) -> usize {
        if self.smoke { smoke } else { full }
    }

    /// Repetitions that warm up and do not count, and those that are timed.
    pub(crate) fn repetitions(&self, timed: usize) -> (usize, usize) {
        if self.smoke { (0, 1) } else { (2, timed) }
    }

    /// The seconds of each timed repetition of something that takes no state along.
    pub(crate) fn time(&self, timed: usize, mut f: impl FnMut()) -> Vec<f64> {
        let (warm_up, timed) = self.repetitions(timed);
        for _ in 0..warm_up {
            f();
        }
        let lap = |_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        };
        (0..timed).map(lap).collect()
    }
}

/// Run what the command line asks for.
pub(crate) fn main(measures: &[Measure]) -> anyhow::Result<()> {
    let options = Options::parse();
    if options.list {
        for measure in measures {
            println!("{}", measure.name);
        }
        return Ok(());
    }
    let Some(name) = &options.measure else {
        return measures.iter().try_for_each(run_apart);
    };
    let names = || measures.iter().map(|m| m.name).collect::<Vec<_>>();
    let measure = measures
        .iter()
        .find(|measure| measure.name == name)
        .with_context(|| format!("no measure '{name}'; there are: {}", names().join(", ")))?;
    let setting = Setting {
        device: backend::device(&options.backend)?,
        smoke: options.smoke,
    };
    let seconds = median((measure.run)(&setting)?);
    let memory = peak_megabytes()?;
    if options.json {
        for (name, unit, value) in [
            (name.clone(), "s", seconds),
            (format!("{name}, peak memory"), "MB", memory),
        ] {
            println!(r#"{{"name": "{name}", "unit": "{unit}", "value": {value}}}"#);
        }
    } else {
        println!("{name:<24} {seconds:>10.4} s {memory:>8.0} MB");
    }
    Ok(())
}

/// The same command line, for one measure.
fn run_apart(measure: &Measure) -> anyhow::Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .arg(measure.name)
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("{} failed: {status}", measure.name);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

/// Most memory that this process ever had, as Linux counts it.
fn peak_megabytes() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("peak memory is read from /proc/self/status, which Linux alone has")?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
        .context("/proc/self/status has no VmHWM")?;
    Ok(kibibytes.trim().parse::<f64>()? * 1024.0 / 1e6)
}
