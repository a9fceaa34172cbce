//! Errors of commands: their exit codes and hints.

use std::error::Error;

use thiserror::Error;

use crate::cli::JailFailure;
use crate::config::ConfigError;
use crate::execute::ApplyError;
use crate::fleet::FleetError;
use crate::freebsd_release::ReleaseError;
use crate::hint::Hint;
use crate::lock::LockError;
use crate::model::{AddressError, GenerationError, Os};
use crate::name::{JailName, NameError};
use crate::observe::ObserveError;
use crate::plan::PlanError;
use crate::ports::{Holder, HostError, PortError, holder};
use crate::report::Exit;
use crate::session::SessionError;
use crate::text::first_few;
use crate::world::WorldError;
use crate::world::merge::Obstacle;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The user is not root.
    #[error("ezz must be run as root")]
    NotRoot,
    /// The arguments are not valid.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        hint: String,
    },
    /// The answer to a question was no, or there was no terminal to ask on.
    #[error("{what}")]
    NotConfirmed {
        /// Why nothing was confirmed, with what became of the command.
        what: &'static str,
        /// The command line, if there was no terminal.
        command: Option<String>,
    },
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Several names are not valid.
    #[error("{} bad names: {}", .0.len(), some(&texts(.0)))]
    BadNames(Vec<NameError>),
    /// No jail matches a pattern or a label.
    #[error("no jail {0}")]
    NoneSuch(String),
    /// A file of names cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The path of the file.
        path: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A fleet file is not valid, or asks for something impossible.
    #[error("cannot apply {path}")]
    Fleet {
        /// The path of the file.
        path: String,
        /// What is wrong, with its place in the file.
        source: FleetError,
    },
    /// A fleet file cannot be read or written.
    #[error("cannot {action} the fleet file {path}")]
    FleetFile {
        /// The operation, as a verb.
        action: &'static str,
        /// The path of the file.
        path: String,
        /// The error that prevented the operation.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An address is not valid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The site cannot be found or read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A step of a plan failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The plan was refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An operation of ZFS failed.
    #[error(transparent)]
    Zfs(#[from] PortError),
    /// An operation of the host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A generation cannot be determined.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// A world cannot be installed.
    #[error("cannot install {origin}")]
    World {
        /// The source of the world.
        origin: String,
        /// The error of the world.
        source: WorldError,
    },
    /// The world is of another operating system than the host's.
    #[error("it is a world of {profile}, which needs {needs}, but this host runs {host}")]
    Foreign {
        /// The profile of the world.
        profile: String,
        /// The system that it needs.
        needs: Os,
        /// The system of this host.
        host: Os,
    },
    /// A world of another profile cannot follow a generation.
    #[error("{generation} is a world of {profile}, but the new world is one of {found}")]
    OtherProfile {
        /// The generation that the track has.
        generation: String,
        /// The profile of that generation.
        profile: String,
        /// The profile of the new world.
        found: String,
    },
    /// A release cannot be installed.
    #[error("cannot install {release}")]
    Release {
        /// The release.
        release: String,
        /// The error of the release.
        source: ReleaseError,
    },
    /// A generation cannot be verified.
    #[error("cannot verify {generation}")]
    Verify {
        /// The generation.
        generation: String,
        /// The error of its manifest or files.
        source: WorldError,
    },
    /// A jail cannot be merged.
    #[error("cannot merge {jail}")]
    Merge {
        /// The jail.
        jail: JailName,
        /// The error of the merge.
        source: WorldError,
    },
    /// A jail's own files cannot be merged without losing one side.
    #[error("{jail}: conflicts with the release: {}", some(list))]
    Conflicts {
        /// The jail.
        jail: JailName,
        /// The files with conflicts.
        list: Vec<String>,
    },
    /// An administrator has rolled back a jail's own files.
    #[error(
        "the files of {jail} were rolled back with zfs(8) to generation {files}, which does not match its configuration"
    )]
    RolledBack {
        /// The jail.
        jail: JailName,
        /// The generation that its files are at.
        files: crate::name::GenerationId,
    },
    /// Obstacles prevent a merge of a jail's own files.
    #[error("cannot merge {jail}: {}", some(&obstacles.iter().map(ToString::to_string).collect::<Vec<_>>()))]
    Obstacles {
        /// The jail.
        jail: JailName,
        /// The obstacles.
        obstacles: Vec<Obstacle>,
    },
    /// Processes use the files of a jail that was to be destroyed.
    #[error(
        "cannot delete {jail}: its files are in use{}",
        holder::in_use(holders)
    )]
    InUse {
        /// The jail that is in use.
        jail: JailName,
        /// The processes, as far as they can be found.
        holders: Vec<Holder>,
    },
    /// A generation is not what was sealed.
    #[error("{generation} differs from its seal: {}", some(list))]
    Tampered {
        /// The generation.
        generation: String,
        /// The differences.
        list: Vec<String>,
    },
    /// The world contains files that must not be in every jail.
    #[error("the world contains files that look like secrets: {}", list.join("; "))]
    Secrets {
        /// The descriptions of the files, each with its path.
        list: Vec<String>,
    },
    /// The replica is damaged, and must not become a site.
    #[error("{site} is damaged: {}", list.join("; "))]
    Damaged {
        /// The site.
        site: crate::name::DatasetName,
        /// What is broken.
        list: Vec<String>,
    },
    /// A command failed, and the cleanup after it failed, too.
    #[error("{}; the cleanup failed: {undo}", first.before_undo())]
    Undo {
        /// The first failure. It is not the source, because the text of some says that nothing was left.
        first: Box<CliError>,
        /// Why the cleanup failed.
        undo: String,
    },
    /// A command failed for one of several jails.
    #[error("cannot {verb} {jail}")]
    Jail {
        /// The verb of the command.
        verb: &'static str,
        /// The jail.
        jail: JailName,
        /// The failure of the jail.
        source: JailFailure,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The path of the file.
        path: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Standard output could not be written.
    #[error("cannot write to standard output: {0}")]
    Output(String),
    /// A command that was to change a world failed.
    #[error("{command} {how}; nothing was changed")]
    Updater {
        /// The name of the command.
        command: String,
        /// How the command ended.
        how: String,
        /// The last lines that it printed.
        said: Vec<String>,
        /// The path of the log with all lines.
        log: String,
    },
    /// A signal asked to stop when only ezz's own work was left.
    #[error("interrupted; the files of generation {generation} are complete and kept")]
    Kept {
        /// The generation.
        generation: crate::name::GenerationId,
    },
    /// A signal asked to stop during a roll-out.
    #[error("interrupted; the roll-out of the track {track} is under way: {restarted}")]
    RolloutInterrupted {
        /// The track.
        track: crate::name::TrackName,
        /// How many jails were restarted.
        restarted: Restarted,
    },
    /// A signal asked to stop between restarts.
    #[error("interrupted; {0}")]
    RestartsInterrupted(Restarted),
    /// A signal asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

/// The number of jails that a command has restarted before it was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarted {
    /// The number of jails that were restarted.
    pub restarted: usize,
    /// The number of jails that were not restarted.
    pub left: usize,
}

