//! The contract of `ports::Zfs`, call by call. It is written once, and runs on the simulated pool (`tests/ground`) and
//! on a real one (`bare::contract` in the lab). Each case is a script; each of its lines shows a call and its result,
//! and the case contains the lines that are expected.
//!
//! Where the two differ, the simulator is wrong.

pub mod datasets;
pub mod mounts;
pub mod programs;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ezz::model::Changed;
use ezz::name::{DatasetName, SnapshotName};
use ezz::plan::{Commit, Doomed, Expect, MountAs, NewJail, Set};
use ezz::ports::{PortError, Query, Row, Source, Zfs};
use ezz_zfs::MountError;

/// What a case needs of a machine, beside its ZFS.
pub trait Bench {
    fn zfs(&self) -> &dyn Zfs;

    /// Returns a directory for the mounts of this case alone.
    fn directory(&self) -> PathBuf;

    /// Returns whether programs can clone here.
    fn sync_clone(&self) -> bool;

    /// Runs `act` while a file is open in a mounted dataset.
    fn with_open_file(&self, dataset: &str, at: &std::path::Path, act: &mut dyn FnMut());

    /// Takes a snapshot, as `zfs snapshot` does.
    fn snapshot(&self, name: &str);

    /// Runs `zfs send -R FROM@SNAPSHOT | zfs receive -u TO`; the datasets below have the snapshot too.
    fn replicate(&self, from: &str, snapshot: &str, to: &str);
}

/// A case. Its name is also the name of its site below the pool.
pub type Case = (&'static str, fn(&mut Script<'_>));

/// All cases.
const CASES: [Case; 15] = [
    ("creation", datasets::creation),
    ("sources", datasets::sources),
    ("destroy", datasets::destroy_order),
    ("holds", datasets::holds),
    ("clones", datasets::clones),
    ("replica", datasets::replica),
    ("init", programs::init),
    ("stage", programs::stage),
    ("seal", programs::seal),
    ("create", programs::create),
    ("commit", programs::commit),
    ("doomed", programs::destroy),
    ("mounting", mounts::mounting),
    ("busy", mounts::busy),
    ("nested", mounts::nested),
];

