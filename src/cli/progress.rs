//! Progress of long work: a bar on a terminal, one plain line a phase elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use crate::name::JailName;
use crate::report::Report;
use crate::world::Progress;

/// Tells the user how far long work is.
#[derive(Debug)]
pub struct Shown {
    report: Report,
    terminal: bool,
    about: String,
    bar: Mutex<Option<ProgressBar>>,
}

impl Shown {
    pub fn new(report: Report) -> Self {
        let terminal = std::io::stderr().is_terminal() && !report.quiet;
        Shown {
            report,
            terminal,
            about: String::new(),
            bar: Mutex::new(None),
        }
    }

    /// Of work on one jail of several.
    pub fn about(report: Report, jail: &JailName) -> Self {
        Shown {
            about: format!("{jail}: "),
            ..Shown::new(report)
        }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Shown {
    fn start(&self, phase: &str, total: Option<u64>) {
        let phase = format!("{}{phase}", self.about);
        if !self.terminal {
            self.report.note(format!("{phase} ..."));
            return;
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{msg:>16} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
            None => "{msg:>16} {spinner} {human_pos} {per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(phase);
        *self.bar() = Some(bar);
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = self.bar().as_ref() {
            bar.inc(n);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}
