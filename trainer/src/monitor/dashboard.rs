//! burn's dashboard, driven by our own loop.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::train::Interrupter;
use burn::train::logger::TrainingProgressLogger;
use burn::train::metric::{
    MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry, SerializedEntry,
};
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};

use super::{Monitor, Terminal, line, with_comma};

static IS_UP: AtomicBool = AtomicBool::new(false);

/// burn's full-screen dashboard: curves, rate, time left; `q` asks how to stop.
///
/// Three things that it does by itself are put right here: it swallows Ctrl-C (raw mode), its
/// "stop immediately" panics in the training thread, and its time left counts from step 0 after a
/// resume. Whichever way it is stopped, the run saves a checkpoint first. Where the screen cannot
/// be taken over, a [`Terminal`] watches instead.
pub struct Dashboard {
    stop: fn() -> bool,
    screen: Option<Screen>,
    instead: Option<Terminal>,
    /// Lines that are printed when the screen is given back.
    kept: Vec<String>,
    is_killed: bool,
    stage: String,
    begin: Instant,
    done_before: usize,
}

/// The screen while it is taken over.
struct Screen {
    renderer: TuiMetricsRendererWrapper,
    interrupter: Interrupter,
    metrics: HashMap<String, MetricId>,
}

impl Dashboard {
    /// Watch, and stop when `stop` says so, or the user on the screen.
    pub fn new(stop: fn() -> bool) -> Self {
        Self {
            stop,
            screen: None,
            instead: None,
            kept: Vec::new(),
            is_killed: false,
            stage: String::new(),
            begin: Instant::now(),
            done_before: 0,
        }
    }

    /// Whether there is a terminal on all sides to show it on.
    pub fn is_possible() -> bool {
        std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal()
            && std::io::stderr().is_terminal()
            && cfg!(unix)
    }

    /// Whether one has taken over the screen: nothing else should write to it.
    pub fn is_up() -> bool {
        IS_UP.load(Ordering::Relaxed)
    }

    /// Give the terminal back, for a program that ends at once.
    pub fn restore_terminal() {
        if IS_UP.swap(false, Ordering::Relaxed) {
            terminal::restore();
        }
    }

    /// Draw, and survive that burn's renderer panics when the user chooses to kill the program.
    fn draw(&mut self, draw: impl FnOnce(&mut Screen)) {
        let Some(screen) = &mut self.screen else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| draw(screen))).is_err() {
            self.is_killed = true;
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(screen) = self.screen.take() {
            // Dropping the renderer can panic for the same reason that drawing can.
            let is_dropped = catch_unwind(AssertUnwindSafe(|| drop(screen))).is_ok();
            if self.is_killed || !is_dropped {
                self.is_killed = true;
                // What is left of burn's: a hook that hides every further panic.
                let _ = std::panic::take_hook();
            }
            Self::restore_terminal();
        }
    }
}

impl Screen {
    /// A figure's id, made known to the dashboard at its first sight.
    fn metric(&mut self, name: &str) -> MetricId {
        if let Some(id) = self.metrics.get(name) {
            return id.clone();
        }
        let id = MetricId::new(Arc::new(name.to_string()));
        let attributes = NumericAttributes {
            unit: None,
            higher_is_better: name != "loss",
        };
        self.renderer.register_metric(MetricDefinition {
            metric_id: id.clone(),
            name: Arc::new(name.to_string()),
            description: None,
            attributes: attributes.into(),
        });
        self.metrics.insert(name.to_string(), id.clone());
        id
    }

    fn state(&mut self, name: &str, value: f64) -> MetricState {
        let entry = SerializedEntry::new(format!("{value:.4}"), value.to_string());
        let entry = MetricEntry::new(self.metric(name), entry);
        MetricState::Numeric(entry, Some(NumericEntry::Value(value)))
    }
}

