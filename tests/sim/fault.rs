//! Simulated deaths: which call fails, when, and what happens to the process.
//!
//! A killed process does nothing more, not even undo: the call unwinds through the whole command. A process whose call
//! fails gets an error, and handles it as its code does.

use super::pool::Pool;

/// The moment at which the chosen call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call was not made.
    Before,
    /// This many of its parts were done: changes of a program, mounts of an unmount.
    Within(usize),
    /// The call was done, and its reply is lost.
    After,
}

/// What happens to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process is killed (kill -9).
    Kill,
    /// The call returns an error; later ones work.
    Error,
    /// The call returns an error, and so do all later ones: the pool is suspended.
    Errors,
}

/// The end of a call's line in the trace if the call was refused.
pub const REFUSED: &str = " (refused)";

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of the call among those that change something, from 1.
    pub call: usize,
    pub when: When,
    pub death: Death,
}

/// The payload that a killed process unwinds with.
#[derive(Debug)]
pub struct Killed;

/// How much of a call is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The whole call.
    Fully,
    /// This many of its parts, and then the call fails; if it has no more parts, it fails after the last.
    Partly(usize),
}

/// Counts calls, and fails the chosen one.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    pub armed: Option<Fault>,
    pub calls: usize,
    /// The number of the call before which another ezz commits.
    pub meanwhile: Option<usize>,
    /// The number of times that the pool was read.
    pub reads: usize,
    /// The numbers of reads, each with the pool that replaces the present one before it: the work of commands with
    /// other locks.
    pub becomes: Vec<(usize, Pool)>,
    /// The description of each call, for messages.
    pub trace: Vec<String>,
    pub dead: Option<Death>,
    /// Whether the armed fault has occurred.
    pub struck: bool,
    /// Whether a call that failed in the middle had parts left.
    pub cut: bool,
}

/// What a call does when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Go(Act),
    Fail(Death),
}

impl Faults {
    /// Counts a read of the pool; returns the pool that replaces the present one before it, if any.
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

    /// Marks the last call as refused: it has done nothing.
    pub fn refused(&mut self) {
        if let Some(last) = self.trace.last_mut() {
            last.push_str(REFUSED);
        }
    }

    /// Ends a call; returns the death if its reply is to be lost.
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
