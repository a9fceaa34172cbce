//! What the domain needs from the outside: a ZFS and a host. Two small traits, so that the same
//! plans run on a real pool and on a simulator. Longer than other files: the traits and what they are given
//! are one vocabulary, which both implementations read as a whole.

mod check;
mod error;
mod hints;
pub mod holder;
mod ran;
mod stopping;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::exec::{Exec, find};
use crate::model::{
    Changed, HostConditions, JailConfig, JailState, Killed, Limits, Mount, Network, Params, Taken,
    World, printable,
};
use crate::name::{DatasetName, GenerationId, JailName, SnapshotName};
use crate::plan::{Commit, MountAs, NewClone};
use crate::profile::{Os, Profile};

pub use crate::model::{BaseMount, JailSpec};
pub use check::{Check, Level};
pub use error::{HostError, PortError};
pub use holder::Holder;
pub use ran::{WorldRun, few_logs};
pub use stopping::{Asked, Stopping};

/// That the world of a jail is of the host's system: a host asks before it starts the jail.
///
/// # Errors
/// [`HostError::Foreign`].
pub fn ensure_native(spec: &JailSpec, os: Os) -> Result<(), HostError> {
    if spec.world.runs_on(os) {
        return Ok(());
    }
    Err(HostError::Foreign {
        jail: spec.name.clone(),
        world: spec.world.label.clone(),
        needs: spec.world.system().to_owned(),
        host: os,
    })
}

/// A command to run in a running jail.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// Program and arguments; empty = the console command of the profile.
    pub command: Vec<String>,
    /// The user in the jail; root if none.
    pub user: Option<String>,
    /// The directory in the jail.
    pub directory: Option<PathBuf>,
    /// Variables, `NAME=value`.
    pub environment: Vec<String>,
    /// Whether to give it a terminal of its own; the caller's must be one then.
    pub terminal: bool,
}

/// Where a command runs that changes a world.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// On the host itself.
    Host,
    /// In a jail of its own, whose root the world is.
    Jail {
        /// The dataset of its base, mounted writable.
        dataset: &'a DatasetName,
        /// The rules of the world it is made from.
        profile: &'a Profile,
        /// That world.
        world: &'a World,
    },
}

/// A command that changes the world of a generation that is being built.
#[derive(Clone)]
pub struct WorldRequest<'a> {
    /// Which generation.
    pub generation: GenerationId,
    /// Where its base is mounted, writable.
    pub root: &'a Path,
    /// Where the command runs.
    pub place: Place<'a>,
    /// Program and arguments.
    pub command: &'a [String],
    /// Variables, `NAME=value`, beside `EZZ_ROOT`: where the command finds the world.
    pub environment: &'a [String],
    /// A directory for what it downloads, which is made if it is not there: mounted where the profile
    /// says, or told as `EZZ_CACHE`.
    pub cache: Option<&'a Path>,
    /// How long it may take.
    pub limit: Duration,
    /// Whether it is to be stopped; asked again and again.
    pub stop: &'a dyn Fn() -> bool,
}

impl fmt::Debug for WorldRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorldRequest")
            .field("generation", &self.generation)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl WorldRequest<'_> {
    /// The command as it runs on the host itself; none if there is no command.
    pub fn on_host(&self) -> Option<Exec> {
        let (first, rest) = self.command.split_first()?;
        let mut exec = Exec::at(&find(first).unwrap_or_else(|_| first.into())).args(rest);
        for variable in self.environment {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            exec = exec.env(name, value);
        }
        if let Some(cache) = self.cache {
            exec = exec.env("EZZ_CACHE", cache);
        }
        Some(exec.env("EZZ_ROOT", self.root))
    }
}

/// Makes the directory for downloads of a [`WorldRequest`]: the host's root alone looks into it.
///
/// # Errors
/// The system's.
pub fn make_cache(at: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(at)
}

/// What somebody else has printed, on one line and without what would control the terminal of the
/// host's root.
fn one_line(text: &str) -> String {
    printable(&text.replace('\n', "; "))
}

