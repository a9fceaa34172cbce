//! FreeBSD: jails of the kernel, through jail(8), jls(8), jexec(8) and derived files.
//!
//! The module works through files and the system's own programs, so it compiles and is tested on every OS. The state of
//! a running jail comes from jls and the mount table, never from an exit status. Nothing is unmounted by force. The
//! files of a jail stay until the jail has ended, because jail(8) needs them to stop it. This module must not read or
//! follow a path inside a jail.

mod argv;
mod checks;
mod compare;
pub mod conf;
mod datasets;
mod depend;
mod ending;
mod files;
mod globals;
pub mod jls;
mod ops;
mod params;
mod preflight;
mod stage;
pub mod system;
mod taken;
mod view;
mod vnet;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::exec::{self, Exec, ExecError, code};
use crate::model::{
    Changed, HostConditions, JailConfig, JailState, Killed, Network, Params, Taken,
};
use crate::name::{GenerationId, JailName};
use crate::ports::{
    Check, ExecRequest, Host, HostError, JailSpec, Stopping, WorldRequest, WorldRun,
};
use crate::profile::Os;

use system::{System, ThisSystem};
use view::View;

/// The paths of the host's files, and the times that ezz waits for the host.
#[derive(Debug, Clone)]
pub struct Places {
    /// The directory with one file per jail; rc.d/jail looks here by name.
    pub conf: PathBuf,
    /// The administrator's file, which may include the others.
    pub main_conf: PathBuf,
    /// The directory of the console logs, which only root can read.
    pub log: PathBuf,
    /// The time that ezz waits for something that ends by itself. For example, a mount stays busy after its jail has
    /// ended, because a dying jail keeps its root until the last reference to it.
    pub patience: Duration,
    /// The most time that jail(8) may take to start a jail, even if the profile allows more. exec.start is the jail's
    /// whole rc(8), which runs all of its services.
    pub start: Duration,
    /// The time that a program may take that ends a jail or cleans up after it, and that waits only for the kernel.
    pub helper: Duration,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            conf: "/etc/jail.conf.d".into(),
            main_conf: "/etc/jail.conf".into(),
            log: "/var/log/ezz".into(),
            patience: Duration::from_secs(20),
            start: Duration::from_secs(1800),
            helper: exec::LIMIT,
        }
    }
}

/// The path of a derived file and its intended content; none means that the file should not exist.
type Wanted = (PathBuf, Option<Vec<u8>>);

/// A FreeBSD host.
#[derive(Debug)]
pub struct FreeBsd {
    site_id: String,
    site_directory: PathBuf,
    places: Places,
    /// Whether rc.d/jail reads the files of all jails as one configuration; determined once.
    reads_all: OnceLock<bool>,
    /// What /etc/jail.conf says of all jails; read once.
    globals: OnceLock<Result<globals::Globals, globals::GlobalsError>>,
    /// The dependents of each jail, according to the files; read once.
    dependents: OnceLock<BTreeMap<JailName, BTreeSet<JailName>>>,
    /// The last look at the kernel, until this process changes something there. A command may be about thousands of
    /// jails, and each look starts a program and reads the whole mount table.
    seen: Mutex<Option<Arc<View>>>,
    /// Held while derived files are written: those of one jail say what those of others say.
    writing: Mutex<()>,
    system: Arc<dyn System>,
    notes: Mutex<Vec<String>>,
    /// The processes that the last stop of each jail has killed.
    killed: Mutex<BTreeMap<JailName, Vec<Killed>>>,
}

impl FreeBsd {
    /// Creates the real host, for the jails of one site.
    pub fn new(site_id: &str, site_directory: &Path) -> Self {
        FreeBsd::on(
            site_id,
            site_directory,
            Places::default(),
            Arc::new(ThisSystem),
        )
    }

    /// Creates a host with other paths and times, on a system that may consist of stand-ins.
    pub fn on(
        site_id: &str,
        site_directory: &Path,
        places: Places,
        system: Arc<dyn System>,
    ) -> Self {
        FreeBsd {
            site_id: site_id.to_owned(),
            site_directory: site_directory.to_owned(),
            places,
            reads_all: OnceLock::new(),
            globals: OnceLock::new(),
            dependents: OnceLock::new(),
            seen: Mutex::default(),
            writing: Mutex::default(),
            system,
            notes: Mutex::default(),
            killed: Mutex::default(),
        }
    }

    fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(text);
    }

    fn conf_file(&self, name: &JailName) -> PathBuf {
        self.places.conf.join(format!("{name}.conf"))
    }

    /// Returns the path of a jail's fstab. It is beside the conf, so that both exist or neither; no glob for `*.conf`
    /// matches it.
    fn fstab_file(&self, name: &JailName) -> PathBuf {
        self.places.conf.join(format!("{name}.fstab"))
    }

    fn log_file(&self, name: &JailName) -> PathBuf {
        self.places.log.join(format!("{name}.log"))
    }

    /// Returns the intended content of a jail's derived files, in the order in which they are written: the conf names
    /// the fstab.
    fn wanted(&self, spec: &JailSpec) -> Result<[Wanted; 3], HostError> {
        let fstab = self.fstab_file(&spec.name);
        let log = self.log_file(&spec.name);
        let names = conf::Names {
            fstab: &fstab,
            console_log: &log,
        };
        let made = conf::render(spec, names).map_err(|error| HostError::Parse {
            what: format!("the configuration of {}", spec.name),
            why: error.to_string(),
        })?;
        let [first, second] = self.with_dependencies(spec, made.conf)?;
        Ok([(fstab, made.fstab), first, second])
    }

    /// Writes the derived files. The caller has checked that the jail does not run.
    fn write(&self, spec: &JailSpec) -> Result<Changed, HostError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        make_directory(&self.places.conf, 0o755)?;
        // jail(8) creates the log, but not its directory, and service(8) may be the first to start the jail.
        make_directory(&self.places.log, 0o700)?;
        let mut all = Changed::Already;
        let wanted = self.wanted(spec)?;
        for (path, text) in &wanted {
            if let Some(text) = text {
                all = done(all, files::put(path, &self.site_id, text)?);
            }
        }
        for (path, _) in wanted.iter().filter(|(_, text)| text.is_none()) {
            all = done(all, files::remove(path, &self.site_id)?);
        }
        if !spec.config.boot {
            self.release(&spec.name)?;
        }
        Ok(all)
    }

    /// Refuses parameters whose modules are not loaded, because jail(8) would not know them.
    fn modules(&self, params: &Params) -> Result<(), HostError> {
        if params.is_empty() {
            return Ok(());
        }
        let unknown = params::Known::of_kernel(self.system.as_ref())?.unknown(params);
        let missing = unknown.iter().find_map(|name| {
            let lack = preflight::module_lack(name, params::module(name)?);
            Some(HostError::Missing {
                what: format!("a kernel module: {}", lack.what),
                hint: lack.hint,
            })
        });
        missing.map_or(Ok(()), Err)
    }

    /// Returns the last look at the kernel, or looks now if there is none.
    fn look(&self) -> Result<Arc<View>, HostError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = &*seen {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(View::of_kernel(self.system.as_ref(), &self.site_directory)?);
        *seen = Some(Arc::clone(&view));
        Ok(view)
    }

    /// Looks at the kernel now, where changes by other programs matter.
    fn look_again(&self) -> Result<Arc<View>, HostError> {
        self.changed();
        self.look()
    }

    /// Discards the last look, which does not show a change that was just made.
    fn changed(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Host for FreeBsd {
    fn os(&self) -> Os {
        Os::FreeBsd
    }

    fn checks(&self) -> Vec<Check> {
        checks::all(self)
    }

    fn restricts_to_addresses(&self) -> bool {
        true
    }

    fn ensure_supported(&self, _network: Network, params: &Params) -> Result<(), HostError> {
        if params.is_empty() {
            return Ok(());
        }
        let unknown = params::Known::of_kernel(self.system.as_ref())?;
        let mut unknown = unknown.unknown(params);
        // A missing module can still be loaded before the jail starts.
        unknown.retain(|name| params::module(name).is_none());
        if unknown.is_empty() {
            return Ok(());
        }
        Err(HostError::Missing {
            what: format!("the jail parameters {}", unknown.join(", ")),
            hint: "`sysctl -d security.jail.param` lists the kernel's".to_owned(),
        })
    }

    fn conditions(&self, jails: &[(&JailName, &JailConfig)]) -> HostConditions {
        let site = fs::canonicalize(&self.site_directory);
        let site = site.unwrap_or_else(|_| self.site_directory.clone());
        preflight::look(self.system.as_ref(), &site, jails)
    }

    fn states(&self) -> Result<BTreeMap<JailName, JailState>, HostError> {
        // Plans are made from this, so it must be current.
        Ok(self.look_again()?.states())
    }

    fn write_config(&self, spec: &JailSpec) -> Result<Changed, HostError> {
        let stale = self.config_drift(spec)?;
        if stale.is_empty() {
            return Ok(Changed::Already);
        }
        // A jail without files was never started from them, so the kernel need not be asked. That saves time when a
        // thousand jails are created.
        if stale.iter().any(|path| path.exists()) && self.look()?.runs(&spec.name) {
            return Err(HostError::Running(spec.name.clone()));
        }
        self.write(spec)
    }

    fn config_drift(&self, spec: &JailSpec) -> Result<Vec<PathBuf>, HostError> {
        let mut stale = Vec::new();
        for (path, text) in self.wanted(spec)? {
            let same = match &text {
                Some(text) => files::read(&path)?.as_ref() == Some(text),
                None => !files::is_of(&path, &self.site_id)?,
            };
            if !same {
                stale.push(path);
            }
        }
        Ok(stale)
    }

    fn derived(&self) -> Result<Vec<JailName>, HostError> {
        let failed = |source| files::file_error("list", &self.places.conf, source);
        let entries = match fs::read_dir(&self.places.conf) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let ours = matches!(
                path.extension().and_then(OsStr::to_str),
                Some("conf" | "fstab" | "alone")
            );
            let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            let Ok(name) = JailName::parse(stem) else {
                continue;
            };
            if ours && path.is_file() && files::is_of(&path, &self.site_id)? {
                names.insert(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    fn differing(&self) -> Result<BTreeMap<JailName, Vec<String>>, HostError> {
        FreeBsd::differing(self)
    }

    fn taken(&self, names: &[&JailName]) -> Result<BTreeMap<JailName, Taken>, HostError> {
        self.names_taken(names)
    }

    fn leftovers(&self) -> Result<Vec<JailName>, HostError> {
        Ok(self.look_again()?.left())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notes)
    }

    fn killed(&self, name: &JailName) -> Vec<Killed> {
        let killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        killed.get(name).cloned().unwrap_or_default()
    }

    fn remove_config(&self, name: &JailName) -> Result<Changed, HostError> {
        if self.look()?.runs(name) {
            return Err(HostError::Running(name.clone()));
        }
        let mut all = self.clean(name)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.release(name)?;
        let files = [
            self.conf_file(name),
            self.alone_file(name),
            self.fstab_file(name),
        ];
        for path in files {
            all = done(all, files::remove(&path, &self.site_id)?);
        }
        let log = self.log_file(name);
        match fs::remove_file(&log) {
            Ok(()) => all = Changed::Done,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(files::file_error("remove", &log, source)),
        }
        Ok(all)
    }

    fn start(&self, spec: &JailSpec, stop: &dyn Fn() -> bool) -> Result<Changed, HostError> {
        self.start_jail(spec, stop)
    }

    fn stop(&self, name: &JailName, how: Stopping<'_>) -> Result<Changed, HostError> {
        self.stop_jail(name, how)
    }

    fn exec(&self, spec: &JailSpec, request: &ExecRequest) -> Result<i32, HostError> {
        let Some(jid) = self.look_again()?.jid(&spec.name) else {
            return Err(HostError::NotRunning(spec.name.clone()));
        };
        let failed = program_error("run a command in", &spec.name);
        let jexec = self.system.program("jexec").map_err(&failed)?;
        let argv = argv::run(jid, request, &spec.profile.console);
        let mut exec = if request.terminal {
            let script = self.system.exec("script").map_err(&failed)?;
            script.args(argv::in_terminal(&jexec, argv))
        } else {
            Exec::at(&jexec).args(argv)
        };
        if let Some(term) = std::env::var_os("TERM").filter(|_| request.terminal) {
            exec = exec.env("TERM", term);
        }
        // There is no limit, because the administrator has requested the command.
        let status = exec.interactive().map_err(&failed)?;
        Ok(code(status))
    }

    /// jexec(8) becomes the command, so killing it kills the command.
    fn probe(
        &self,
        spec: &JailSpec,
        command: &[String],
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), HostError> {
        let Some(jid) = self.look_again()?.jid(&spec.name) else {
            return Err(HostError::NotRunning(spec.name.clone()));
        };
        let failed = program_error("run a command in", &spec.name);
        let request = ExecRequest {
            command: command.to_vec(),
            ..ExecRequest::default()
        };
        let jexec = self.system.exec("jexec").map_err(&failed)?;
        let exec = jexec.args(argv::run(jid, &request, &spec.profile.console));
        let watch = exec::Watch {
            limit,
            stop,
            log: None,
        };
        let exec::Watched { status, said } = exec.watched(watch).map_err(&failed)?;
        let how = match status {
            Some(status) if status.success() => return Ok(()),
            Some(status) => format!("exited with status {}", code(status)),
            None => format!("did not end within {} s", limit.as_secs()),
        };
        Err(HostError::unwell(&spec.name, command, &how, &said))
    }

    fn takes_packages(&self) -> Result<(), HostError> {
        // /usr/sbin/pkg always exists, and would download the real pkg(8) without a question.
        let found = checks::run(self.system.as_ref(), "pkg", &["-N"]);
        found.map(|_| ()).map_err(|why| HostError::Missing {
            what: format!("pkg(8), which installs base packages ({why})"),
            hint: "pkg bootstrap".to_owned(),
        })
    }

    fn run_in_world(&self, request: &WorldRequest<'_>) -> Result<WorldRun, HostError> {
        self.run_in_stage(request)
    }

    fn clear_world(&self, generation: GenerationId) -> Result<Changed, HostError> {
        self.clear_stage(generation)
    }
}

/// Combines two results.
fn done(one: Changed, other: Changed) -> Changed {
    if one == Changed::Done { one } else { other }
}

fn program_error(action: &'static str, jail: &JailName) -> impl Fn(ExecError) -> HostError {
    program_of(action, jail.as_str())
}

fn program_of(action: &'static str, what: &str) -> impl Fn(ExecError) -> HostError {
    move |source| HostError::Program {
        action,
        jail: what.to_owned(),
        source,
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), HostError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| files::file_error("make", path, source))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
