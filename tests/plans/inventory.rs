//! Inventories that are built by hand, and plans as lines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ezz::model::{
    Base, Debris, Generation, Half, Intent, Inventory, Jail, JailConfig, JailState, Kind, Layout,
    Seal, Site, Todo, Track, World,
};
use ezz::name::{DatasetName, GenerationId, JailName, TrackName};
use ezz::plan::{Commit, Directory, Observed, Part, Plan, Step};

/// The epoch of every site that is built here.
pub const EPOCH: u64 = 5;

pub fn jail_name(text: &str) -> JailName {
    JailName::parse(text).expect("a jail's name")
}

pub fn track_name(text: &str) -> TrackName {
    TrackName::parse(text).expect("a track's name")
}

pub fn dataset(text: &str) -> DatasetName {
    DatasetName::parse(text).expect("a dataset's name")
}

pub fn names(list: &[&str]) -> Vec<JailName> {
    list.iter().map(|name| jail_name(name)).collect()
}

/// Returns the configuration of a jail of the track main.
pub fn config(kind: Kind, generation: u32) -> JailConfig {
    JailConfig {
        hostname: "h".to_owned(),
        ..JailConfig::new(
            kind,
            Base::Track(track_name("main")),
            GenerationId(generation),
        )
    }
}

/// The site tank/ezz at /srv/jails, mounted and empty; the methods add to it.
#[derive(Clone)]
pub struct Built(pub Observed);

/// Returns an empty site.
pub fn site() -> Built {
    Built(Observed {
        inventory: Inventory {
            site: Site {
                layout: Layout::new(dataset("tank/ezz")).expect("short"),
                id: "id".to_owned(),
                format: 1,
                seq: 0,
                epoch: EPOCH,
                replica: false,
                directory: PathBuf::from("/srv/jails"),
                mounted: true,
                available: 10 << 30,
                read_only: false,
            },
            tracks: BTreeMap::new(),
            swaps: BTreeMap::new(),
            accounts: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            generations: BTreeMap::new(),
            intents: BTreeMap::new(),
            left: Vec::new(),
            deleting: Default::default(),
            debris: BTreeMap::new(),
            jails: BTreeMap::new(),
            scope: None,
            strangers: Vec::new(),
        },
        states: BTreeMap::new(),
        directories: BTreeMap::new(),
        flavours: ezz::name::FlavourName::parse("web").into_iter().collect(),
        os: ezz::profile::Os::Linux,
        sync_clone: true,
    })
}

/// Returns a site with generation 1, sealed, which is current on the track main.
pub fn installed() -> Built {
    site().sealed(1).track("main", Some(1))
}

impl Built {
    fn half(&self, parent: &str, id: u32, sealed: bool) -> Half {
        Half {
            dataset: dataset(&format!("tank/ezz/{parent}/{id}")),
            guid: u64::from(id) * 100,
            mounted: parent == "basejail",
            flags: None,
            mountpoint: PathBuf::from(format!("/srv/jails/{parent}/{id}")),
            referenced: 80 << 20,
            used: 80 << 20,
            origin: None,
            pruned: false,
            moved: BTreeMap::new(),
            snapshot: sealed.then_some(u64::from(id) * 100 + 1),
            seal: sealed.then(|| Seal {
                manifest: "m".to_owned(),
                at: "2026-01-01T00:00:00Z".to_owned(),
                release: None,
                skeleton: None,
                other: serde_json::Map::new(),
            }),
            written: 0,
            held: sealed,
        }
    }

    fn generation(mut self, id: u32, sealed: bool) -> Self {
        let generation = Generation {
            id: GenerationId(id),
            world: sealed.then(|| world(&format!("debian-12.{id}"))),
            populated: None,
            rejected: None,
            served: None,
            sealing: false,
            base: Some(self.half("basejail", id, sealed)),
            skeleton: Some(self.half("newjail", id, sealed)),
        };
        self.0
            .inventory
            .generations
            .insert(GenerationId(id), generation);
        self.0.inventory.site.seq = self.0.inventory.site.seq.max(id);
        self
    }

    /// Adds a sealed generation, with its base mounted.
    pub fn sealed(self, id: u32) -> Self {
        self.generation(id, true)
    }

    /// Sets the digest of a generation's skeleton in its seals.
    pub fn content(mut self, id: u32, digest: &str) -> Self {
        let found = self.0.inventory.generations.get_mut(&GenerationId(id));
        let found = found.expect("it was added");
        for half in [&mut found.base, &mut found.skeleton] {
            let seal = half.as_mut().and_then(|half| half.seal.as_mut());
            seal.expect("it is sealed").skeleton = Some(digest.to_owned());
        }
        self
    }

    /// Adds a generation that is being built.
    pub fn staged(self, id: u32) -> Self {
        self.generation(id, false)
    }

    /// Adds a track.
    pub fn track(mut self, name: &str, current: Option<u32>) -> Self {
        let track = Track {
            current: current.map(GenerationId),
            ..Track::default()
        };
        self.0.inventory.tracks.insert(track_name(name), track);
        self
    }

    /// Adds a mounted jail with this configuration.
    pub fn jail(mut self, name: &str, config: JailConfig) -> Self {
        let jail = Jail {
            name: jail_name(name),
            dataset: dataset(&format!("tank/ezz/jails/{name}")),
            guid: 7000 + self.0.inventory.jails.len() as u64,
            config: Ok(config),
            merging: None,
            origin: Some("tank/ezz/newjail/1@1".to_owned()),
            mountpoint: PathBuf::from(format!("/srv/jails/{name}")),
            mounted: true,
            flags: None,
            used: 0,
            referenced: 0,
            quota: 0,
        };
        self.0.inventory.jails.insert(jail_name(name), jail);
        self
    }

