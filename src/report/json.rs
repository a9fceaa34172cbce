//! What all objects of `--json` have in common. `docs/json.md` describes each kind.

use serde::Serialize;

/// Version of the schema: raised when a key goes or changes its meaning, not when one is added.
pub const SCHEMA: u32 = 1;

/// What an object is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An adoption of a replica.
    Adoption,
    /// What `apply` changes of one jail.
    Change,
    /// What `doctor` found.
    Diagnosis,
    /// A file that differs between two generations.
    Difference,
    /// A distribution set of a release that was fetched.
    Download,
    /// A command or one jail of it failed.
    Error,
    /// The space that a prune gave back.
    Freed,
    /// A generation that was installed.
    Install,
    /// A jail as it is.
    Jail,
    /// What a command did to one jail.
    JailResult,
    /// A generation's place in the tree of generations.
    Lineage,
    /// What a merge did to one jail's own files.
    Merge,
    /// What a dry run would do.
    Plan,
    /// What a prune did to one generation.
    PruneResult,
    /// The end of a roll-out.
    Rollout,
    /// A site as it is.
    Site,
    /// A site that `init` made or found.
    SiteResult,
    /// A swap of the past, from a track's log.
    Swap,
    /// What a command did to the generation that a track points to.
    SwapResult,
    /// A track as it is.
    Track,
    /// What a command did to a track.
    TrackResult,
    /// A generation that an update sealed.
    Update,
    /// Whether a generation is as it was sealed.
    Verification,
    /// A generation as it is.
    World,
}

/// An object as it is printed: what it is, and what it says.
#[derive(Debug, Serialize)]
pub(super) struct Envelope<'a, T> {
    pub(super) kind: Kind,
    pub(super) schema: u32,
    /// Whether the command changed something, or would: left out by commands that only read.
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
