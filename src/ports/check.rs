//! The results of a check of the host or of a pool.

use serde::Serialize;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything is as it should be.
    Ok,
    /// It works, but with a limitation that the user should know.
    Warning,
    /// Jails cannot run like this.
    Bad,
}

/// One thing that `doctor` has checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked, such as `crun`.
    pub what: String,
    /// The result.
    pub level: Level,
    /// What the check found.
    pub found: String,
    /// What the user can do about it; none if there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