impl std::fmt::Display for Restarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.restarted {
            0 => write!(f, "no jail was restarted")?,
            1 => write!(f, "1 jail was restarted")?,
            many => write!(f, "{many} jails were restarted")?,
        }
        match self.left {
            0 => Ok(()),
            1 => write!(f, ", 1 was not reached"),
            many => write!(f, ", {many} were not reached"),
        }
    }
}

impl CliError {
    /// Whether a signal ended the command without leaving anything half done.
    pub fn interrupted(&self) -> bool {
        matches!(
            self,
            CliError::Interrupted
                | CliError::RestartsInterrupted(_)
                | CliError::Session(SessionError::Interrupted { .. })
        )
    }

    /// Describes the first failure if something was left of it.
    fn before_undo(&self) -> String {
        match self.interrupted() {
            true => "interrupted".to_owned(),
            false => one_line(self),
        }
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        match self {
            CliError::Usage { .. }
            | CliError::Name(_)
            | CliError::BadNames(_)
            | CliError::Address(_)
            | CliError::Host(HostError::Account { asked: true, .. }) => Exit::Usage,
            CliError::Plan(error) if error.is_usage() => Exit::Usage,
            // The exit codes are those of a shell.
            CliError::Host(HostError::NoCommand { missing, .. }) => {
                Exit::Code(if *missing { 127 } else { 126 })
            }
            CliError::Lock(LockError::Held { .. })
            | CliError::Session(SessionError::Lock(LockError::Held { .. })) => Exit::Locked,
            CliError::Session(SessionError::Interrupted { reached: 1.., .. }) => Exit::Partly,
            CliError::Undo { first, .. } => first.exit(),
            CliError::NotRoot
            | CliError::NotConfirmed { .. }
            | CliError::Fleet { .. }
            | CliError::FleetFile { .. }
            | CliError::Config(_)
            | CliError::Observe(_)
            | CliError::Session(_)
            | CliError::Apply(_)
            | CliError::Plan(_)
            | CliError::Zfs(_)
            | CliError::Host(_)
            | CliError::Lock(_)
            | CliError::Generation(_)
            | CliError::World { .. }
            | CliError::Foreign { .. }
            | CliError::OtherProfile { .. }
            | CliError::Release { .. }
            | CliError::Verify { .. }
            | CliError::Merge { .. }
            | CliError::Conflicts { .. }
            | CliError::Obstacles { .. }
            | CliError::InUse { .. }
            | CliError::RolledBack { .. }
            | CliError::Tampered { .. }
            | CliError::Secrets { .. }
            | CliError::Damaged { .. }
            | CliError::Jail { .. }
            | CliError::Write { .. }
            | CliError::Output(_)
            | CliError::Read { .. }
            | CliError::NoneSuch(_)
            | CliError::Updater { .. }
            | CliError::Kept { .. }
            | CliError::RolloutInterrupted { .. }
            | CliError::RestartsInterrupted(_)
            | CliError::Interrupted => Exit::Failed,
        }
    }