/// The host that runs the jails.
pub trait Host: Sync + fmt::Debug {
    /// Which system it is: that of the worlds that its jails can run; hints name what it has.
    fn os(&self) -> Os;

    /// What the host has and lacks.
    fn checks(&self) -> Vec<Check>;

    /// Whether this host can ever give a jail this; asked before the jail is made.
    ///
    /// # Errors
    /// [`HostError::Missing`]: what it lacks.
    fn ensure_supported(&self, _network: Network, _params: &Params) -> Result<(), HostError> {
        Ok(())
    }

    /// Whether this host can let processes of a jail make user namespaces; asked before the jail is made.
    ///
    /// # Errors
    /// [`HostError::Missing`] if it has none.
    fn takes_user_namespaces(&self) -> Result<(), HostError> {
        Err(HostError::Missing {
            what: "user namespaces: only Linux has them".to_owned(),
            hint: "omit --nested-userns".to_owned(),
        })
    }

    /// The limits that this host gives a jail which has none of its own, as they are at this moment.
    fn built_in_limits(&self) -> Limits {
        Limits::default()
    }

    /// Whether a jail on the host's network reaches the addresses that it was given and no others. Otherwise it
    /// shares the whole network: loopback and, on Linux, abstract sockets too.
    fn restricts_to_addresses(&self) -> bool {
        false
    }

