//! How long work reports its progress, and how it is stopped.
//! This module must not handle terminals and signals; the caller does.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::WorldError;

/// Receives progress reports; phases do not overlap.
pub trait Progress: Sync {
    /// A phase begins; `total` is its size in bytes or items, if it is known.
    fn start(&self, phase: &str, total: Option<u64>);
    /// `n` more bytes or items are done.
    fn advance(&self, n: u64);
    /// The phase has ended, successfully or not.
    fn finish(&self);
}

/// Discards all progress reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _phase: &str, _total: Option<u64>) {}
    fn advance(&self, _n: u64) {}
    fn finish(&self) {}
}

/// A flag that stops the work at its next check; a signal handler may share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Wraps a flag that is set elsewhere, such as by a signal handler.
    pub fn new(flag: Arc<AtomicBool>) -> Cancel {
        Cancel(flag)
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns an error if the work was asked to stop.
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

    /// Wraps a reader so that it fails after the work was asked to stop; [`Cancel::check`] then returns the reason.
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
        // `ErrorKind::Interrupted` is not used, because readers try again after it.
        self.cancel.check().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}

/// The progress and the cancel flag that every step gets.
#[derive(Clone)]
pub struct Context<'a> {
    /// Receives the progress of the step.
    pub progress: &'a dyn Progress,
    /// The flag that stops the step.
    pub cancel: Cancel,
}

impl Context<'static> {
    /// Returns a context that reports nothing and is never stopped.
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
