//! Ctrl-C: inside training it asks for a checkpoint first, everywhere else it ends at once.

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use trainer::Dashboard;

/// What a shell reports for a program that Ctrl-C ended.
pub(crate) const EXIT_CODE: u8 = 130;

static IS_ASKED: AtomicBool = AtomicBool::new(false);
static IS_HEARD: AtomicBool = AtomicBool::new(false);

/// Take over Ctrl-C, and being told to terminate.
pub(crate) fn listen() -> anyhow::Result<()> {
    let handler = || {
        if IS_HEARD.load(Ordering::Relaxed) && !IS_ASKED.swap(true, Ordering::Relaxed) {
            if !Dashboard::is_up() {
                crate::output::note("\nstopping after this step; once more ends at once");
            }
            return;
        }
        Dashboard::restore_terminal();
        crate::output::note("\nended; what was saved before is whole");
        std::process::exit(i32::from(EXIT_CODE));
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")
}

/// Ask another process of this program to stop.
#[cfg(unix)]
pub(crate) fn pass_on(child: &Child) -> anyhow::Result<()> {
    use nix::sys::signal::{Signal, kill};
    let pid = i32::try_from(child.id()).context("no process has this id")?;
    // Who has ended in the meantime needs no signal.
    let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
    Ok(())
}

/// Ctrl-C reaches all processes of a console.
#[cfg(not(unix))]
pub(crate) fn pass_on(_: &Child) -> anyhow::Result<()> {
    Ok(())
}

/// Whether somebody asked to stop.
pub(crate) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Relaxed)
}

/// As long as this lives, somebody looks at [`is_asked`].
pub(crate) struct Heard;

/// From here on the first Ctrl-C only asks.
pub(crate) fn heard() -> Heard {
    IS_HEARD.store(true, Ordering::Relaxed);
    Heard
}

impl Drop for Heard {
    fn drop(&mut self) {
        IS_HEARD.store(false, Ordering::Relaxed);
    }
}