/// Runs all cases and asserts once, so that a difference in one case does not hide those in the next.
#[track_caller]
pub fn keeps(bench: &dyn Fn(&str) -> Box<dyn Bench>) {
    let mut wrong = Vec::new();
    for (name, case) in CASES {
        let bench = bench(name);
        let mut script = Script::new(bench.as_ref(), name);
        case(&mut script);
        assert!(script.lines.is_empty(), "{name} ends without a comparison");
        wrong.append(&mut script.wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A case while it runs.
pub struct Script<'a> {
    pub bench: &'a dyn Bench,
    /// The name of the case's site, `tank/NAME`.
    pub site: String,
    lines: Vec<String>,
    wrong: Vec<String>,
}

impl<'a> Script<'a> {
    pub fn new(bench: &'a dyn Bench, name: &str) -> Script<'a> {
        Script {
            bench,
            site: format!("tank/{name}"),
            lines: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// Returns a dataset below the site; for an empty name the site itself.
    pub fn dataset(&self, below: &str) -> DatasetName {
        let path = match below {
            "" => self.site.clone(),
            below => format!("{}/{below}", self.site),
        };
        DatasetName::parse(&path).expect("a dataset")
    }

    pub fn snapshot(&self, below: &str) -> SnapshotName {
        let (dataset, name) = below.split_once('@').expect("a snapshot");
        self.dataset(dataset).at(name).expect("a snapshot")
    }

    fn zfs(&self) -> &'a dyn Zfs {
        self.bench.zfs()
    }

    /// Records the result of a call.
    pub fn note(&mut self, what: &str, result: Result<&str, &PortError>) {
        let came = match result {
            Ok(word) => word.to_owned(),
            Err(error) => class(error),
        };
        let line = format!("{what}: {came}").replace(&self.site, "SITE");
        let directory = self.bench.directory().display().to_string();
        self.lines.push(line.replace(&directory, "DIR"));
    }

    fn changed(&mut self, what: &str, result: Result<Changed, PortError>) {
        let word = result.as_ref().map(|changed| match changed {
            Changed::Already => "already",
            Changed::Done => "done",
        });
        self.note(what, word);
    }

    pub fn create(&mut self, below: &str, properties: &[(&str, &str)]) {
        let properties: BTreeMap<String, String> = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let result = self.zfs().create(&self.dataset(below), &properties);
        self.note(&format!("create {below}"), result.as_ref().map(|()| "ok"));
    }

    pub fn destroy(&mut self, below: &str) {
        let result = self.zfs().destroy(&self.dataset(below));
        self.note(&format!("destroy {below}"), result.as_ref().map(|()| "ok"));
    }

    pub fn set(&mut self, below: &str, property: &str, value: &str) {
        let result = self.zfs().set(&self.dataset(below), property, value);
        // The command's own message is not compared.
        let result = result
            .as_ref()
            .map(|()| "ok")
            .or(Ok::<_, &PortError>("refused"));
        self.note(&format!("set {property}={value} {below}"), result);
    }

    pub fn hold(&mut self, below: &[&str]) {
        let snapshots: Vec<SnapshotName> = below.iter().map(|name| self.snapshot(name)).collect();
        let result = self.zfs().hold(&snapshots);
        self.changed(&format!("hold {}", below.join(" ")), result);
    }

    pub fn release(&mut self, below: &[&str]) {
        let snapshots: Vec<SnapshotName> = below.iter().map(|name| self.snapshot(name)).collect();
        let result = self.zfs().release(&snapshots);
        self.changed(&format!("release {}", below.join(" ")), result);
    }

    pub fn holds(&mut self, below: &str) {
        let result = self.zfs().holds(&self.snapshot(below));
        let tags = result.as_ref().map(|tags| tags.join(" "));
        let tags = match &tags {
            Ok(tags) => Ok(tags.as_str()),
            Err(error) => Err(*error),
        };
        self.note(&format!("holds {below}"), tags);
    }

    pub fn clone_all(&mut self, clones: &[(&str, &str)]) {
        let all: Vec<ezz::plan::NewClone> = clones
            .iter()
            .map(|(dataset, origin)| ezz::plan::NewClone {
                dataset: self.dataset(dataset),
                origin: self.snapshot(origin),
            })
            .collect();
        let result = self.zfs().clone_all(&all);
        let names: Vec<&str> = clones.iter().map(|(dataset, _)| *dataset).collect();
        let what = format!("clone {}", names.join(" "));
        self.note(&what, result.as_ref().map(|()| "ok"));
    }

    pub fn commit(&mut self, what: &str, commit: &Commit) {
        let result = self.zfs().commit(&self.dataset(""), commit);
        self.note(what, result.as_ref().map(|()| "ok"));
    }

    pub fn mount(&mut self, below: &str, at: &str, how: MountAs) {
        let path = self.bench.directory().join(at);
        let result = self.zfs().mount(&self.dataset(below), &path, how);
        self.changed(&format!("mount {below} at {at}"), result);
    }

    pub fn unmount(&mut self, below: &str, at: &str) {
        let path = self.bench.directory().join(at);
        let result = self.zfs().unmount(&self.dataset(below), &path);
        self.changed(&format!("unmount {below} from {at}"), result);
    }

    /// Records properties of one dataset or snapshot, each with its source. They are read in both ways, which must
    /// agree. A look reports only the mount at the dataset's own mountpoint, so `mounted` is compared only if
    /// `mountpoint` is requested too.
    pub fn show(&mut self, below: &str, properties: &[&str]) {
        let name = match below {
            "" => self.site.clone(),
            below => format!("{}/{below}", self.site),
        };
        let query = Query {
            roots: std::slice::from_ref(&name),
            depth: Some(0),
            types: &["filesystem", "snapshot"],
            properties,
        };
        let rows = self.zfs().read(&query).expect("it can be read");
        let told = shown(&rows, &name, properties);
        let looked = self.zfs().look(&query).expect("it can be looked at");
        let seen = shown(&looked, &name, properties);
        let anywhere = properties.contains(&"mounted") && !properties.contains(&"mountpoint");
        if seen != told && !anywhere {
            let site = &self.site;
            let wrong = format!("{site}: a look at {below} tells {seen}, not {told}");
            self.wrong.push(wrong);
        }
        self.note(&format!("show {below}"), Ok(&told));
    }

    /// Records the datasets and snapshots that a query returns.
    pub fn list(&mut self, roots: &[&str], depth: Option<u32>, types: &[&str]) {
        let roots: Vec<String> = roots
            .iter()
            .map(|below| format!("{}/{below}", self.site))
            .collect();
        let rows = self.zfs().read(&Query {
            roots: &roots,
            depth,
            types,
            properties: &["type"],
        });
        let prefix = format!("{}/", self.site);
        let names: Vec<String> = rows
            .expect("it can be read")
            .into_keys()
            .map(|name| name.strip_prefix(&prefix).unwrap_or(&name).to_owned())
            .collect();
        self.note("list", Ok(&names.join(" ")));
    }

    pub fn guid(&self, below: &str) -> u64 {
        let name = format!("{}/{below}", self.site);
        let rows = self.zfs().read(&Query {
            roots: std::slice::from_ref(&name),
            depth: Some(0),
            types: &["filesystem", "snapshot"],
            properties: &["guid"],
        });
        let rows = rows.expect("it can be read");
        let row = rows.get(&name).expect("it is there");
        row.0["guid"].value.parse().expect("a number")
    }

    /// Prepares a case: its lines are not compared, and every call must succeed.
    pub fn quietly(&mut self, act: impl FnOnce(&mut Self)) {
        let before = self.lines.len();
        act(self);
        for line in self.lines.drain(before..) {
            let good = [": ok", ": done"].iter().any(|end| line.ends_with(end));
            assert!(good, "the preparation: {line}");
        }
    }

    /// Asserts the lines that were recorded since the last time.
    pub fn expect(&mut self, wanted: &[&str]) {
        let lines = std::mem::take(&mut self.lines);
        let longer = lines.len().max(wanted.len());
        for index in 0..longer {
            let came = lines.get(index).map_or("nothing", String::as_str);
            let wanted = wanted.get(index).copied().unwrap_or("nothing");
            if came != wanted {
                let text = format!("{}: {came}\n    and not: {wanted}", self.site);
                self.wrong.push(text);
            }
        }
    }
}

/// Returns an error without its message for people.
fn class(error: &PortError) -> String {
    match error {
        PortError::Call(call) => format!("{:?}", call.errno),
        PortError::Stale {
            expected, found, ..
        } => format!("stale: {found}, not {expected}"),
        PortError::Refused { dataset, why, .. } => {
            let why = why.split(": ").next().unwrap_or_default();
            format!("refused: {dataset}: {why}")
        }
        PortError::Failed {
            dataset, why, left, ..
        } => {
            let why: Vec<&str> = why.split(": ").take(2).collect();
            format!("failed: {dataset}: {}{left}", why.join(" "))
        }
        PortError::Busy { at, .. } => format!("busy: {}", at.display()),
        PortError::Covered { at, by, .. } => format!("covered: {by} at {}", at.display()),
        PortError::Occupied { at, by, .. } => format!("occupied: {} by {by}", at.display()),
        PortError::Mount {
            source: MountError::Mount { errno, .. },
            ..
        } => format!("mount: {errno:?}"),
        PortError::Property { property, .. } => format!("property: {property}"),
        PortError::Mount {
            source: MountError::NotMounted { at },
            ..
        } => format!("not mounted: {}", at.display()),
        PortError::Program {
            source: ezz_zfs::ProgramError::Lua { .. },
            ..
        } => "error of the program".to_owned(),
        other => format!("another error: {other:?}"),
    }
}

/// Creates a site as `init` does, without mounting it; its epoch is 1.
pub fn site(s: &mut Script<'_>) {
    s.quietly(|s| {
        let directory = s.bench.directory().display().to_string();
        s.create("", &[("mountpoint", &directory), ("devices", "off")]);
        s.create("basejail", &[("canmount", "off"), ("readonly", "on")]);
        s.create("newjail", &[("canmount", "off")]);
        s.create("jails", &[("canmount", "off"), ("mountpoint", &directory)]);
        let id = "id".to_owned();
        s.commit("init", &Commit::Init { id });
    });
}

/// Creates the two datasets of a generation, as a stage does; it takes no number.
pub fn staged(s: &mut Script<'_>, number: u32) {
    s.quietly(|s| {
        s.create(
            &format!("basejail/{number}"),
            &[("readonly", "off"), ("sync", "disabled")],
        );
        s.create(
            &format!("newjail/{number}"),
            &[("canmount", "noauto"), ("sync", "disabled")],
        );
    });
}

pub fn sealing(epoch: u64, number: u32, track: Option<Set>) -> Commit {
    Commit::Seal {
        epoch,
        generation: ezz::name::GenerationId(number),
        world: "{\"w\":1}".to_owned(),
        sealed: "{\"s\":1}".to_owned(),
        track,
    }
}

pub fn set(dataset: &DatasetName, property: &str, expect: Expect, value: Option<&str>) -> Set {
    Set {
        dataset: dataset.to_string(),
        property: property.to_owned(),
        expect,
        value: value.map(str::to_owned),
    }
}

pub fn sets(epoch: u64, sets: Vec<Set>) -> Commit {
    Commit::Set {
        epoch,
        sets,
        sealed: Vec::new(),
        adopt: false,
    }
}

pub fn jails(s: &Script<'_>, epoch: u64, jails: &[(&str, &str)]) -> Commit {
    Commit::Create {
        epoch,
        jails: jails
            .iter()
            .map(|(name, origin)| NewJail {
                name: ezz::name::JailName::parse(name).expect("a jail"),
                origin: s.snapshot(origin),
                config: format!("{{\"j\":\"{name}\"}}"),
            })
            .collect(),
        intents: BTreeMap::from([("ezz:intent:1:0".to_owned(), "{}".to_owned())]),
        snapshot: None,
    }
}

pub fn doomed(epoch: u64, all: &[(String, u64)]) -> Commit {
    Commit::Destroy {
        intents: std::collections::BTreeMap::new(),
        epoch,
        doomed: all
            .iter()
            .map(|(name, guid)| Doomed {
                name: name.clone(),
                guid: *guid,
            })
            .collect(),
    }
}

/// Returns the text of a row. A look leaves out properties that are not set.
fn shown(rows: &BTreeMap<String, Row>, name: &str, properties: &[&str]) -> String {
    let Some(row) = rows.get(name) else {
        return "absent".to_owned();
    };
    let value = |property: &&str| match row.0.get(*property) {
        None => format!("{property}=-"),
        Some(found) => {
            let source = match found.source {
                Source::Local => " local",
                Source::Received => " received",
                Source::Elsewhere => "",
            };
            format!("{property}={}{source}", found.value)
        }
    };
    let all: Vec<String> = properties.iter().map(value).collect();
    all.join(", ")
}
