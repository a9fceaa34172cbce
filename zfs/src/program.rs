//! The channel programs of ezz, with typed input and reply. Their contract is `CONTRACT.md`.
//!
//! Each is all or nothing within one transaction group, compares the site's epoch with the one the
//! plan was made from, and raises it. Names and values are checked by the caller: the programs and
//! the kernel check nearly nothing. No policy here: what to do with a refusal is for the caller.

use std::collections::BTreeMap;

use crate::core::{Limits, Zfs};
use crate::errno::Errno;
use crate::error::ProgramError;
use crate::nvlist::{NvMap, Value};
use crate::strip::strip;

const PRELUDE: &str = include_str!("../programs/prelude.lua");
const INIT: &str = include_str!("../programs/init.lua");
const STAGE: &str = include_str!("../programs/stage.lua");
const SEAL: &str = include_str!("../programs/seal.lua");
const CREATE: &str = include_str!("../programs/create.lua");
const COMMIT: &str = include_str!("../programs/commit.lua");
const DESTROY: &str = include_str!("../programs/destroy.lua");

/// Makes an existing dataset a site: `ezz:id`, `ezz:seq` 0, `ezz:epoch` 1, `ezz:format` 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// The dataset.
    pub site: String,
    /// The identity of the site, a UUID.
    pub id: String,
}

/// Takes the next generation's number; the reply has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The site.
    pub site: String,
    /// The epoch the plan was made from.
    pub epoch: u64,
    /// The expected `ezz:seq`; the new number is one more.
    pub seq: u64,
}

/// Seals the staged generation `number`: snapshots, seals, world, track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The site.
    pub site: String,
    /// The epoch the plan was made from.
    pub epoch: u64,
    /// The generation.
    pub number: u64,
    /// The JSON of `ezz:world`, set on `SITE/basejail/N`.
    pub world: String,
    /// The JSON of `ezz:sealed`, set on both snapshots.
    pub sealed: String,
    /// A track to change in the same transaction.
    pub track: Option<TrackUpdate>,
}

/// A compare-and-set of one track's property on `SITE/basejail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackUpdate {
    /// The whole property name, such as `ezz:track:main`.
    pub property: String,
    /// The text it must have now; `None`: it must not be set.
    pub expect: Option<String>,
    /// The text it gets.
    pub value: String,
}

/// Clones all these jails in one transaction, or none. Needs OpenZFS 2.4 (`sync_clone`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The site.
    pub site: String,
    /// The epoch the plan was made from.
    pub epoch: u64,
    /// The jails.
    pub jails: Vec<NewJail>,
}

/// One jail of [`Create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJail {
    /// Its name: the clone is `SITE/jails/NAME`.
    pub name: String,
    /// The sealed snapshot, with its full name.
    pub origin: String,
    /// The JSON of `ezz:jail`.
    pub jail: String,
    /// More user properties to set on the clone.
    pub props: BTreeMap<String, String>,
}

/// Compares and sets many user properties in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The site.
    pub site: String,
    /// The epoch the plan was made from.
    pub epoch: u64,
    /// Adopting a replica: received values, the epoch's too, count as if they were local.
    pub adopt: bool,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// One property of [`Commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The dataset or snapshot.
    pub dataset: String,
    /// The user property.
    pub property: String,
    /// What its local value must be now.
    pub expect: Expect,
    /// The new value; `None` removes the local one.
    pub value: Option<String>,
}

/// What a local value must be before a [`Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Not set on the dataset itself.
    Absent,
    /// Exactly this.
    Is(String),
}

/// Destroys datasets in the order given: a snapshot after its clones, a file system after its
/// snapshots and children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroy {
    /// The site.
    pub site: String,
    /// The epoch the plan was made from.
    pub epoch: u64,
    /// What goes.
    pub datasets: Vec<Doomed>,
}