impl Monitor for Dashboard {
    fn begin(&mut self, stage: &str, done: usize, total: usize) {
        (self.stage, self.begin, self.done_before) = (stage.to_string(), Instant::now(), done);
        if done >= total {
            return;
        }
        terminal::remember();
        let interrupter = Interrupter::new();
        let mut renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        IS_UP.store(true, Ordering::Relaxed);
        if !terminal::let_ctrl_c_through() {
            drop(renderer);
            Self::restore_terminal();
            let mut instead = Terminal::new(self.stop);
            instead.begin(stage, done, total);
            self.instead = Some(instead);
            return;
        }
        let label = match done {
            0 => stage.to_string(),
            _ => format!("{stage} from step {done}"),
        };
        // One epoch; burn's arithmetic needs it to be the first, not number 0.
        renderer.start(1, 1, Some(total - done), Some(&label));
        renderer.start_split("train", total - done);
        self.screen = Some(Screen {
            renderer,
            interrupter,
            metrics: HashMap::new(),
        });
    }

    fn step(&mut self, done: usize, figures: &[(&str, f64)]) {
        if let Some(instead) = &mut self.instead {
            return instead.step(done, figures);
        }
        let n = done - self.done_before;
        self.draw(|screen| {
            for (name, value) in figures {
                let state = screen.state(name, *value);
                screen.renderer.update_train(state);
            }
            screen.renderer.update_split(n);
        });
    }

    fn validated(&mut self, done: usize, figures: &[(&str, f64)]) {
        if let Some(instead) = &mut self.instead {
            return instead.validated(done, figures);
        }
        self.kept.push(format!(
            "{}: after {done} steps{}",
            self.stage,
            with_comma(figures)
        ));
        self.draw(|screen| {
            for (name, value) in figures {
                let state = screen.state(name, *value);
                screen.renderer.update_valid(state);
            }
        });
    }

    fn end(&mut self, summary: &str) {
        self.close();
        if let Some(mut instead) = self.instead.take() {
            return instead.end(summary);
        }
        for kept in self.kept.drain(..) {
            line(&kept);
        }
        line(&format!(
            "{}: {summary} ({:.0} s)",
            self.stage,
            self.begin.elapsed().as_secs_f64()
        ));
    }

    fn is_stopped(&self) -> bool {
        let by_popup = self
            .screen
            .as_ref()
            .is_some_and(|screen| screen.interrupter.should_stop());
        (self.stop)() || self.is_killed || by_popup
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(unix)]
mod terminal {
    use super::Write;
    use std::io;
    use std::sync::Mutex;
    use std::time::Duration;

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    /// The terminal as it was.
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    pub(super) fn remember() {
        if let (Ok(mut before), Ok(now)) = (BEFORE.lock(), tcgetattr(io::stdin())) {
            *before = Some(now);
        }
    }

    /// Wait until the renderer's thread has switched to raw mode, and let Ctrl-C be a signal
    /// again. `false` if the thread does not get there: there is no screen then.
    pub(super) fn let_ctrl_c_through() -> bool {
        for _ in 0..200 {
            if let Ok(mut now) = tcgetattr(io::stdin())
                && !now.local_modes.contains(LocalModes::ICANON)
            {
                now.local_modes |= LocalModes::ISIG;
                return tcsetattr(io::stdin(), OptionalActions::Now, &now).is_ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    pub(super) fn restore() {
        if let Ok(mut before) = BEFORE.lock()
            && let Some(before) = before.take()
        {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
        // No mouse, the first screen, the cursor; harmless where they hold already.
        let _ = write!(
            io::stdout(),
            "\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l"
        );
        let _ = write!(io::stdout(), "\x1b[?1049l\x1b[?25h");
        let _ = io::stdout().flush();
    }
}

#[cfg(not(unix))]
mod terminal {
    pub(super) fn remember() {}
    pub(super) fn let_ctrl_c_through() -> bool {
        false
    }
    pub(super) fn restore() {}
}