    /// The property that marks a dataset as one that a jail administers itself.
    ///
    /// # Errors
    /// [`HostError::Missing`] if this host cannot give jails any.
    fn delegation_property(&self) -> Result<&'static str, HostError> {
        Ok("jailed")
    }

    /// Whether commands on this host can install FreeBSD's base packages into a world.
    ///
    /// # Errors
    /// [`HostError::Missing`]: what it lacks.
    fn takes_packages(&self) -> Result<(), HostError> {
        Err(HostError::Missing {
            what: "pkg(8), which installs base packages on FreeBSD".to_owned(),
            hint: "omit --packages: the sets of a release can be installed on every host"
                .to_owned(),
        })
    }

    /// What is around jails that are to be made or started, or are looked at: what they may run into. One
    /// look for all of them, and only at what one of them needs. What cannot be told is said in it: a
    /// warning that fails must not keep a jail from anything.
    fn conditions(&self, _jails: &[(&JailName, &JailConfig)]) -> HostConditions {
        HostConditions::default()
    }

    /// All jails of this site that run, are dying, have left something, or whose exit status is remembered.
    ///
    /// # Errors
    /// [`HostError`] if the runtime or the kernel cannot be asked.
    fn states(&self) -> Result<BTreeMap<JailName, JailState>, HostError>;

    /// Makes the derived files of a stopped jail what they should be.
    ///
    /// # Errors
    /// [`HostError`] if one cannot be written.
    fn write_config(&self, spec: &JailSpec) -> Result<Changed, HostError>;

    /// Derived files of this jail that are missing or differ, without touching them.
    ///
    /// # Errors
    /// [`HostError`] if one cannot be read.
    fn config_drift(&self, spec: &JailSpec) -> Result<Vec<PathBuf>, HostError>;

    /// Whether a running jail was started with another configuration than it has now, apart from its base.
    ///
    /// # Errors
    /// [`HostError`] if what tells it cannot be read.
    fn runs_stale_config(&self, spec: &JailSpec) -> Result<bool, HostError> {
        Ok(!self.config_drift(spec)?.is_empty())
    }

    /// Names of jails for which derived files exist.
    ///
    /// # Errors
    /// [`HostError`] if the directory cannot be read.
    fn derived(&self) -> Result<Vec<JailName>, HostError>;

    /// Jails that do not run, and of whose last run something is left, such as mounts or ids: what [`Host::stop`]
    /// clears away. So is left what died by itself, and what a killed command started or stopped. One that is just
    /// being started or stopped is among them.
    ///
    /// # Errors
    /// [`HostError`] if the kernel or a directory cannot be read.
    fn leftovers(&self) -> Result<Vec<JailName>, HostError>;

    /// Running jails that lack a limit which this ezz gives every jail, because an older one has started
    /// them.
    ///
    /// # Errors
    /// [`HostError`] if the kernel cannot be asked.
    fn without_limits(&self) -> Result<Vec<JailName>, HostError> {
        Ok(Vec::new())
    }

    /// Running jails that have other parameters in the kernel than their configuration says, with what differs
    /// of each: somebody has started them in another way, or changed the one or the other since.
    ///
    /// # Errors
    /// [`HostError`] if the kernel cannot be asked, or the configuration not read.
    fn differing(&self) -> Result<BTreeMap<JailName, Vec<String>>, HostError> {
        Ok(BTreeMap::new())
    }

    /// Those of these names that something on the host has which is not of this site: a jail cannot start
    /// by one of them. Where all that the host keeps of a jail is named by its site, there are none.
    ///
    /// # Errors
    /// [`HostError`] if the kernel or a directory cannot be read.
    fn taken(&self, _names: &[&JailName]) -> Result<BTreeMap<JailName, Taken>, HostError> {
        Ok(BTreeMap::new())
    }

    /// What went otherwise than usual since this was asked last, and what the host did about it: a line
    /// each, for the user.
    fn notes(&self) -> Vec<String>;

    /// The processes that the last [`Host::stop`] of a jail had to kill.
    fn killed(&self, name: &JailName) -> Vec<Killed>;

    /// The processes that use the file system that is mounted at a directory, in whatever jail they are; none where
    /// the host cannot be asked.
    fn holders(&self, _at: &Path) -> Vec<Holder> {
        Vec::new()
    }

    /// Removes what the host keeps of a stopped jail: derived files, logs, the exit status.
    ///
    /// # Errors
    /// [`HostError::Running`]; [`HostError`] if something cannot be removed.
    fn remove_config(&self, name: &JailName) -> Result<Changed, HostError>;

    /// Starts a jail whose root and base are mounted; derives first. It has a limit, and is taken back once `stop`,
    /// which is asked again and again, says so.
    ///
    /// # Errors
    /// [`HostError::Ended`]; [`HostError`]. Nothing of the jail runs or stays mounted then.
    fn start(&self, spec: &JailSpec, stop: &dyn Fn() -> bool) -> Result<Changed, HostError>;

    /// How long a jail that was started may take to show whether its first process ends at once. [`Host::ensure_up`] is
    /// asked then.
    fn settles(&self) -> Duration {
        Duration::ZERO
    }

    /// Ensures that a jail which was just started is up. Nothing is left of one that is not.
    ///
    /// # Errors
    /// [`HostError::Start`] with its last words.
    fn ensure_up(&self, _spec: &JailSpec) -> Result<(), HostError> {
        Ok(())
    }

    /// Asks a jail to end and does not wait for that, so that many jails can end at once. [`Host::stop`] follows, and
    /// gets the answer; none if there is nobody to ask, or the host cannot ask without waiting.
    ///
    /// # Errors
    /// [`HostError`] if the kernel cannot be asked.
    fn ask(&self, _name: &JailName, _how: Stopping<'_>) -> Result<Option<Asked>, HostError> {
        Ok(None)
    }

    /// Stops a jail: its own shutdown, then a signal to every process that this leaves or, where there is none, to
    /// all, then a kill; undoes what `start` mounted. Whom it had to kill is in [`Host::killed`] and [`Host::notes`].
    ///
    /// # Errors
    /// [`HostError`] if it cannot be stopped or stays busy.
    fn stop(&self, name: &JailName, how: Stopping<'_>) -> Result<Changed, HostError>;

    /// Runs a command in a running jail on the caller's standard streams; returns its exit code
    /// (128 + signal if a signal ended it).
    ///
    /// # Errors
    /// [`HostError::Account`]; [`HostError`] if it could not be started there.
    fn exec(&self, spec: &JailSpec, request: &ExecRequest) -> Result<i32, HostError>;

    /// Runs a command in a running jail, with nothing on its standard input, and is content if it
    /// ends with 0 in time. It is killed if it does not end in time, or once `stop` says so.
    ///
    /// # Errors
    /// [`HostError::Unwell`]; [`HostError::Account`]; [`HostError`] if it could not be started there.
    fn probe(
        &self,
        spec: &JailSpec,
        command: &[String],
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), HostError>;

    /// Runs a command in the world of a generation that is being built, with the host's network.
    /// Nothing of it runs, or is mounted, afterwards.
    ///
    /// # Errors
    /// [`HostError`] if it could not be started.
    fn run_in_world(&self, request: &WorldRequest<'_>) -> Result<WorldRun, HostError>;

    /// Ends what a killed [`Host::run_in_world`] left of a generation: processes, mounts.
    ///
    /// # Errors
    /// [`HostError`] if it cannot be ended.
    fn clear_world(&self, generation: GenerationId) -> Result<Changed, HostError>;
}

/// A row of properties: dataset or snapshot, then each property with its value and source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row(pub BTreeMap<String, PropertyValue>);

/// A property's value and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyValue {
    /// As `zfs get -p` prints it.
    pub value: String,
    /// Where it was set.
    pub source: Source,
}