    /// Returns what another program has printed before it failed, line by line.
    pub fn said(&self) -> &[String] {
        match self {
            CliError::Updater { said, .. } => said,
            CliError::Undo { first, .. } => first.said(),
            _ => &[],
        }
    }
}

impl Hint for CliError {
    fn hint(&self) -> Option<String> {
        match self {
            CliError::NotRoot => Some("run it with sudo or doas".to_owned()),
            CliError::Usage { hint, .. } => Some(hint.clone()),
            CliError::NotConfirmed { command, .. } => command.as_ref().map(|command| {
                format!("`{command} --yes` does it without asking; --dry-run shows the plan")
            }),
            CliError::Secrets { .. } => Some(
                "remove them from the world, or use --allow-secrets if every jail may share them"
                    .to_owned(),
            ),
            CliError::Fleet { .. } => Some("`ezz help apply` describes fleet files".to_owned()),
            CliError::FleetFile { source, .. } => {
                use std::io::ErrorKind;
                let kind = source
                    .downcast_ref::<std::io::Error>()
                    .map(std::io::Error::kind);
                Some(match kind {
                    Some(ErrorKind::NotFound) => {
                        "give the path of a fleet file, or - for standard input; `ezz list --fleet NAME > NAME.toml` writes one for existing jails".to_owned()
                    }
                    Some(ErrorKind::IsADirectory) => "give a file in it".to_owned(),
                    Some(ErrorKind::InvalidData) => "a fleet file is TOML, in UTF-8".to_owned(),
                    _ => "`ezz help apply` describes fleet files".to_owned(),
                })
            }
            CliError::Address(inner) => inner.hint(),
            CliError::Release { source, .. } => source.hint(),
            CliError::Name(inner) => inner.hint(),
            CliError::BadNames(all) => all.first().and_then(Hint::hint),
            CliError::NoneSuch(_) => Some("`ezz list` shows them all".to_owned()),
            CliError::Config(inner) => inner.hint(),
            CliError::Observe(inner) => inner.hint(),
            CliError::Session(inner) => inner.hint(),
            CliError::Apply(inner) => inner.hint(),
            CliError::Plan(inner) => inner.hint(),
            CliError::Zfs(inner) => inner.hint(),
            CliError::Host(inner) => inner.hint(),
            CliError::Jail { source, .. } => source.hint.clone(),
            CliError::Lock(inner) => inner.hint(),
            CliError::Generation(inner) => inner.hint(),
            CliError::Tampered { generation, .. } => Some(format!(
                "`ezz world verify --repair {generation}` rolls its base back to its snapshot"
            )),
            CliError::Updater { log, .. } => Some(format!("its complete output is in {log}")),
            CliError::RestartsInterrupted(_) => Some(
                "`ezz converge` does the rest, and leaves jails that are up to date alone"
                    .to_owned(),
            ),
            CliError::RolloutInterrupted { track, .. } => {
                PlanError::RolloutUnderWay(track.clone()).hint()
            }
            CliError::Kept { .. } => Some(
                "run the same command again to resume; any other command removes them".to_owned(),
            ),
            CliError::Damaged { .. } => Some("get an intact copy, and try again".to_owned()),
            CliError::Foreign { host, .. } => Some(format!(
                "install a world of {host}; --foreign accepts this one for a pool that moves to another host"
            )),
            CliError::OtherProfile { .. } => Some(
                "`ezz install SOURCE --track NAME` installs it on a track of its own".to_owned(),
            ),
            CliError::Undo { .. } => Some("`ezz doctor --repair` cleans up".to_owned()),
            CliError::RolledBack { jail, .. } => {
                Some(format!("`ezz merge {jail}` merges them again"))
            }
            CliError::Obstacles { jail, obstacles } => {
                obstacles.first().map(|first| obstacle_hint(jail, first))
            }
            CliError::InUse { jail, holders } => Some(holder::in_use_hint(jail, holders)),
            CliError::World { source, .. }
            | CliError::Verify { source, .. }
            | CliError::Merge { source, .. } => source.hint(),
            CliError::Conflicts { .. }
            | CliError::Write { .. }
            | CliError::Output(_)
            | CliError::Interrupted => None,
            CliError::Read { .. } => Some(
                "the file has one name per line, or names separated by NUL; - is standard input"
                    .to_owned(),
            ),
        }
    }
}