/// One dataset of [`Destroy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// File system or snapshot, with its full name.
    pub name: String,
    /// The guid that was observed: another dataset of that name is refused.
    pub guid: u64,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// All done, in one transaction.
    Ok {
        /// The site's epoch from now on.
        epoch: u64,
        /// The generation's number, from [`Stage`] only.
        number: Option<u64>,
    },
    /// The site has moved on since the plan was made. Nothing changed.
    Stale {
        /// The epoch that was found.
        epoch: u64,
    },
    /// A check failed. Nothing changed.
    Refused(Refusal),
    /// A call failed after the checks. Nothing changed, except as `undo` and `destroyed` say.
    Failed(Failure),
}

/// Why a program refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The check.
    pub why: Why,
    /// The dataset that it was about.
    pub dataset: Option<String>,
    /// The property that it was about.
    pub property: Option<String>,
    /// What OpenZFS said, where it was asked.
    pub errno: Option<Errno>,
}

/// A call of a program failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `set`, `inherit`, `snapshot`, `clone` or `destroy`.
    pub step: String,
    /// The dataset that it was about.
    pub dataset: Option<String>,
    /// The property that it was about.
    pub property: Option<String>,
    /// What OpenZFS said.
    pub errno: Option<Errno>,
    /// Steps that could not be taken back: what, and why. Usually empty.
    pub undo: Vec<(String, Errno)>,
    /// How many of the datasets of [`Destroy`] are gone for good.
    pub destroyed: u64,
    /// The site's epoch where it was raised nevertheless, because something is gone.
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

            /// The word that the program used.
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
    /// The site has no epoch of its own: not a site, or a replica that is not adopted.
    NoEpoch = "no-epoch",
    /// Something that is to be made exists; or a site, here or above.
    Present = "present",
    /// Something that is needed does not exist.
    Absent = "absent",
    /// A property, or the guid, is not what was expected.
    Differs = "differs",
    /// An origin is not sealed.
    Unsealed = "unsealed",
    /// `SITE/basejail` does not have `readonly=on`.
    Writable = "writable",
    /// Mounted, or otherwise in use.
    Busy = "busy",
    /// The snapshot is held.
    Held = "held",
    /// The snapshot has this clone, which is not to go before it.
    Clone = "clone",
    /// The file system has this child, which is not to go before it.
    Child = "child",
    /// The file system has this snapshot, which is not to go before it.
    Snapshot = "snapshot",
    /// Too little space to be sure that the change could be taken back.
    Space = "space",
    /// This OpenZFS cannot clone in a program.
    Unsupported = "unsupported",
}

macro_rules! programs {
    ($($program:ident: $name:literal, $body:ident;)*) => {
        $(impl $program {
            /// Runs the program with limits that fit its input.
            ///
            /// # Errors
            /// The program did not end by itself: see [`ProgramError`] and `CONTRACT.md`.
            pub fn run(&self, zfs: &Zfs) -> Result<Reply, ProgramError> {
                let args = self.args();
                let limits = limits_for(&args);
                run(zfs, $name, &Self::source(), &self.site, &args, limits)
            }

            /// Runs the program with these limits; tests cut programs short so.
            ///
            /// # Errors
            /// As for `run`.
            pub fn run_within(&self, zfs: &Zfs, limits: Limits) -> Result<Reply, ProgramError> {
                run(zfs, $name, &Self::source(), &self.site, &self.args(), limits)
            }

            /// The Lua that is sent.
            pub fn source() -> String {
                strip(PRELUDE) + &strip($body)
            }
        })*
    };
}

programs! {
    Init: "init", INIT;
    Stage: "stage", STAGE;
    Seal: "seal", SEAL;
    Create: "create", CREATE;
    Commit: "commit", COMMIT;
    Destroy: "destroy", DESTROY;
}

impl Init {
    fn args(&self) -> NvMap {
        NvMap::from([entry("site", &self.site), entry("id", &self.id)])
    }
}

impl Stage {
    fn args(&self) -> NvMap {
        let mut args = common(&self.site, self.epoch);
        args.extend([entry("seq", &self.seq.to_string())]);
        args
    }
}

