//! Runs commands that change the world of a staged generation: on the host, or in a jail that has the staged base as
//! its root and ends with its command.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::ops::{Pause, outcome};
use super::{FreeBsd, argv, checks, done, files, make_directory};
use crate::exec::{ExecError, Watch, Watched};
use crate::model::Changed;
use crate::name::GenerationId;
use crate::ports::{ExecRequest, HostError, Place, WorldRequest, WorldRun, make_cache};

/// The host's resolver configuration, which the world gets while its command runs.
const RESOLVER: &str = "/etc/resolv.conf";

impl FreeBsd {
    pub(super) fn run_in_stage(&self, request: &WorldRequest<'_>) -> Result<WorldRun, HostError> {
        let failed = stage_error("change", request.generation);
        if let Some(cache) = request.cache {
            make_cache(cache).map_err(|source| files::file_error("make", cache, source))?;
        }
        let log = self.stage_log(request.generation);
        if let Some(directory) = log.parent() {
            make_directory(directory, 0o700)?;
        }
        let file = File::create(&log).map_err(|e| files::file_error("write", &log, e))?;
        let watch = Watch {
            limit: request.limit,
            stop: request.stop,
            log: Some(file),
        };
        if let Place::Host = request.place {
            let mut exec = request.on_host().ok_or_else(no_command)?;
            // The commands of the profile run this. It does not exist before `pkg bootstrap`.
            if let Ok(pkg) = self.system.program("pkg") {
                exec = exec.env("EZZ_PKG", pkg);
            }
            let ended = exec.watched(watch).map_err(failed)?;
            return Ok(WorldRun::new(&ended, log));
        }
        let _ = self.clear_stage(request.generation)?;
        let ended = self.in_jail(request, watch);
        let cleared = self.clear_stage(request.generation);
        let ended = ended?;
        let _ = cleared?;
        Ok(WorldRun::new(&ended, log))
    }

    /// Ends the jail of a stage, and unmounts what it had.
    pub(super) fn clear_stage(&self, generation: GenerationId) -> Result<Changed, HostError> {
        let root = self.stage_root(generation);
        let shown = format!("generation {generation}");
        let mut changed = Changed::Already;
        let begin = Instant::now();
        let mut pause = Pause::new();
        while let Some(jid) = self.look_again()?.jid_at(&root) {
            if begin.elapsed() >= self.places.patience {
                return Err(HostError::Parse {
                    what: format!("the jail {jid} of {shown}"),
                    why: format!(
                        "it is still there {} s after its end",
                        self.places.patience.as_secs()
                    ),
                });
            }
            let failed = stage_error("end", generation);
            let jail = self.system.exec("jail").map_err(&failed)?;
            let jail = jail.limit(self.places.helper);
            let ended = outcome(jail.args(argv::remove_without_conf(jid)));
            self.changed();
            ended.map_err(&failed)?;
            changed = Changed::Done;
            pause.wait();
        }
        Ok(done(changed, self.clean_below(&root, &shown)?))
    }

    fn in_jail(&self, request: &WorldRequest<'_>, watch: Watch<'_>) -> Result<Watched, HostError> {
        let generation = request.generation;
        let failed = stage_error("change", generation);
        checks::ruleset(self.system.as_ref(), None)?;
        resolver(request.root).map_err(|e| files::file_error("write", request.root, e))?;
        let name = format!("ezz_{}_{generation}", self.site_id);
        let jail = self.system.exec("jail").map_err(&failed)?;
        let made = outcome(jail.args(argv::create_stage(&name, request.root))).map_err(&failed)?;
        let Some(jid) = self.look_again()?.jid_at(&self.stage_root(generation)) else {
            return Err(HostError::Parse {
                what: format!("a jail for generation {generation}"),
                why: made.stderr,
            });
        };
        let mut environment = request.environment.to_vec();
        environment.push("EZZ_ROOT=/".to_owned());
        let command = ExecRequest {
            command: request.command.to_vec(),
            environment,
            ..ExecRequest::default()
        };
        if command.command.is_empty() {
            return Err(no_command());
        }
        let jexec = self.system.exec("jexec").map_err(&failed)?;
        jexec
            .args(argv::run(jid, &command, &[]))
            .watched(watch)
            .map_err(failed)
    }

    fn stage_root(&self, generation: GenerationId) -> PathBuf {
        let site = fs::canonicalize(&self.site_directory);
        let site = site.unwrap_or_else(|_| self.site_directory.clone());
        site.join("basejail").join(generation.to_string())
    }

    /// Returns the path of the log of a command that changes a world.
    fn stage_log(&self, generation: GenerationId) -> PathBuf {
        let directory = self.places.log.join(&self.site_id);
        directory.join(format!("stage-{generation}.log"))
    }
}

/// Gives the world the host's resolver configuration. The preparation of a seal removes it again. No link of the world
/// is followed.
fn resolver(root: &Path) -> io::Result<()> {
    let text = match fs::read(RESOLVER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let directory = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty())?;
    let etc = rustix::fs::openat(&root, "etc", directory, Mode::empty())?;
    match rustix::fs::unlinkat(&etc, "resolv.conf", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(other) => return Err(other.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&etc, "resolv.conf", flags, Mode::from_raw_mode(0o644))?;
    File::from(made).write_all(&text)
}

fn no_command() -> HostError {
    HostError::Parse {
        what: "what is to change the world".to_owned(),
        why: "there is no command".to_owned(),
    }
}

fn stage_error(action: &'static str, generation: GenerationId) -> impl Fn(ExecError) -> HostError {
    move |source| HostError::Program {
        action,
        jail: format!("generation {generation}"),
        source,
    }
}
