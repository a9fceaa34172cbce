//! Starts and stops jails, step by step.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ezz_zfs::MountError;

use super::ending::Looks;
use super::{FreeBsd, argv, checks, conf, done, files, program_error};
use crate::exec::{Exec, ExecError};
use crate::model::Changed;
use crate::name::JailName;
use crate::ports::{Host, HostError, JailSpec, Stopping, ensure_native};
use crate::profile::Os;

/// The factor by which a start waits longer for an earlier jail of the same name than for a mount.
const DYING: u32 = 3;

/// The seconds that exec.stop may take beyond the profile's limit. rc.shutdown itself ends after 90 s what it has
/// started (rcshutdown_timeout, /etc/defaults/rc.conf).
const SHUTDOWN: u64 = 120;

/// The seconds that a start may take if the profile does not say.
const START: u32 = 1800;

/// The time that ezz waits beyond the limit that it gives to timeout(1), which kills a program that ignores its signal
/// after five seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How a program ended whose exit status does not count.
pub(super) struct Outcome {
    /// What it printed on standard error, on one line.
    pub(super) stderr: String,
    /// Whether it ended by itself and within its limit.
    pub(super) ended: bool,
}

impl FreeBsd {
    pub(super) fn start_jail(
        &self,
        spec: &JailSpec,
        stop: &dyn Fn() -> bool,
    ) -> Result<Changed, HostError> {
        let name = &spec.name;
        let view = self.look()?;
        if view.runs(name) {
            return Ok(Changed::Already);
        }
        let refused = |why: String| HostError::Start {
            jail: name.clone(),
            why,
        };
        if let Some(root) = view.stranger(name) {
            return Err(refused(format!(
                "a jail of that name runs in {} and does not belong to this site",
                root.display()
            )));
        }
        if let Some(taken) = self.file_taken(name)? {
            return Err(HostError::Taken {
                jail: name.clone(),
                hint: taken.hint_for(&spec.dataset),
                by: taken.by,
            });
        }
        self.knows_globals()?;
        ensure_native(spec, Os::FreeBsd)?;
        self.ensure_supported(spec.config.network, &spec.config.params)?;
        self.modules(&spec.config.params)?;
        // Without its ruleset, a devfs shows every device of the host.
        let ruleset = spec.config.params.get("devfs_ruleset");
        let ruleset = ruleset.and_then(<[String]>::last).map(String::as_str);
        checks::ruleset(self.system.as_ref(), ruleset)?;
        if !conf::rules(name, &spec.config.limits).is_empty() {
            checks::limits(self.system.as_ref()).map_err(|found| HostError::Missing {
                what: format!("resource limits ({found})"),
                hint: "add kern.racct.enable=1 to /boot/loader.conf, and reboot".to_owned(),
            })?;
        }
        self.has_bridges(spec)?;
        // Otherwise the start would mount over a mount that a failed stop has left, or be refused because of it.
        let _ = self.clean(name)?;
        let _ = self.write(spec)?;

        let conf = self.used_file(name)?;
        let begin = Instant::now();
        let mut pause = Pause::new();
        loop {
            let jail = self
                .system
                .exec("jail")
                .map_err(program_error("start", name))?;
            let limit = spec.profile.start.timeout.unwrap_or(START);
            let limit = self.places.start.min(Duration::from_secs(limit.into()));
            let jail = jail.limit(limit).args(argv::create(&conf, name));
            let outcome = outcome_unless(jail, stop);
            self.changed();
            let outcome = outcome.map_err(program_error("start", name))?;
            let jid = self.look()?.jid(name);
            if let (Some(jid), false) = (jid, outcome.ended) {
                // Its rc(8) was killed half-way, so it is unknown which services are running.
                self.remove(name, jid)?;
            } else if jid.is_some() {
                return Ok(Changed::Done);
            }
            let _ = self.clean(name)?;
            if stop() {
                return Err(HostError::Ended(name.clone()));
            }
            let dying = outcome.ended && outcome.stderr.contains("dying");
            if dying && begin.elapsed() < self.places.patience * DYING {
                pause.wait();
                continue;
            }
            return Err(refused(why(&outcome, &self.log_file(name))));
        }
    }