/// The source column of `zfs get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Set on this very dataset.
    Local,
    /// Came with a receive.
    Received,
    /// Inherited, default, temporary or none.
    Elsewhere,
}

/// The key of a row for the flags of a dataset's mount at its mountpoint, as the words of
/// [`crate::model::Flags`]. Rows that say whether a dataset is mounted have it. No ZFS property has such a name.
pub const MOUNT_FLAGS: &str = "mount flags";

/// What to read.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// Datasets and snapshots to begin at.
    pub roots: &'a [String],
    /// How deep below them; none = without limit.
    pub depth: Option<u32>,
    /// `filesystem`, `snapshot`.
    pub types: &'a [&'a str],
    /// Which properties.
    pub properties: &'a [&'a str],
}

/// A ZFS, real or simulated.
pub trait Zfs: Sync + fmt::Debug {
    /// Reads properties; roots that do not exist are absent from the answer.
    ///
    /// # Errors
    /// [`PortError`].
    fn read(&self, query: &Query<'_>) -> Result<BTreeMap<String, Row>, PortError>;

    /// The same for a command that is about to change the pool: where that is quicker it leaves a record in
    /// the pool's history. Of `all` properties those of ezz are sure to be there, and the native ones that
    /// an observation takes. `mounted` is whether it is mounted at its own place.
    ///
    /// # Errors
    /// [`PortError`].
    fn look(&self, query: &Query<'_>) -> Result<BTreeMap<String, Row>, PortError> {
        self.read(query)
    }

    /// What is known of errors of the pool of a site, if that can be asked.
    fn health(&self, _site: &DatasetName) -> Option<Check> {
        None
    }

    /// Creates a filesystem, not mounted. Atomic but for its properties (zfs_ioctl.c).
    ///
    /// # Errors
    /// [`PortError`].
    fn create(
        &self,
        dataset: &DatasetName,
        properties: &BTreeMap<String, String>,
    ) -> Result<(), PortError>;

    /// Runs the program of a commit: all of it, or nothing and the reason.
    ///
    /// # Errors
    /// [`PortError::Stale`] if the site's epoch is not the one the plan was made from;
    /// [`PortError::Refused`] if the program's own checks failed. Nothing has changed then.
    fn commit(&self, site: &DatasetName, commit: &Commit) -> Result<(), PortError>;

    /// Clones snapshots, without properties and not mounted: many at once, each atomic by itself.
    /// Stops at the first failure; those that were made stay.
    ///
    /// # Errors
    /// [`PortError`] of the first that failed; EEXIST if a dataset of that name is there.
    fn clone_all(&self, clones: &[NewClone]) -> Result<(), PortError>;

    /// Destroys one filesystem without children or snapshots.
    ///
    /// # Errors
    /// [`PortError`].
    fn destroy(&self, dataset: &DatasetName) -> Result<(), PortError>;

    /// Makes a snapshot.
    ///
    /// # Errors
    /// [`PortError`]; EEXIST if it is there.
    fn snapshot(&self, snapshot: &SnapshotName) -> Result<(), PortError>;

    /// Destroys a snapshot with its last clone (at once, if it has none): `zfs destroy -d`.
    ///
    /// # Errors
    /// [`PortError`].
    fn destroy_deferred(&self, snapshot: &SnapshotName) -> Result<(), PortError>;

    /// Rolls a filesystem that is not mounted back to its latest snapshot.
    ///
    /// # Errors
    /// [`PortError`]; EEXIST if there is a later one.
    fn rollback(&self, snapshot: &SnapshotName) -> Result<(), PortError>;

    /// Puts ezz's hold on snapshots; those that have it keep it.
    ///
    /// # Errors
    /// [`PortError`].
    fn hold(&self, snapshots: &[SnapshotName]) -> Result<Changed, PortError>;

    /// Takes ezz's hold off.
    ///
    /// # Errors
    /// [`PortError`].
    fn release(&self, snapshots: &[SnapshotName]) -> Result<Changed, PortError>;

    /// Sets a native property of one dataset.
    ///
    /// # Errors
    /// [`PortError`].
    fn set(&self, dataset: &DatasetName, property: &str, value: &str) -> Result<(), PortError>;

    /// Mounts a filesystem at a directory, which is made (root, 0700) if it is missing.
    ///
    /// # Errors
    /// [`PortError`].
    fn mount(&self, dataset: &DatasetName, at: &Path, how: MountAs) -> Result<Changed, PortError>;

    /// Mounts a snapshot in the same way, to read it.
    ///
    /// # Errors
    /// As [`Zfs::mount`].
    fn mount_snapshot(&self, snapshot: &SnapshotName, at: &Path) -> Result<Changed, PortError>;

    /// The same of many that do not lie below each other; an implementation may do several at once, and
    /// look at the mounts of this machine once for all of them. How many were not mounted before.
    ///
    /// # Errors
    /// As [`Zfs::mount`], of one that failed; others may be mounted.
    fn mount_all(&self, what: &[(&DatasetName, &Path, MountAs)]) -> Result<usize, PortError> {
        let mut done = 0;
        for (dataset, at, how) in what {
            done += usize::from(self.mount(dataset, at, *how)? == Changed::Done);
        }
        Ok(done)
    }

    /// Unmounts whatever is mounted at or below a directory of a dataset, deepest first.
    ///
    /// # Errors
    /// [`PortError`]; busy is [`PortError::Busy`].
    fn unmount(&self, dataset: &DatasetName, at: &Path) -> Result<Changed, PortError>;

    /// The same of many, in their order, up to the first that fails; how many were mounted. An
    /// implementation may look at the mounts of this machine once for all of them.
    ///
    /// # Errors
    /// As [`Zfs::unmount`].
    fn unmount_all(&self, what: &[(&DatasetName, &Path)]) -> Result<usize, PortError> {
        let mut done = 0;
        for (dataset, at) in what {
            done += usize::from(self.unmount(dataset, at)? == Changed::Done);
        }
        Ok(done)
    }

    /// The mounts of this machine, of whatever kind; later ones hide earlier ones.
    ///
    /// # Errors
    /// [`PortError::Mount`] if the table cannot be read.
    fn mounts(&self) -> Result<Vec<Mount>, PortError>;

    /// The one of them that is seen at a directory; with thousands of mounts quicker than all of them.
    ///
    /// # Errors
    /// [`PortError`].
    fn mounted_at(&self, at: &Path) -> Result<Option<Mount>, PortError> {
        Ok(self.mounts()?.into_iter().rfind(|it| it.target == at))
    }

    /// The holds on a snapshot, by tag.
    ///
    /// # Errors
    /// [`PortError`].
    fn holds(&self, snapshot: &SnapshotName) -> Result<Vec<String>, PortError>;

    /// What the kernel's OpenZFS can do.
    ///
    /// # Errors
    /// [`PortError`].
    fn capabilities(&self, site: &DatasetName) -> Result<Capabilities, PortError>;
}

/// What an OpenZFS can do, asked of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The module's version, as it says itself.
    pub module: String,
    /// Whether programs can clone (2.4 and later).
    pub sync_clone: bool,
}
