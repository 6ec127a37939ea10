//! Who watches a long job: a dashboard, a bar, plain lines, or nobody.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

mod dashboard;

pub use dashboard::Dashboard;

/// Told how a long job goes on; asked whether it should stop.
pub trait Monitor {
    /// A stage of `total` steps begins, `done` of them done already.
    fn begin(&mut self, stage: &str, done: usize, total: usize);
    /// `done` steps are done; the figures are of the last.
    fn step(&mut self, done: usize, figures: &[(&str, f64)]);
    /// A validation after `done` steps.
    fn validated(&mut self, done: usize, figures: &[(&str, f64)]);
    /// The stage is over.
    fn end(&mut self, summary: &str);
    /// Whether somebody asked to stop at the next safe moment.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn begin(&mut self, _stage: &str, _done: usize, _total: usize) {}
    fn step(&mut self, _done: usize, _figures: &[(&str, f64)]) {}
    fn validated(&mut self, _done: usize, _figures: &[(&str, f64)]) {}
    fn end(&mut self, _summary: &str) {}
}

/// A bar with rate and time left on a terminal, a line every few seconds elsewhere; on standard
/// error, so that results can be piped.
pub struct Terminal {
    bar: Option<ProgressBar>,
    plain: Plain,
    stop: fn() -> bool,
    is_plain: bool,
}

impl Terminal {
    /// Watch, and stop when `stop` says so.
    pub fn new(stop: fn() -> bool) -> Self {
        Self {
            bar: None,
            plain: Plain::default(),
            stop,
            is_plain: false,
        }
    }

    /// The same with plain lines wherever it is shown.
    pub fn plain(stop: fn() -> bool) -> Self {
        Self {
            is_plain: true,
            ..Self::new(stop)
        }
    }
}

/// The state of plain lines.
#[derive(Default)]
struct Plain {
    stage: String,
    begin: Option<Instant>,
    last_line: Option<Instant>,
    done_before: usize,
    total: usize,
}

/// Seconds between plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

impl Monitor for Terminal {
    fn begin(&mut self, stage: &str, done: usize, total: usize) {
        let now = Instant::now();
        self.plain = Plain {
            stage: stage.to_string(),
            begin: Some(now),
            last_line: Some(now),
            done_before: done,
            total,
        };
        if !self.is_plain && std::io::stderr().is_terminal() {
            let style = "{prefix:24} {wide_bar} {pos}/{len} {per_sec} {eta} left  {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is constant");
            let bar = ProgressBar::new(total as u64)
                .with_style(style)
                .with_prefix(stage.to_string());
            bar.set_position(done as u64);
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, done: usize, figures: &[(&str, f64)]) {
        if let Some(bar) = &self.bar {
            bar.set_message(list(figures));
            bar.set_position(done as u64);
        } else if self
            .plain
            .last_line
            .is_some_and(|last| last.elapsed() >= PLAIN_INTERVAL)
        {
            self.plain.last_line = Some(Instant::now());
            let seconds = self
                .plain
                .begin
                .map_or(0.0, |begin| begin.elapsed().as_secs_f64());
            let rate = (done - self.plain.done_before) as f64 / seconds.max(1e-9);
            let left = (self.plain.total.saturating_sub(done)) as f64 / rate.max(1e-9);
            line(&format!(
                "{}: {done}/{} at {rate:.1}/s, {left:.0} s left{}",
                self.plain.stage,
                self.plain.total,
                with_comma(figures)
            ));
        }
    }

    fn validated(&mut self, done: usize, figures: &[(&str, f64)]) {
        let text = format!(
            "{}: after {done} steps{}",
            self.plain.stage,
            with_comma(figures)
        );
        match &self.bar {
            Some(bar) => bar.println(text),
            None => line(&text),
        }
    }

    fn end(&mut self, summary: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = self
            .plain
            .begin
            .map_or(0.0, |begin| begin.elapsed().as_secs_f64());
        line(&format!("{}: {summary} ({seconds:.0} s)", self.plain.stage));
    }

    fn is_stopped(&self) -> bool {
        (self.stop)()
    }
}

fn list(figures: &[(&str, f64)]) -> String {
    let parts: Vec<String> = figures
        .iter()
        .map(|(name, value)| format!("{name} {value:.4}"))
        .collect();
    parts.join(", ")
}

fn with_comma(figures: &[(&str, f64)]) -> String {
    if figures.is_empty() {
        String::new()
    } else {
        format!(", {}", list(figures))
    }
}

#[expect(
    clippy::print_stderr,
    reason = "showing progress is what this monitor is for"
)]
fn line(text: &str) {
    eprintln!("{text}");
}