impl Seal {
    fn args(&self) -> NvMap {
        let mut args = common(&self.site, self.epoch);
        args.extend([
            entry("number", &self.number.to_string()),
            entry("world", &self.world),
            entry("sealed", &self.sealed),
        ]);
        if let Some(track) = &self.track {
            args.extend([
                entry("track", &track.property),
                entry("value", &track.value),
            ]);
            args.extend(track.expect.as_ref().map(|expect| entry("expect", expect)));
        }
        args
    }
}

impl Create {
    fn args(&self) -> NvMap {
        let mut origins: Vec<String> = Vec::new();
        let mut sets: Vec<&BTreeMap<String, String>> = Vec::new();
        let (mut names, mut jails) = (Vec::new(), Vec::new());
        let (mut origin_of, mut set_of) = (Vec::new(), Vec::new());
        for jail in &self.jails {
            names.push(jail.name.clone());
            jails.push(jail.jail.clone());
            origin_of.push(intern(&mut origins, jail.origin.clone()));
            set_of.push(if jail.props.is_empty() {
                0
            } else {
                intern(&mut sets, &jail.props)
            });
        }
        let mut args = common(&self.site, self.epoch);
        args.insert("origins".into(), Value::StrArray(origins));
        args.insert("names".into(), Value::StrArray(names));
        args.insert("jails".into(), Value::StrArray(jails));
        args.insert("o".into(), Value::IntArray(origin_of));
        if !sets.is_empty() {
            let sets = (1..)
                .zip(sets)
                .map(|(index, set): (i64, _)| {
                    let set = set.iter().map(|(name, value)| entry(name, value)).collect();
                    (index.to_string(), Value::List(set))
                })
                .collect();
            args.insert("sets".into(), Value::List(sets));
            args.insert("s".into(), Value::IntArray(set_of));
        }
        args
    }
}

impl Commit {
    fn args(&self) -> NvMap {
        let column =
            |cell: fn(&Change) -> String| Value::StrArray(self.changes.iter().map(cell).collect());
        let mut args = common(&self.site, self.epoch);
        args.insert("adopt".into(), Value::Bool(self.adopt));
        args.insert("ds".into(), column(|change| change.dataset.clone()));
        args.insert("p".into(), column(|change| change.property.clone()));
        args.insert(
            "x".into(),
            column(|change| match &change.expect {
                Expect::Any => "*".to_owned(),
                Expect::Absent => "-".to_owned(),
                Expect::Is(value) => format!("={value}"),
            }),
        );
        args.insert(
            "v".into(),
            column(|change| match &change.value {
                None => "-".to_owned(),
                Some(value) => format!("={value}"),
            }),
        );
        args
    }
}

impl Destroy {
    fn args(&self) -> NvMap {
        let names = self
            .datasets
            .iter()
            .map(|doomed| doomed.name.clone())
            .collect();
        // Lua's numbers are int64 here, so a guid above 2^63 is negative there.
        let guids = self
            .datasets
            .iter()
            .map(|doomed| i64::from_ne_bytes(doomed.guid.to_ne_bytes()))
            .collect();
        let mut args = common(&self.site, self.epoch);
        args.insert("ds".into(), Value::StrArray(names));
        args.insert("guids".into(), Value::IntArray(guids));
        args
    }
}

fn entry(name: &str, value: &str) -> (String, Value) {
    (name.to_owned(), Value::Str(value.to_owned()))
}

fn common(site: &str, epoch: u64) -> NvMap {
    NvMap::from([entry("site", site), entry("epoch", &epoch.to_string())])
}

/// The index from 1, as Lua counts, of an item that is added when it is new.
fn intern<T: PartialEq>(items: &mut Vec<T>, item: T) -> i64 {
    let index = items
        .iter()
        .position(|known| *known == item)
        .unwrap_or_else(|| {
            items.push(item);
            items.len() - 1
        });
    i64::try_from(index).map_or(i64::MAX, |index| index + 1)
}

