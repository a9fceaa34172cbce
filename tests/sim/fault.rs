//! Deaths: which call fails, when, and what becomes of the process.
//!
//! A killed process does nothing more, not even undo: the call unwinds through the whole command.
//! A failing one gets an error, and goes on as it is written to.

use super::pool::Pool;

/// When the chosen call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It has not been made.
    Before,
    /// So many of its parts were done: changes of a program, mounts of an unmount.
    Within(usize),
    /// It was done, and its reply is lost.
    After,
}

/// What becomes of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// kill -9.
    Kill,
    /// The call returns an error; later ones work.
    Error,
    /// The call returns an error, and so do all later ones: the pool is suspended.
    Errors,
}

/// What ends the trace of a call that was refused.
pub const REFUSED: &str = " (refused)";

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which of the calls that change something, from 1.
    pub call: usize,
    pub when: When,
    pub death: Death,
}

/// The payload that a killed process unwinds with.
#[derive(Debug)]
pub struct Killed;

/// What a call is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// All of it.
    Fully,
    /// So many of its parts, and then fail; if it has no more, it is as if it failed after.
    Partly(usize),
}

/// Counts calls, and fails the chosen one.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    pub armed: Option<Fault>,
    pub calls: usize,
    /// Before which call another ezz commits.
    pub meanwhile: Option<usize>,
    /// How often the pool was read.
    pub reads: usize,
    /// Before which read the pool becomes another: what commands with other locks have made of it by then.
    pub becomes: Vec<(usize, Pool)>,
    /// What each call was, for messages.
    pub trace: Vec<String>,
    pub dead: Option<Death>,
    /// Whether the armed fault came.
    pub struck: bool,
    /// Whether a call that failed within had parts left.
    pub cut: bool,
}

/// How a call begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Go(Act),
    Fail(Death),
}

impl Faults {
    /// Counts a read of the pool; what the pool is for it, if it changes.
    pub fn read(&mut self) -> Option<Pool> {
        self.reads += 1;
        let reads = self.reads;
        let due = self.becomes.iter().rposition(|(read, _)| *read <= reads)?;
        self.becomes.drain(..=due).next_back().map(|(_, pool)| pool)
    }

    pub fn begin(&mut self, what: impl FnOnce() -> String, changes: bool) -> Begin {
        if let Some(death) = self.dead {
            return Begin::Fail(death);
        }
        if !changes {
            return Begin::Go(Act::Fully);
        }
        self.calls += 1;
        self.trace.push(what());
        match self.armed {
            Some(fault) if fault.call == self.calls => match fault.when {
                When::Before => {
                    self.strike(fault);
                    Begin::Fail(fault.death)
                }
                When::Within(parts) => Begin::Go(Act::Partly(parts)),
                When::After => Begin::Go(Act::Fully),
            },
            _ => Begin::Go(Act::Fully),
        }
    }

    /// The call was refused: it has done nothing.
    pub fn refused(&mut self) {
        if let Some(last) = self.trace.last_mut() {
            last.push_str(REFUSED);
        }
    }

    /// After a call: whether its reply is lost.
    pub fn end(&mut self, call: usize) -> Option<Death> {
        let fault = self.armed.filter(|fault| fault.call == call)?;
        self.strike(fault);
        Some(fault.death)
    }

    fn strike(&mut self, fault: Fault) {
        self.struck = true;
        if fault.death != Death::Error {
            self.dead = Some(fault.death);
        }
    }
}
