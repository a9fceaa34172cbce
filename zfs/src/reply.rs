//! Parses the reply of a channel program of ezz.
//!
//! The words are those of `programs/*.lua`; `CONTRACT.md` says what each promises. This module must not decide what to
//! do about a reply; the caller does.

use crate::errno::Errno;
use crate::nvlist::{NvMap, Value};

/// The result of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Everything was done, in one transaction.
    Ok {
        /// The new epoch of the site.
        epoch: u64,
        /// The number of the generation, only from [`Program::Stage`](crate::program::Program::Stage).
        number: Option<u64>,
    },
    /// Another command has changed the site since the plan was made. Nothing changed.
    Stale {
        /// The current epoch of the site.
        epoch: u64,
    },
    /// A check failed. Nothing changed.
    Refused(Refusal),
    /// A call failed after the checks. Nothing changed, except for what `undo` and `destroyed` list.
    Failed(Failure),
}

/// Why a program refused to change anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The check that failed.
    pub why: Why,
    /// The dataset that the check was about.
    pub dataset: Option<String>,
    /// The property that the check was about.
    pub property: Option<String>,
    /// The error of OpenZFS, if the check made a call.
    pub errno: Option<Errno>,
}

/// The failure of a call in a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `set`, `inherit`, `snapshot`, `clone`, `defer`, `promote` or `destroy`.
    pub step: String,
    /// The dataset that the step was about.
    pub dataset: Option<String>,
    /// The property that the step was about.
    pub property: Option<String>,
    /// The error of OpenZFS.
    pub errno: Option<Errno>,
    /// The steps that could not be undone, each with its error. Usually empty.
    pub undo: Vec<(String, Errno)>,
    /// The number of datasets that [`Program::Destroy`](crate::program::Program::Destroy) has destroyed for good.
    pub destroyed: u64,
    /// The new epoch of the site, if it was raised because something was destroyed.
    pub epoch: Option<u64>,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The checks that a program makes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Why {
            $($(#[$doc])* $variant,)*
        }

        impl Why {
            fn parse(text: &str) -> Option<Why> {
                match text {
                    $($text => Some(Why::$variant),)*
                    _ => None,
                }
            }

            /// Returns the word of the program for this check.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Why::$variant => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// The site's dataset does not exist.
    NoSite = "no-site",
    /// The site has no epoch of its own: it is not a site, or a replica that was not adopted.
    NoEpoch = "no-epoch",
    /// Something that is to be created exists already; or another site exists, here or above.
    Present = "present",
    /// Something that is needed does not exist.
    Absent = "absent",
    /// A property or the guid differs from the expected value.
    Differs = "differs",
    /// An origin is not sealed.
    Unsealed = "unsealed",
    /// `SITE/basejail` does not have `readonly=on`.
    Writable = "writable",
    /// Mounted, or otherwise in use.
    Busy = "busy",
    /// The snapshot is held.
    Held = "held",
    /// The snapshot has this clone, which is not destroyed before it.
    Clone = "clone",
    /// The file system has this child, which is not destroyed before it.
    Child = "child",
    /// The file system has this snapshot, which is not destroyed before it.
    Snapshot = "snapshot",
    /// There is too little space to be sure that the change could be undone.
    Space = "space",
    /// This OpenZFS cannot clone in a program.
    Unsupported = "unsupported",
}

/// Reads the table that a program returned; `None` if it is not understood.
pub(crate) fn parse_reply(map: &NvMap) -> Option<Reply> {
    let text = |name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| text(name).and_then(|text| text.parse().ok());
    let errno = |name: &str| Some(Errno(map.get(name)?.as_int()?.try_into().ok()?));
    match map.get("status")?.as_str()? {
        "ok" => Some(Reply::Ok {
            epoch: number("epoch")?,
            number: number("number"),
        }),
        "stale" => Some(Reply::Stale {
            epoch: number("epoch")?,
        }),
        "refused" => Some(Reply::Refused(Refusal {
            why: Why::parse(&text("why")?)?,
            dataset: text("ds"),
            property: text("prop"),
            errno: errno("errno"),
        })),
        "failed" => {
            let undo = map
                .get("undo")
                .and_then(Value::as_list)
                .into_iter()
                .flatten();
            Some(Reply::Failed(Failure {
                step: text("why")?,
                dataset: text("ds"),
                property: text("prop"),
                errno: errno("errno"),
                undo: undo
                    .filter_map(|(what, why)| {
                        let why = i32::try_from(why.as_int()?).ok()?;
                        Some((what.trim_end().to_owned(), Errno(why)))
                    })
                    .collect(),
                destroyed: map
                    .get("done")
                    .and_then(Value::as_int)
                    .and_then(|done| done.try_into().ok())
                    .unwrap_or(0),
                epoch: number("epoch"),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(pairs: &[(&str, Value)]) -> Option<Reply> {
        parse_reply(
            &pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        )
    }

    fn text(text: &str) -> Value {
        Value::Str(text.to_owned())
    }

    #[test]
    fn replies_are_read() {
        let ok = reply(&[
            ("status", text("ok")),
            ("epoch", text("8")),
            ("number", text("3")),
        ]);
        assert_eq!(
            ok,
            Some(Reply::Ok {
                epoch: 8,
                number: Some(3)
            })
        );
        let stale = reply(&[("status", text("stale")), ("epoch", text("9"))]);
        assert_eq!(stale, Some(Reply::Stale { epoch: 9 }));
        let refused = reply(&[
            ("status", text("refused")),
            ("why", text("busy")),
            ("ds", text("tank/a")),
            ("errno", Value::Int(i64::from(libc::EBUSY))),
        ]);
        assert_eq!(
            refused,
            Some(Reply::Refused(Refusal {
                why: Why::Busy,
                dataset: Some("tank/a".into()),
                property: None,
                errno: Some(Errno(libc::EBUSY)),
            }))
        );
    }

    #[test]
    fn a_failed_undo_is_kept() {
        let undo = NvMap::from([("tank/a ezz:x".to_owned(), Value::Int(libc::ENOSPC.into()))]);
        let failed = reply(&[
            ("status", text("failed")),
            ("why", text("set")),
            ("undo", Value::List(undo)),
            ("done", Value::Int(2)),
            ("epoch", text("4")),
        ]);
        let Some(Reply::Failed(failure)) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(
            failure.undo,
            vec![("tank/a ezz:x".to_owned(), Errno(libc::ENOSPC))]
        );
        assert_eq!((failure.destroyed, failure.epoch), (2, Some(4)));
    }

    #[test]
    fn a_reply_that_is_not_understood_is_no_reply() {
        assert_eq!(reply(&[("status", text("fine"))]), None);
        assert_eq!(reply(&[("status", text("ok")), ("epoch", text("x"))]), None);
        assert_eq!(
            reply(&[("status", text("refused")), ("why", text("mood"))]),
            None
        );
    }
}
