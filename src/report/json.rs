//! The keys that all objects of `--json` have. `docs/json.md` describes each kind of object.

use serde::Serialize;

/// The version of the schema. It is raised when a key is removed or gets another meaning, but not when a key is added.
pub const SCHEMA: u32 = 1;

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The adoption of a replica.
    Adoption,
    /// What `apply` changes of one jail.
    Change,
    /// The findings of `doctor`.
    Diagnosis,
    /// A file that differs between two generations.
    Difference,
    /// A distribution set of a release that was downloaded.
    Download,
    /// The failure of a command, or of one of its jails.
    Error,
    /// The space that a prune has freed.
    Freed,
    /// A generation that was installed.
    Install,
    /// A jail, as it is now.
    Jail,
    /// What a command did to one jail.
    JailResult,
    /// The place of a generation in the tree of generations.
    Lineage,
    /// What a merge did to the own files of one jail.
    Merge,
    /// What a dry run would do.
    Plan,
    /// What a prune did to one generation.
    PruneResult,
    /// The end of a roll-out.
    Rollout,
    /// A site, as it is now.
    Site,
    /// A site that `init` has created, or has found.
    SiteResult,
    /// A past swap, from the log of a track.
    Swap,
    /// What a command did to the generation that a track points to.
    SwapResult,
    /// A track, as it is now.
    Track,
    /// What a command did to a track.
    TrackResult,
    /// A generation that an update has sealed.
    Update,
    /// Whether a generation still matches its seal.
    Verification,
    /// A generation, as it is now.
    World,
}

/// An object as it is printed: its kind, and the keys of its value.
#[derive(Debug, Serialize)]
pub(super) struct Envelope<'a, T> {
    pub(super) kind: Kind,
    pub(super) schema: u32,
    /// Whether the command changed something, or would with `--dry-run`. Commands that only read leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changed: Option<bool>,
    #[serde(flatten)]
    pub(super) value: &'a T,
}

impl<'a, T> Envelope<'a, T> {
    pub(super) fn new(kind: Kind, changed: Option<bool>, value: &'a T) -> Self {
        Envelope {
            kind,
            schema: SCHEMA,
            changed,
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_what_it_is_before_anything_else() {
        let value = serde_json::json!({"jail": "a"});
        let text = |changed| {
            let object = Envelope::new(Kind::JailResult, changed, &value);
            serde_json::to_string(&object).expect("JSON")
        };
        assert_eq!(
            text(Some(true)),
            r#"{"kind":"jail-result","schema":1,"changed":true,"jail":"a"}"#
        );
        assert_eq!(
            text(None),
            r#"{"kind":"jail-result","schema":1,"jail":"a"}"#
        );
    }
}
