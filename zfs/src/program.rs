//! The channel programs of ezz, with typed input and reply. Their contract is `CONTRACT.md`.
//!
//! Each is all or nothing within one transaction group, compares the site's epoch with the one the
//! plan was made from, and raises it. Names and values are checked by the caller: the programs and
//! the kernel check nearly nothing. No policy here: what to do with a refusal is for the caller.

use std::collections::BTreeMap;

use crate::channel::Limits;
use crate::core::Zfs;
use crate::error::ProgramError;
use crate::nvlist::{NvMap, Value};
use crate::reply::parse_reply;
pub use crate::reply::{Failure, Refusal, Reply, Why};
use crate::strip::strip;

const PRELUDE: &str = include_str!("../programs/prelude.lua");
const INIT: &str = include_str!("../programs/init.lua");
const STAGE: &str = include_str!("../programs/stage.lua");
const SEAL: &str = include_str!("../programs/seal.lua");
const CREATE: &str = include_str!("../programs/create.lua");
const COMMIT: &str = include_str!("../programs/commit.lua");
const DESTROY: &str = include_str!("../programs/destroy.lua");
const PRUNE: &str = include_str!("../programs/prune.lua");

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
    /// Properties of `SITE/jails` that name the jails, with their text: set before the first clone,
    /// removed after the last, the first of them first. One that is left tells that the program was
    /// stopped.
    pub intents: BTreeMap<String, String>,
    /// A snapshot of a jail that is made first, to be the origin of clones: it needs no seal, and is
    /// destroyed with the last of them.
    pub snapshot: Option<String>,
}

/// One jail of [`Create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJail {
    /// Its name: the clone is `SITE/jails/NAME`.
    pub name: String,
    /// The sealed snapshot, or that of the whole program, with its full name.
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
    /// Snapshots that must have a seal of their own: what a track is set to.
    pub sealed: Vec<String>,
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
    /// Properties of `SITE/jails` that name what goes, with their text: set before the first destroy,
    /// the first of them last, and removed after the last one. One that is left tells that the
    /// program was stopped.
    pub intents: BTreeMap<String, String>,
}

/// One dataset of [`Destroy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// File system or snapshot, with its full name.
    pub name: String,
    /// The guid that was observed: another dataset of that name is refused.
    pub guid: u64,
}

/// Destroys one half of a generation, `SITE/basejail/N` or `SITE/newjail/N`, with its sealed
/// snapshot; a clone of it takes over what others need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prune {
    /// The site.
    pub site: String,
    /// The epoch the plan was made from.
    pub epoch: u64,
    /// The file system.
    pub dataset: String,
    /// Its guid that was observed.
    pub guid: u64,
    /// The generation: its snapshot is `@number`.
    pub number: u64,
    /// The clone of that snapshot that is promoted, if there are any.
    pub heir: Option<String>,
}

/// What runs channel programs: the kernel, or a simulator that has the same functions.
pub trait Kernel {
    /// Runs a program in one transaction group; gives what it returned under the name `return`.
    ///
    /// # Errors
    /// See [`ProgramError`]; after some of them what the program did stays done.
    fn run_program(
        &self,
        name: &str,
        pool: &str,
        source: &str,
        args: &NvMap,
        limits: Limits,
    ) -> Result<NvMap, ProgramError>;
}

impl Kernel for Zfs {
    fn run_program(
        &self,
        name: &str,
        pool: &str,
        source: &str,
        args: &NvMap,
        limits: Limits,
    ) -> Result<NvMap, ProgramError> {
        Zfs::run_program(self, name, pool, source, args, limits, true)
    }
}

macro_rules! programs {
    ($($program:ident: $name:literal, $body:ident;)*) => {
        $(impl $program {
            /// Runs the program with limits that fit its input.
            ///
            /// # Errors
            /// The program did not end by itself: see [`ProgramError`] and `CONTRACT.md`.
            pub fn run(&self, zfs: &dyn Kernel) -> Result<Reply, ProgramError> {
                let args = self.args();
                let limits = limits_for(&args);
                run(zfs, $name, &Self::source(), &self.site, &args, limits)
            }

            /// Runs the program with these limits; tests cut programs short so.
            ///
            /// # Errors
            /// As for `run`.
            pub fn run_within(&self, zfs: &dyn Kernel, limits: Limits) -> Result<Reply, ProgramError> {
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
    Prune: "prune", PRUNE;
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
        if let Some(snapshot) = &self.snapshot {
            let source = snapshot.split('@').next().unwrap_or_default();
            args.extend([entry("snap", snapshot), entry("source", source)]);
        }
        args.insert("origins".into(), Value::StrArray(origins));
        args.insert("names".into(), Value::StrArray(names));
        args.insert("jails".into(), Value::StrArray(jails));
        args.insert("o".into(), Value::IntArray(origin_of));
        let (properties, texts) = self.intents.clone().into_iter().unzip();
        args.insert("ip".into(), Value::StrArray(properties));
        args.insert("iv".into(), Value::StrArray(texts));
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
        if !self.sealed.is_empty() {
            args.insert("sealed".into(), Value::StrArray(self.sealed.clone()));
        }
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
        let guids = self
            .datasets
            .iter()
            .map(|doomed| lua_guid(doomed.guid))
            .collect();
        let mut args = common(&self.site, self.epoch);
        args.insert("ds".into(), Value::StrArray(names));
        args.insert("guids".into(), Value::IntArray(guids));
        if !self.intents.is_empty() {
            let (properties, texts) = self.intents.clone().into_iter().unzip();
            args.insert("ip".into(), Value::StrArray(properties));
            args.insert("iv".into(), Value::StrArray(texts));
        }
        args
    }
}

impl Prune {
    fn args(&self) -> NvMap {
        let mut args = common(&self.site, self.epoch);
        args.extend([
            entry("ds", &self.dataset),
            entry("number", &self.number.to_string()),
        ]);
        args.extend(self.heir.as_ref().map(|heir| entry("heir", heir)));
        args.insert("guid".into(), Value::Int(lua_guid(self.guid)));
        args
    }
}

/// Lua's numbers are int64 here, so a guid above 2^63 is negative there.
fn lua_guid(guid: u64) -> i64 {
    i64::from_ne_bytes(guid.to_ne_bytes())
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
    zfs: &dyn Kernel,
    name: &'static str,
    source: &str,
    site: &str,
    args: &NvMap,
    limits: Limits,
) -> Result<Reply, ProgramError> {
    let pool = site.split(['/', '@']).next().unwrap_or_default();
    let raw = zfs.run_program(name, pool, source, args, limits)?;
    let reply = raw
        .get("return")
        .and_then(Value::as_list)
        .and_then(parse_reply);
    reply.ok_or_else(|| ProgramError::Reply {
        program: name.to_owned(),
        reply: format!("{raw:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            intents: BTreeMap::new(),
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
            intents: BTreeMap::new(),
            snapshot: None,
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