fn obstacle_hint(jail: &JailName, obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Immutable(_) => {
            "`lsattr` and `chattr -ia` (Linux), `ls -lo` and `chflags` (FreeBSD) show and clear such flags"
                .to_owned()
        }
        Obstacle::Mount(_) => "unmount it during the merge".to_owned(),
        Obstacle::Accounts(_) => format!(
            "`ls -l etc/passwd etc/group` in the files of {jail}: remove what is no account"
        ),
        Obstacle::ReadOnly => format!("`zfs get readonly` of the dataset of {jail}"),
        Obstacle::Room { .. } => {
            format!("`zfs get quota,refquota,available` of the dataset of {jail}; remove files or raise the quota")
        }
    }
}

/// Returns the texts of errors.
fn texts(errors: &[NameError]) -> Vec<String> {
    errors.iter().map(NameError::to_string).collect()
}

/// Names the first few of a list.
fn some(list: &[String]) -> String {
    first_few(list, 3, "; ")
}

/// Formats an error and its causes on one line.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_converge_says_how_far_it_is() {
        for (restarted, left, told) in [
            (1, 1, "interrupted; 1 jail was restarted, 1 was not reached"),
            (
                2,
                3,
                "interrupted; 2 jails were restarted, 3 were not reached",
            ),
            (
                0,
                2,
                "interrupted; no jail was restarted, 2 were not reached",
            ),
            (4, 0, "interrupted; 4 jails were restarted"),
        ] {
            let error = CliError::RestartsInterrupted(Restarted { restarted, left });
            assert_eq!(error.to_string(), told);
            assert!(error.interrupted());
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.contains("`ezz converge`"))
            );
        }
        let error = CliError::RolloutInterrupted {
            track: crate::name::TrackName::parse("main").expect("a name"),
            restarted: Restarted {
                restarted: 1,
                left: 1,
            },
        };
        assert_eq!(
            error.to_string(),
            "interrupted; the roll-out of the track main is under way: 1 jail was restarted, 1 was not reached"
        );
    }

    #[test]
    fn an_interrupted_command_does_not_deny_what_it_left() {
        let undo = |first| CliError::Undo {
            first: Box::new(first),
            undo: "busy".to_owned(),
        };
        assert_eq!(
            undo(CliError::Interrupted).to_string(),
            "interrupted; the cleanup failed: busy"
        );
        assert_eq!(
            undo(CliError::Output("full".to_owned())).to_string(),
            "cannot write to standard output: full; the cleanup failed: busy"
        );
    }
}