    pub(super) fn stop_jail(
        &self,
        name: &JailName,
        how: Stopping<'_>,
    ) -> Result<Changed, HostError> {
        let Some(jid) = self.look()?.jid(name) else {
            return self.clean(name);
        };
        let conf = self.file_to_stop(name)?;
        let failed = || program_error("stop", name);
        let lost = !files::is_of(&conf, &self.site_id)?;
        let said = files::read(&conf)?.filter(|_| !lost);
        let said = said.and_then(|text| conf::stop_timeout(&String::from_utf8_lossy(&text)));
        let time = how.timeout.or(said).unwrap_or_else(|| how.seconds(false));
        let limit = u64::from(time) + SHUTDOWN;
        let time = Duration::from_secs(time.into());
        let looks = Looks::new(self, jid);
        if !lost {
            self.mend_fstab(name)?;
            let timeout = self.limited(limit).map_err(failed())?;
            let jail = self.system.program("jail").map_err(failed())?;
            let timed = self.timed(name, &conf, how.timeout)?;
            let stop = timeout.arg(jail).args(argv::remove(&timed.path, name));
            let look = || {
                looks.again();
                false
            };
            let ended = outcome_unless(stop, &look);
            self.changed();
            self.untimed(timed)?;
            ended.map_err(failed())?;
        }
        if self.look()?.jid(name) != Some(jid) {
            self.killed_in(name, looks.killed(time), time);
        } else {
            // The file is lost, or jail(8) could not use it: take the same steps without it.
            let command = how.profile.and_then(|profile| profile.stop.exec.as_ref());
            if let Some(command) = command.filter(|_| lost) {
                let timeout = self.limited(limit).map_err(failed())?;
                let jexec = self.system.program("jexec").map_err(failed())?;
                outcome(timeout.arg(jexec).args(argv::shutdown(jid, command))).map_err(failed())?;
            }
            // Processes that could not be asked to end are killed anyway.
            if let Ok(left) = self.ask_processes(jid, time) {
                self.killed_in(name, left, time);
            }
            self.remove(name, jid)?;
        }
        if lost {
            self.undo(name, conf::own(&self.site_id, name))?;
        }
        Ok(done(Changed::Done, self.clean(name)?))
    }

    /// Removes a jail from the kernel, which kills its processes, and waits until it has ended.
    fn remove(&self, name: &JailName, jid: u32) -> Result<(), HostError> {
        let failed = || program_error("stop", name);
        let jail = self.system.exec("jail").map_err(failed())?;
        let jail = jail.limit(self.places.helper);
        let ended = outcome(jail.args(argv::remove_without_conf(jid)));
        self.changed();
        let ended = ended.map_err(failed())?;
        if !ended.ended {
            self.note(format!("{name}: {}", ended.stderr));
        }
        self.wait_gone(name, jid)
    }

    /// Unmounts what jail(8) has left below the root of a jail that does not run.
    pub(super) fn clean(&self, name: &JailName) -> Result<Changed, HostError> {
        let root = self.look()?.root(name);
        let changed = self.clean_below(&root, name.as_str())?;
        self.after_stop(name)?;
        Ok(changed)
    }

    /// Removes the limits and interfaces of a jail that does not run. After a failed start, jail(8) runs no
    /// exec.poststop, and the next jail of that name would get the limits.
    fn after_stop(&self, name: &JailName) -> Result<(), HostError> {
        let conf = files::read(&self.used_file(name)?)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&conf);
        self.undo(name, conf::undone(&text, &self.site_id, name))
    }

    /// Runs ezz's own commands of exec.poststop, which have blanks only between their words.
    fn undo(&self, name: &JailName, commands: Vec<String>) -> Result<(), HostError> {
        let failed = || program_error("clear up after", name);
        for command in commands {
            let mut words = command.split(' ');
            let program = words.next().and_then(|path| path.rsplit('/').next());
            let program = self.system.exec(program.unwrap_or_default());
            // These programs fail if there is nothing to remove, which is the intended state here.
            let program = program.map_err(failed())?.limit(self.places.helper);
            let ended = outcome(program.args(words)).map_err(failed())?;
            if !ended.ended {
                self.note(format!("{name}: {}", ended.stderr));
            }
        }
        Ok(())
    }

    /// Unmounts what jail(8) has left below any root. It never uses force: the user of a busy mount would lose files.
    pub(super) fn clean_below(&self, root: &Path, jail: &str) -> Result<Changed, HostError> {
        let begin = Instant::now();
        let mut pause = Pause::new();
        let mut changed = Changed::Already;
        loop {
            let view = self.look()?;
            let mut busy = None;
            for mount in view.mounted_below(root) {
                let done = self.system.unmount(&mount.target);
                self.changed();
                match done {
                    Ok(()) => changed = Changed::Done,
                    Err(MountError::NotMounted { .. }) => {}
                    Err(source) => busy = Some(source),
                }
            }
            let Some(source) = busy else {
                return Ok(changed);
            };
            if !matches!(source, MountError::Busy { .. }) || begin.elapsed() >= self.places.patience
            {
                return Err(HostError::Mount {
                    action: "unmount what was left",
                    jail: jail.to_owned(),
                    source,
                });
            }
            pause.wait();
        }
    }

    /// Writes the fstab of a running jail if it is lost. jail(8) reads it before anything else, and without it leaves
    /// the jail running.
    fn mend_fstab(&self, name: &JailName) -> Result<(), HostError> {
        let path = self.fstab_file(name);
        if files::read(&path)?.is_some() {
            return Ok(());
        }
        let view = self.look()?;
        let mounted = view.mounted_in(name);
        let mut lines = mounted
            .iter()
            .filter(|mount| mount.fstype == "nullfs")
            .map(|mount| {
                let source = std::path::Path::new(&mount.source);
                (source, mount.target.as_path(), mount.read_only)
            })
            .collect::<Vec<_>>();
        if lines.is_empty() {
            return Ok(());
        }
        lines.reverse();
        let text =
            conf::fstab_of_mounted(&self.site_id, lines).map_err(|error| HostError::Parse {
                what: format!("the mounts of {name}"),
                why: error.to_string(),
            })?;
        files::put(&path, &self.site_id, &text).map(drop)
    }

    /// Returns timeout(1), which ends a program that does not end by itself.
    fn limited(&self, seconds: u64) -> Result<Exec, ExecError> {
        let timeout = self.system.exec("timeout")?;
        let timeout = timeout.limit(Duration::from_secs(seconds) + TIMEOUT);
        Ok(timeout.args(["-k", "5"]).arg(seconds.to_string()))
    }

    fn wait_gone(&self, name: &JailName, jid: u32) -> Result<(), HostError> {
        let begin = Instant::now();
        let mut pause = Pause::new();
        while self.look_again()?.jid(name) == Some(jid) {
            if begin.elapsed() >= self.places.patience {
                return Err(HostError::Timeout {
                    jail: name.clone(),
                    action: "stop",
                    seconds: self.places.patience.as_secs(),
                });
            }
            pause.wait();
        }
        Ok(())
    }
}