/// The module's defaults, with room for the arguments: they count, once as the table's strings and
/// once more for what a body cuts out of them, and a slot of a table costs some 40 bytes.
fn limits_for(args: &NvMap) -> Limits {
    let bytes: usize = args
        .iter()
        .map(|(name, value)| name.len() + size(value))
        .sum();
    let default = Limits::default();
    let memory = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(3) + default.memory;
    Limits {
        memory: memory.min(Limits::MAX.memory),
        ..default
    }
}

fn size(value: &Value) -> usize {
    const SLOT: usize = 64;
    SLOT + match value {
        Value::Bool(_) | Value::Flag | Value::Int(_) | Value::UInt(_) => 0,
        Value::Str(text) => text.len(),
        Value::StrArray(texts) => texts.iter().map(|text| SLOT + text.len()).sum(),
        Value::IntArray(numbers) => numbers.len() * SLOT,
        Value::List(map) => map
            .iter()
            .map(|(name, value)| name.len() + size(value))
            .sum(),
        Value::ListArray(maps) => maps
            .iter()
            .flatten()
            .map(|(name, value)| name.len() + size(value))
            .sum(),
    }
}

fn run(
    zfs: &Zfs,
    name: &'static str,
    source: &str,
    site: &str,
    args: &NvMap,
    limits: Limits,
) -> Result<Reply, ProgramError> {
    let pool = site.split(['/', '@']).next().unwrap_or_default();
    let raw = zfs.run_program(name, pool, source, args, limits, true)?;
    let reply = raw
        .get("return")
        .and_then(Value::as_list)
        .and_then(parse_reply);
    reply.ok_or_else(|| ProgramError::Reply {
        program: name.to_owned(),
        reply: format!("{raw:?}"),
    })
}

fn parse_reply(map: &NvMap) -> Option<Reply> {
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

    #[test]
    fn a_guid_above_the_sign_bit_is_negative_in_lua() {
        let doomed = Doomed {
            name: "tank/a".into(),
            guid: u64::MAX - 1,
        };
        let destroy = Destroy {
            site: "tank".into(),
            epoch: 1,
            datasets: vec![doomed],
        };
        assert_eq!(
            destroy.args().get("guids"),
            Some(&Value::IntArray(vec![-2]))
        );
    }

    #[test]
    fn origins_and_property_sets_are_sent_once() {
        let props = BTreeMap::from([("a:b".to_owned(), "c".to_owned())]);
        let jail = |name: &str, props: &BTreeMap<String, String>| NewJail {
            name: name.into(),
            origin: "tank/newjail/1@1".into(),
            jail: "{}".into(),
            props: props.clone(),
        };
        let jails = vec![
            jail("a", &props),
            jail("b", &BTreeMap::new()),
            jail("c", &props),
        ];
        let args = Create {
            site: "tank".into(),
            epoch: 1,
            jails,
        }
        .args();
        assert_eq!(args.get("o"), Some(&Value::IntArray(vec![1, 1, 1])));
        assert_eq!(args.get("s"), Some(&Value::IntArray(vec![1, 0, 1])));
        assert_eq!(
            args.get("origins"),
            Some(&Value::StrArray(vec!["tank/newjail/1@1".into()]))
        );
    }

    #[test]
    fn sources_are_short_and_have_no_long_brackets() {
        let sources = [
            Init::source(),
            Stage::source(),
            Seal::source(),
            Create::source(),
            Commit::source(),
            Destroy::source(),
        ];
        for source in sources {
            assert!(source.len() < 4096, "{} bytes:\n{source}", source.len());
            assert!(!source.contains("--") && !source.contains("[["), "{source}");
        }
    }

    #[test]
    fn limits_grow_with_the_input_up_to_what_the_module_takes() {
        let args = |bytes| NvMap::from([("a".to_owned(), Value::Str("x".repeat(bytes)))]);
        assert!(limits_for(&args(10)).memory >= Limits::default().memory);
        assert!(limits_for(&args(20 << 20)).memory >= 70 << 20);
        assert_eq!(limits_for(&args(60 << 20)).memory, Limits::MAX.memory);
    }
}
