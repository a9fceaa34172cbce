//! Checks: each is a row of a table that says what can be wrong with objects of a type, how bad it is, what causes
//! it, what helps, and how to find it. `doctor` runs all tables; `create` and `start` run the one of conflicts with
//! the host. Must not be here: any rule.

use crate::name::{GenerationId, JailName};
use crate::plan::Step;
use crate::plan::finding::{Finding, Severity, What};

/// A row of a table of checks; `O` is what its predicate looks at.
#[derive(Debug)]
pub struct Check<O> {
    /// What it finds.
    pub kind: What,
    /// How bad that is.
    pub severity: Severity,
    /// What causes it, where only one thing can have.
    pub cause: Option<&'static str>,
    /// What the user can do, unless a case has a better hint.
    pub hint: Option<&'static str>,
    /// Whether the repair of a boot, which restores only what is derived, leaves it alone.
    pub waits: bool,
    /// Finds the cases in what it looks at.
    pub find: fn(&O) -> Vec<Case>,
}

impl<O> Check<O> {
    /// A check without a cause and a hint.
    pub const fn new(kind: What, severity: Severity, find: fn(&O) -> Vec<Case>) -> Self {
        Check {
            kind,
            severity,
            cause: None,
            hint: None,
            waits: false,
            find,
        }
    }

    /// Names what causes it.
    pub const fn cause(mut self, cause: &'static str) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Says what the user can do.
    pub const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Leaves it alone in the repair of a boot.
    pub const fn waits(mut self) -> Self {
        self.waits = true;
        self
    }

    /// The finding of a case.
    pub fn finding(&self, case: &Case) -> Finding {
        let hint = case.hint.clone().or(self.hint.map(str::to_owned));
        Finding {
            objects: case.objects.clone(),
            cause: case.cause.or(self.cause),
            hint,
            repairable: case.mend.is_some(),
            ..Finding::new(self.kind, self.severity, &case.object, &*case.what)
        }
    }
}

/// Something that a check has found.
#[derive(Debug, Clone)]
pub struct Case {
    /// The object that the case is about, as it is shown.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// All objects, if it is about several.
    pub objects: Vec<String>,
    /// What caused this one, where a check knows several causes.
    pub cause: Option<&'static str>,
    /// What the user can do about this one.
    pub hint: Option<String>,
    /// What repairs it; none if `--repair` leaves it alone.
    pub mend: Option<Mend>,
}

/// A repair.
#[derive(Debug, Clone)]
pub enum Mend {
    /// These steps, in their order.
    Steps(Vec<Step>),
    /// Removes the mark of a seal that is done.
    UnmarkSeal(GenerationId),
    /// Takes back the interrupted merge of a jail.
    UndoMerge(JailName),
    /// Clears away interrupted creations and deletions, all of them at once.
    Clear,
    /// Finishes a jail that was created, together with others.
    Finish(JailName),
}

impl Case {
    /// A case that `--repair` leaves alone.
    pub fn new(object: impl ToString, what: impl Into<String>) -> Self {
        Case {
            object: object.to_string(),
            what: what.into(),
            objects: Vec::new(),
            cause: None,
            hint: None,
            mend: None,
        }
    }

    /// Names all objects that it is about.
    pub fn of(mut self, objects: Vec<String>) -> Self {
        self.objects = objects;
        self
    }

    /// Names what caused this one.
    pub fn cause(mut self, cause: &'static str) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Says what the user can do about this one.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says how `--repair` repairs it.
    pub fn mend(mut self, mend: Mend) -> Self {
        self.mend = Some(mend);
        self
    }

    /// These steps repair it.
    pub fn steps(self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.mend(Mend::Steps(steps.into_iter().collect()))
    }
}

/// A row of a table without its predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// What it finds.
    pub kind: What,
    /// How bad that is.
    pub severity: Severity,
    /// What causes it, where only one thing can have.
    pub cause: Option<&'static str>,
    /// What the user can do, unless a case has a better hint.
    pub hint: Option<&'static str>,
}

/// The rows of a table.
pub fn rows<O>(table: &[Check<O>]) -> Vec<Row> {
    let row = |check: &Check<O>| Row {
        kind: check.kind,
        severity: check.severity,
        cause: check.cause,
        hint: check.hint,
    };
    table.iter().map(row).collect()
}

/// Runs every check of a table on one object.
pub fn findings<O>(table: &[Check<O>], object: &O) -> Vec<Finding> {
    let of = |check: &Check<O>| -> Vec<Finding> {
        let cases = (check.find)(object);
        cases.iter().map(|case| check.finding(case)).collect()
    };
    table.iter().flat_map(of).collect()
}