/// Runs a program in a process group of its own. A Ctrl-C at the terminal is meant for ezz, which finishes or undoes
/// what it has begun, and must not end jail(8) between two steps. A program that exceeds its limit is not an error
/// either: the kernel shows what it has done.
pub(super) fn outcome(exec: Exec) -> Result<Outcome, ExecError> {
    outcome_unless(exec, &|| false)
}

/// The same for a program that is ended as soon as `stop` returns true.
pub(super) fn outcome_unless(exec: Exec, stop: &dyn Fn() -> bool) -> Result<Outcome, ExecError> {
    match exec.ended_unless(stop) {
        Ok(ended) => {
            let stderr = String::from_utf8_lossy(&ended.stderr);
            Ok(Outcome {
                stderr: causes(&stderr),
                ended: true,
            })
        }
        Err(
            error @ (ExecError::TimedOut { .. }
            | ExecError::Flooded { .. }
            | ExecError::Stopped { .. }),
        ) => Ok(Outcome {
            stderr: error.to_string(),
            ended: false,
        }),
        Err(error) => Err(error),
    }
}

/// Returns what a program printed, on one line. It leaves out the commands that jail(8) prints when they fail: the
/// commands that ezz gives it are long, and the program that failed has printed the reason itself.
fn causes(stderr: &str) -> String {
    const SHOWN: usize = 100;
    let long = |line: &&str| {
        line.starts_with("jail: ") && line.ends_with(": failed") && line.chars().count() > SHOWN
    };
    let all = || {
        stderr
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let causes: Vec<&str> = all().filter(|line| !long(line)).collect();
    if !causes.is_empty() {
        return causes.join("; ");
    }
    let shown = all().map(|line| {
        let begin: String = line.chars().take(SHOWN).collect();
        match begin.len() < line.len() {
            true => format!("{begin}…: failed"),
            false => begin,
        }
    });
    shown.collect::<Vec<_>>().join("; ")
}

fn why(outcome: &Outcome, log: &std::path::Path) -> String {
    let said = if outcome.stderr.is_empty() {
        "jail(8) gave no reason"
    } else {
        &outcome.stderr
    };
    format!("{said} (what it printed itself is in {})", log.display())
}

/// Pauses that double in length, up to a second.
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Pause(Duration::from_millis(50))
    }

    pub(super) fn wait(&mut self) {
        sleep(self.0);
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::causes;

    #[test]
    fn a_long_command_is_no_cause() {
        let command = "/sbin/ifconfig ".repeat(20);
        let failed = format!("jail: net: {command}: failed\n");
        let cause = "ifconfig: BRDGADD none: No such file or directory";
        assert_eq!(causes(&format!("{cause}\n{failed}")), cause);
        let alone = causes(&failed);
        assert!(
            alone.starts_with("jail: net: /sbin/ifconfig /sbin/"),
            "{alone}"
        );
        assert!(alone.ends_with("…: failed") && alone.len() < 130, "{alone}");
        let short = "jail: web: /usr/bin/false: failed";
        assert_eq!(
            causes(&format!("false\n\n{short}\n")),
            format!("false; {short}")
        );
        assert_eq!(causes(""), "");
    }
}