    /// Adds a thin jail that follows main.
    pub fn thin(self, name: &str) -> Self {
        self.jail(name, config(Kind::Thin, 1))
    }

    /// Adds a jail whose creation was interrupted before its quota was set.
    pub fn unfinished(self, name: &str) -> Self {
        let todo = vec![Todo::Quota(1 << 30)];
        self.jail(
            name,
            JailConfig {
                todo,
                ..config(Kind::Thin, 1)
            },
        )
    }

    /// Adds a dataset among the jails that ezz cannot use.
    pub fn stranger(self, name: &str) -> Self {
        let mut built = self.thin(name);
        built.with_jail(name, |jail| jail.config = Err("it is odd".to_owned()));
        built
    }

    pub fn running(mut self, name: &str) -> Self {
        let state = JailState::Running { id: 42, base: None };
        self.0.states.insert(jail_name(name), state);
        self
    }

    /// Lets a jail run on the base of a generation.
    pub fn running_on(mut self, name: &str, generation: u32) -> Self {
        let base = Some(format!("tank/ezz/basejail/{generation}"));
        let state = JailState::Running { id: 42, base };
        self.0.states.insert(jail_name(name), state);
        self
    }

    /// Marks a jail as ended; the host remembers its exit status.
    pub fn ended(mut self, name: &str, exit: i32) -> Self {
        let state = JailState::Stopped { exit: Some(exit) };
        self.0.states.insert(jail_name(name), state);
        self
    }

    pub fn directory(mut self, name: &str, directory: Directory) -> Self {
        self.0.directories.insert(jail_name(name), directory);
        self
    }

    pub fn replica(mut self) -> Self {
        self.0.inventory.site.replica = true;
        self
    }

    pub fn with_jail(&mut self, name: &str, change: impl FnOnce(&mut Jail)) {
        let jail = self.0.inventory.jails.get_mut(&jail_name(name));
        change(jail.expect("it was added"));
    }

    /// Marks the kernel as one whose programs cannot clone.
    pub fn no_sync_clone(mut self) -> Self {
        self.0.sync_clone = false;
        self
    }

    /// Adds an intent for thin jails of generation 1 that was never committed.
    pub fn intent(mut self, property: &str, jails: &[&str]) -> Self {
        let intent = Intent {
            guids: Vec::new(),
            kind: Kind::Thin,
            skel: GenerationId(1),
            source: None,
            jails: names(jails),
            other: serde_json::Map::new(),
        };
        let text = serde_json::to_string(&intent).expect("JSON");
        self.0.inventory.intents.insert(property.to_owned(), text);
        self
    }

    /// Adds a clone that such an intent names; it is not mounted.
    pub fn debris(self, name: &str, intent: &str) -> Self {
        let mut built = self.stranger(name);
        let jail = built.0.inventory.jails.remove(&jail_name(name));
        let mut debris = Debris {
            deleted: false,
            jail: jail.expect("it was added"),
            intent: intent.to_owned(),
            below: Vec::new(),
        };
        debris.jail.mounted = false;
        built.0.inventory.debris.insert(jail_name(name), debris);
        built
    }

    pub fn with_debris(&mut self, name: &str, change: impl FnOnce(&mut Debris)) {
        let debris = self.0.inventory.debris.get_mut(&jail_name(name));
        change(debris.expect("it was added"));
    }

    pub fn with_base(&mut self, id: u32, change: impl FnOnce(&mut Half)) {
        let found = self.0.inventory.generations.get_mut(&GenerationId(id));
        let base = found.and_then(|generation| generation.base.as_mut());
        change(base.expect("it was added"));
    }

    pub fn unmounted(mut self, name: &str) -> Self {
        self.with_jail(name, |jail| jail.mounted = false);
        self
    }

    pub fn unmounted_base(mut self, id: u32) -> Self {
        self.with_base(id, |base| base.mounted = false);
        self
    }
}

pub fn world(label: &str) -> World {
    World {
        label: label.to_owned(),
        profile: "debian".to_owned(),
        os: "linux".to_owned(),
        arch: "amd64".to_owned(),
        source: None,
        parent: None,
        allowed: Vec::new(),
        other: serde_json::Map::new(),
    }
}

/// Returns a plan with one line for each step; a commit begins with the epoch that it expects.
#[track_caller]
pub fn told(plan: &Plan) -> Vec<String> {
    let mut next = EPOCH;
    let mut lines = Vec::new();
    for part in plan.parts() {
        let Part::Step(Step::Commit { commit, .. }) = part else {
            lines.push(part.to_string());
            continue;
        };
        let Some(epoch) = commit.epoch() else {
            lines.push(format!("commit: {commit}"));
            continue;
        };
        assert_eq!(
            epoch, next,
            "a commit that would find another epoch: {plan}"
        );
        next += 1;
        lines.push(format!("epoch {epoch}: {commit}"));
    }
    lines
}

/// Returns the commits of a plan.
pub fn commits(plan: &Plan) -> Vec<&Commit> {
    let steps = plan.steps.iter();
    steps
        .filter_map(|step| match step {
            Step::Commit { commit, .. } => Some(commit),
            _ => None,
        })
        .collect()
}
