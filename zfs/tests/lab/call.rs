//! Programs with their arguments, as in `CONTRACT.md`.

use ezz_zfs::program::{Args, Program, Reply};
use ezz_zfs::{Limits, ProgramError, Zfs};

/// A program and its arguments.
pub struct Call(pub Program, pub Args);

impl Call {
    pub fn run(&self, zfs: &Zfs) -> Result<Reply, ProgramError> {
        self.0.run(zfs, &self.1)
    }

    pub fn run_within(&self, zfs: &Zfs, limits: Limits) -> Result<Reply, ProgramError> {
        self.0.run_within(zfs, &self.1, limits)
    }

    /// Returns the call with another value of an argument.
    pub fn with(self, name: &str, value: &str) -> Call {
        Call(self.0, self.1.text(name, value))
    }
}

pub fn init(site: &str, id: &str) -> Call {
    Call(Program::Init, Args::new(site).text("id", id))
}

pub fn stage(site: &str, epoch: u64, seq: u64) -> Call {
    let args = Args::at_epoch(site, epoch).text("seq", seq.to_string());
    Call(Program::Stage, args)
}

/// Returns a call that seals generation 1.
pub fn seal(site: &str, epoch: u64) -> Call {
    let args = Args::at_epoch(site, epoch)
        .text("number", "1")
        .text("world", r#"{"label":"x"}"#)
        .text("sealed", r#"{"manifest":"ab"}"#);
    Call(Program::Seal, args)
}

/// One property of `commit`: `dataset`, `property`, `expect` and `value` as `ds`, `p`, `x` and `v`.
#[derive(Clone)]
pub struct Change {
    pub dataset: String,
    pub property: String,
    pub expect: String,
    pub value: Option<String>,
}

pub fn commit(site: &str, epoch: u64, changes: Vec<Change>) -> Call {
    commit_if_sealed(site, epoch, changes, &[])
}

pub fn commit_if_sealed(site: &str, epoch: u64, changes: Vec<Change>, sealed: &[String]) -> Call {
    let value = |change: &Change| match &change.value {
        None => "-".to_owned(),
        Some(value) => format!("={value}"),
    };
    let args = Args::at_epoch(site, epoch)
        .bool("adopt", false)
        .texts("sealed", sealed)
        .texts("ds", changes.iter().map(|change| &change.dataset))
        .texts("p", changes.iter().map(|change| &change.property))
        .texts("x", changes.iter().map(|change| &change.expect))
        .texts("v", changes.iter().map(value));
    Call(Program::Commit, args)
}

/// One jail of `create`.
pub struct NewJail {
    pub name: String,
    pub origin: String,
    pub jail: String,
}

/// Returns a call that creates jails, with two intents.
pub fn create(site: &str, epoch: u64, jails: &[NewJail]) -> Call {
    let mut origins: Vec<&String> = jails.iter().map(|jail| &jail.origin).collect();
    origins.sort();
    origins.dedup();
    let origin_of = |jail: &NewJail| origins.iter().position(|origin| *origin == &jail.origin);
    let args = Args::at_epoch(site, epoch)
        .texts("names", jails.iter().map(|jail| &jail.name))
        .texts("jails", jails.iter().map(|jail| &jail.jail))
        .positions("o", jails.iter().filter_map(origin_of))
        .texts("origins", origins)
        .texts("ip", ["ezz:intent:3:0", "ezz:intent:3:1"])
        .texts("iv", ["{}", "[]"]);
    Call(Program::Create, args)
}

/// Returns a call that destroys datasets, given by name and guid.
pub fn destroy(site: &str, epoch: u64, doomed: &[(String, u64)]) -> Call {
    let args = Args::at_epoch(site, epoch)
        .texts("ds", doomed.iter().map(|(name, _)| name))
        .guids("guids", doomed.iter().map(|(_, guid)| *guid))
        .texts("ip", [""; 0])
        .texts("iv", [""; 0]);
    Call(Program::Destroy, args)
}
