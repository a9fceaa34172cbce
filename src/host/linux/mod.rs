//! Jails on Linux: OCI containers that crun runs and conmon watches.
//!
//! All that is kept is below /run (lost at a reboot, and nothing is missed) and a log. What is
//! true is in the pool, the kernel's process table and its mount tables. Each step has a file:
//! `start`, `stop`, `state`, `enter` (commands in a jail); `bundle`, `names`, `seccomp`, `users` and
//! `command` are pure.
//! Not here: mounting datasets, and which generation a jail should run.

mod boot;
mod bundle;
mod cgroup;
mod checks;
pub mod command;
mod crun;
mod ending;
mod enter;
mod holders;
mod identity;
mod ids;
mod init;
mod inside;
pub mod jail_id;
mod lookup;
mod names;
mod paths;
mod ping;
pub mod preflight;
pub mod process;
mod relay;
mod runtime;
mod seccomp;
mod start;
pub mod state;
mod stop;
pub mod users;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{
    Changed, HostConditions, JailConfig, JailState, Killed, Limits, Network, Params,
};
use crate::name::{GenerationId, JailName};
use crate::ports::{
    Asked, Check, ExecRequest, Holder, Host, HostError, JailSpec, Stopping, WorldRequest, WorldRun,
};
use crate::profile::Os;

use paths::Paths;

/// A Linux host, for one site.
#[derive(Debug, Clone)]
pub struct Linux {
    paths: Paths,
    site_directory: PathBuf,
}

impl Linux {
    /// The host as the system lays it out.
    pub fn new(site_id: &str, site_directory: &Path) -> Self {
        let run = Path::new(crate::lock::RUN_DIRECTORY);
        Linux::at(site_id, site_directory, run, Path::new("/var/log/ezz"))
    }

    /// The host with other directories for what it keeps at run time and for logs; for tests.
    pub fn at(site_id: &str, site_directory: &Path, run: &Path, log: &Path) -> Self {
        Linux {
            paths: Paths::new(site_id, run, log),
            site_directory: site_directory.to_owned(),
        }
    }
}

impl Host for Linux {
    fn os(&self) -> Os {
        Os::Linux
    }

    fn checks(&self) -> Vec<Check> {
        checks::all(&self.paths, &self.site_directory)
    }

    fn ensure_supported(&self, network: Network, params: &Params) -> Result<(), HostError> {
        start::takes(network, params)
    }

    fn takes_user_namespaces(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn built_in_limits(&self) -> Limits {
        cgroup::Control::of_host().built_in()
    }

    fn delegation_property(&self) -> Result<&'static str, HostError> {
        Err(start::no_datasets())
    }

    fn conditions(&self, jails: &[(&JailName, &JailConfig)]) -> HostConditions {
        preflight::look(&self.paths, jails)
    }

    fn states(&self) -> Result<BTreeMap<JailName, JailState>, HostError> {
        state::all(&self.paths)
    }

    /// A bundle holds the ids of the moment, so it is made at each start and not kept.
    fn write_config(&self, _spec: &JailSpec) -> Result<Changed, HostError> {
        Ok(Changed::Already)
    }

    fn config_drift(&self, _spec: &JailSpec) -> Result<Vec<PathBuf>, HostError> {
        Ok(Vec::new())
    }

    /// One that was started by an ezz that did not write it down is taken to be as it should be.
    fn runs_stale_config(&self, spec: &JailSpec) -> Result<bool, HostError> {
        let path = self.paths.started(&spec.name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(!text.is_empty() && text != start::runs_as(spec)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(file("read", &path)(error)),
        }
    }

    /// What a start leaves outside of its run directory counts too: ids and cgroups.
    fn derived(&self) -> Result<Vec<JailName>, HostError> {
        let mut names: BTreeSet<JailName> = state::known(&self.paths)?;
        let log = self.paths.logs();
        for file in paths::list(&log).map_err(file("list", &log))? {
            names.extend(
                file.strip_suffix(".log")
                    .and_then(|name| JailName::parse(name).ok()),
            );
        }
        Ok(names.into_iter().collect())
    }

    fn leftovers(&self) -> Result<Vec<JailName>, HostError> {
        state::left(&self.paths)
    }

    fn without_limits(&self) -> Result<Vec<JailName>, HostError> {
        let groups = self.paths.cgroups();
        let failed = file("list", Path::new(&groups));
        if !cgroup::Control::of_host().unified() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for name in cgroup::list(&groups).map_err(&failed)? {
            // That of a conmon is no name of a jail.
            let Ok(name) = JailName::parse(&name) else {
                continue;
            };
            if cgroup::lacks_limits(&self.paths.cgroup(&name)).map_err(&failed)? {
                found.push(name);
            }
        }
        Ok(found)
    }

    fn notes(&self) -> Vec<String> {
        self.paths.notes()
    }

    fn killed(&self, name: &JailName) -> Vec<Killed> {
        self.paths.killed_of(name)
    }

    fn holders(&self, at: &Path) -> Vec<Holder> {
        holders::holders(&self.paths, at)
    }

    fn remove_config(&self, name: &JailName) -> Result<Changed, HostError> {
        stop::forget(&self.paths, name)
    }

    fn start(&self, spec: &JailSpec, stop: &dyn Fn() -> bool) -> Result<Changed, HostError> {
        start::start(&self.paths, spec, stop)
    }

    fn settles(&self) -> Duration {
        start::SETTLE
    }

    fn ensure_up(&self, spec: &JailSpec) -> Result<(), HostError> {
        start::ensure_up(&self.paths, spec)
    }

    fn ask(&self, name: &JailName, how: Stopping<'_>) -> Result<Option<Asked>, HostError> {
        stop::ask(&self.paths, name, how)
    }

    fn stop(&self, name: &JailName, how: Stopping<'_>) -> Result<Changed, HostError> {
        stop::stop(&self.paths, name, how)
    }

    fn exec(&self, spec: &JailSpec, request: &ExecRequest) -> Result<i32, HostError> {
        enter::exec(&self.paths, spec, request)
    }

    fn probe(
        &self,
        spec: &JailSpec,
        command: &[String],
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), HostError> {
        enter::probe(&self.paths, spec, command, limit, stop)
    }

    fn run_in_world(&self, request: &WorldRequest<'_>) -> Result<WorldRun, HostError> {
        world::run(&self.paths, request)
    }

    fn clear_world(&self, generation: GenerationId) -> Result<Changed, HostError> {
        world::clear(&self.paths, generation)
    }
}

/// Names the file in an error.
fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> HostError {
    move |source| HostError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Names the program's purpose and the jail in an error.
fn program(action: &'static str, jail: &JailName) -> impl Fn(crate::exec::ExecError) -> HostError {
    move |source| HostError::Program {
        action,
        jail: jail.to_string(),
        source,
    }
}
