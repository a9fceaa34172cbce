//! How long work tells what it does, and how it is stopped.
//! Must not be here: terminals and signals; the caller has them.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::WorldError;

/// Told what happens; phases do not overlap.
pub trait Progress: Sync {
    /// A phase begins; `total` in bytes or items, where it is known.
    fn start(&self, phase: &str, total: Option<u64>);
    /// So many more are done.
    fn advance(&self, n: u64);
    /// The phase has ended, well or not.
    fn finish(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _phase: &str, _total: Option<u64>) {}
    fn advance(&self, _n: u64) {}
    fn finish(&self) {}
}

/// A flag that stops the work at its next look; a signal handler may share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Uses a flag that somebody else sets.
    pub fn new(flag: Arc<AtomicBool>) -> Cancel {
        Cancel(flag)
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The error to leave with, if it was asked.
    ///
    /// # Errors
    /// [`WorldError::Interrupted`].
    pub fn check(&self) -> Result<(), WorldError> {
        if self.is_cancelled() {
            Err(WorldError::Interrupted)
        } else {
            Ok(())
        }
    }

    /// A reader that fails once the work was asked to stop; [`Cancel::check`] then says why.
    pub(super) fn reader<R>(&self, inner: R) -> Cancellable<'_, R> {
        Cancellable {
            inner,
            cancel: self,
        }
    }
}

/// See [`Cancel::reader`].
pub(super) struct Cancellable<'a, R> {
    inner: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not `ErrorKind::Interrupted`: readers try again after that.
        self.cancel.check().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}

/// What every step here is given.
#[derive(Clone)]
pub struct Context<'a> {
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// What stops it.
    pub cancel: Cancel,
}

impl Context<'static> {
    /// Tells nobody and is never stopped.
    pub fn quiet() -> Context<'static> {
        Context {
            progress: &Quiet,
            cancel: Cancel::default(),
        }
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

/// A phase that ends when it is dropped.
pub(super) struct Phase<'a>(&'a dyn Progress);

impl<'a> Phase<'a> {
    pub(super) fn start(context: &Context<'a>, name: &str, total: Option<u64>) -> Phase<'a> {
        context.progress.start(name, total);
        Phase(context.progress)
    }

    pub(super) fn advance(&self, n: u64) {
        self.0.advance(n);
    }
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}
