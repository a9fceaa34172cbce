//! Runs the channel programs of ezz by name with their arguments. `CONTRACT.md` documents the arguments and what each
//! program promises.
//!
//! Each program changes everything or nothing, within one transaction group. It compares the site's epoch with the one
//! that the plan was made from, and raises it. The caller checks names and values: the programs and the kernel check
//! almost nothing. This module must not decide what to do about a refusal; the caller does.

use crate::channel::Limits;
use crate::core::Zfs;
use crate::error::ProgramError;
use crate::nvlist::{NvMap, Value};
use crate::reply::parse_reply;
pub use crate::reply::{Failure, Refusal, Reply, Why};
use crate::strip::strip;

const PRELUDE: &str = include_str!("../programs/prelude.lua");

/// Something that runs channel programs: the kernel, or a simulator with the same functions.
pub trait Kernel {
    /// Runs a program in one transaction group, and returns its result under the name `return`.
    ///
    /// # Errors
    /// See [`ProgramError`]; after some of them the changes of the program remain.
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
    ($($(#[$doc:meta])* $program:ident = $name:literal,)*) => {
        /// A channel program that changes the pool.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Program {
            $($(#[$doc])* $program,)*
        }

        impl Program {
            /// Every program.
            pub const ALL: &[Program] = &[$(Program::$program,)*];

            /// Returns the name of the program in errors, which is also that of its file in `programs/`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Program::$program => $name,)*
                }
            }

            fn body(self) -> &'static str {
                match self {
                    $(Program::$program => include_str!(concat!("../programs/", $name, ".lua")),)*
                }
            }
        }
    };
}

programs! {
    /// Makes an existing dataset a site.
    Init = "init",
    /// Takes the next number of the site's sequence, and replies with it.
    Stage = "stage",
    /// Seals the generation that was staged under a number: snapshots, seals, properties.
    Seal = "seal",
    /// Clones all of the datasets or none. Needs OpenZFS 2.4 (`sync_clone`).
    Create = "create",
    /// Compares and sets many user properties.
    Commit = "commit",
    /// Destroys datasets in the given order.
    Destroy = "destroy",
    /// Destroys one sealed dataset; a clone takes over the snapshots that others need.
    Prune = "prune",
}

impl Program {
    /// Runs the program with limits that fit its input.
    ///
    /// # Errors
    /// The program did not complete: see [`ProgramError`] and `CONTRACT.md`.
    pub fn run(self, kernel: &dyn Kernel, args: &Args) -> Result<Reply, ProgramError> {
        self.run_within(kernel, args, limits_for(&args.values))
    }

    /// Runs the program with these limits, by which tests stop programs early.
    ///
    /// # Errors
    /// Those of [`Program::run`].
    pub fn run_within(
        self,
        kernel: &dyn Kernel,
        args: &Args,
        limits: Limits,
    ) -> Result<Reply, ProgramError> {
        let source = self.source();
        let raw = kernel.run_program(self.name(), args.pool(), &source, &args.values, limits)?;
        let reply = raw
            .get("return")
            .and_then(Value::as_list)
            .and_then(parse_reply);
        reply.ok_or_else(|| ProgramError::Reply {
            program: self.name().to_owned(),
            reply: format!("{raw:?}"),
        })
    }

    /// Returns the Lua source that is sent to the kernel.
    pub fn source(self) -> String {
        strip(PRELUDE) + &strip(self.body())
    }
}

/// The arguments of a program by name, in the types that programs accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    site: String,
    values: NvMap,
}

impl Args {
    /// Makes arguments for [`Program::Init`]: a dataset that is not yet a site has no epoch to compare.
    pub fn new(site: &str) -> Self {
        let args = Args {
            site: site.to_owned(),
            values: NvMap::new(),
        };
        args.text("site", site)
    }

    /// Makes arguments for a plan that was made from this epoch of the site.
    pub fn at_epoch(site: &str, epoch: u64) -> Self {
        Args::new(site).text("epoch", epoch.to_string())
    }

    /// Adds a boolean.
    #[must_use]
    pub fn bool(self, name: &str, value: bool) -> Self {
        self.with(name, Value::Bool(value))
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.with(name, Value::Str(value.into()))
    }

    /// Adds an array of strings.
    #[must_use]
    pub fn texts(self, name: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.with(name, Value::StrArray(values))
    }

    /// Adds an array of positions, which Lua counts from 1.
    #[must_use]
    pub fn positions(self, name: &str, values: impl IntoIterator<Item = usize>) -> Self {
        let position = |index| i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
        let values = values.into_iter().map(position).collect();
        self.with(name, Value::IntArray(values))
    }

    /// Adds a guid.
    #[must_use]
    pub fn guid(self, name: &str, guid: u64) -> Self {
        self.with(name, Value::Int(lua_guid(guid)))
    }

    /// Adds an array of guids.
    #[must_use]
    pub fn guids(self, name: &str, guids: impl IntoIterator<Item = u64>) -> Self {
        let guids = guids.into_iter().map(lua_guid).collect();
        self.with(name, Value::IntArray(guids))
    }

    /// Returns the argument with this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    fn pool(&self) -> &str {
        self.site.split(['/', '@']).next().unwrap_or_default()
    }
}

/// Converts a guid: numbers in this Lua are int64, so a guid of 2^63 or more is negative there.
fn lua_guid(guid: u64) -> i64 {
    i64::from_ne_bytes(guid.to_ne_bytes())
}

/// Returns the default limits of the module, with space for the arguments. These count as the strings of the table, and
/// again for the parts that a program cuts out of them; a slot of a table takes some 40 bytes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_above_the_sign_bit_is_negative_in_lua() {
        let args = Args::at_epoch("tank", 1).guids("guids", [u64::MAX - 1]);
        assert_eq!(args.get("guids"), Some(&Value::IntArray(vec![-2])));
    }

    #[test]
    fn positions_count_from_one() {
        let args = Args::at_epoch("tank", 1).positions("o", [0, 2]);
        assert_eq!(args.get("o"), Some(&Value::IntArray(vec![1, 3])));
    }

    #[test]
    fn sources_are_short_and_have_no_long_brackets() {
        for program in Program::ALL {
            let source = program.source();
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
