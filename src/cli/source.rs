//! How the files of an update get into its stage: from outside, or by a command that changes them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::Stage;
use super::freebsd_source::Release;
use super::{CliError, Context};
use crate::model::Generation;
use crate::name::GenerationId;
use crate::plan::PlanError;
use crate::ports::{Place, WorldRequest, few_logs};
use crate::profile::Profile;
use crate::session::Session;
use crate::text::quoted;

/// The source of the files.
#[derive(Debug)]
pub(super) enum Source {
    /// An archive or directory, which is read into an empty stage.
    From(PathBuf),
    /// A release, which is read into an empty stage.
    Release(Release),
    /// A command, which changes a clone of the current generation.
    Run(Run),
}

/// A command to run, with its cache and its limit.
#[derive(Debug)]
pub(super) struct Run {
    /// The command to run.
    pub(super) updater: Updater,
    /// The directory for its downloads.
    pub(super) cache: PathBuf,
    /// The most time that it may take.
    pub(super) limit: Duration,
}

/// A command that changes a world.
#[derive(Debug)]
pub(super) struct Updater {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// The environment, as `NAME=VALUE`.
    pub(super) environment: Vec<String>,
    /// Whether it runs on the host itself.
    pub(super) on_host: bool,
    /// Whether it is the profile's updater, which may find that there is nothing new.
    pub(super) usual: bool,
}

impl Updater {
    /// Describes the command for messages. The profile's updater is a script of many lines.
    fn shown(&self) -> String {
        if self.usual {
            "the updater of the profile".to_owned()
        } else {
            format!("`{}`", self.command.join(" "))
        }
    }
}

/// Returns the updater of a world's profile.
///
/// # Errors
/// [`CliError::Usage`] if the profile has none.
pub(super) fn usual(current: &Generation) -> Result<Updater, CliError> {
    let update = profile_of(current)?.update.clone();
    let update = update.ok_or_else(|| CliError::Usage {
        what: format!("ezz has no updater for {}", current.display()),
        hint: "install a new world with --from, or change it with --run".to_owned(),
    })?;
    Ok(Updater {
        command: update.command,
        environment: update.environment,
        on_host: update.on_host,
        usual: true,
    })
}

/// A command of the user's. In the world it gets the variables of the profile's updater: scripts of packages ask
/// nothing, and start no service that would write into the new generation.
///
/// # Errors
/// [`CliError`]: ezz does not know the profile.
pub(super) fn named(
    command: &[String],
    on_host: bool,
    current: &Generation,
) -> Result<Updater, CliError> {
    let environment = match on_host {
        true => Vec::new(),
        false => {
            let update = profile_of(current)?.update.as_ref();
            let inside = update.filter(|update| !update.on_host);
            inside.map_or_else(Vec::new, |update| update.environment.clone())
        }
    };
    Ok(Updater {
        command: command.to_vec(),
        environment,
        on_host,
        usual: false,
    })
}

impl Source {
    /// Returns the generation that the new one is a clone of.
    pub(super) fn parent(&self, current: GenerationId) -> Option<GenerationId> {
        matches!(self, Source::Run(_)).then_some(current)
    }

    /// Whether no new generation is made if nothing has changed.
    pub(super) fn may_be_unchanged(&self) -> bool {
        matches!(self, Source::Run(_))
    }

    /// Returns a text that distinguishes this source from others. Where that is impossible, no two texts are the same.
    pub(super) fn identity(&self) -> String {
        let (from, found) = match self {
            Source::Run(run) => return format!("{:?}", run.updater),
            Source::Release(wanted) => return format!("{wanted:?}"),
            Source::From(from) => (from, std::fs::metadata(from)),
        };
        match found {
            Ok(found) if found.is_file() => {
                let changed = (found.mtime(), found.mtime_nsec(), found.len());
                format!("{from:?} {changed:?} {} {}", found.dev(), found.ino())
            }
            Ok(_) | Err(_) => {
                format!("{from:?} {}", uuid::Uuid::new_v4())
            }
        }
    }

    /// Names the source in the error that it cannot be installed.
    pub(super) fn origin(&self) -> String {
        match self {
            Source::From(from) => from.display().to_string(),
            Source::Release(Release::Sets(wanted)) => wanted.version.to_string(),
            Source::Release(Release::Packages(packaged)) => packaged.version.to_string(),
            Source::Run(run) => format!("what {} has made", run.updater.shown()),
        }
    }

    /// Describes the source in a plan.
    pub(super) fn shown(&self) -> String {
        match self {
            Source::From(from) => format!("{} is read into it", from.display()),
            Source::Release(Release::Packages(packaged)) => {
                format!("pkg(8) installs {} into it", packaged.shown())
            }
            Source::Release(Release::Sets(wanted)) => {
                let sets: Vec<String> = wanted.sets.iter().map(ToString::to_string).collect();
                let sets = sets.join(", ");
                format!("{} ({sets}) is fetched and read into it", wanted.version)
            }
            Source::Run(run) => format!("{} changes it", run.updater.shown()),
        }
    }
}

impl Run {
    /// Runs the command that changes the world.
    ///
    /// # Errors
    /// [`CliError::Updater`]; [`CliError`].
    pub(super) fn change(
        &self,
        context: &Context<'_>,
        session: &Session,
        stage: &Stage,
        current: &Generation,
    ) -> Result<(), CliError> {
        let updater = &self.updater;
        let dataset = session
            .site
            .child("basejail")
            .and_then(|parent| parent.child(&stage.id.to_string()))?;
        let world = current
            .world
            .as_ref()
            .ok_or(PlanError::NotSealed(current.id))?;
        let place = if updater.on_host {
            Place::Host
        } else {
            Place::Jail {
                dataset: &dataset,
                profile: profile_of(current)?,
                world,
            }
        };
        let mut environment = updater.environment.clone();
        let release = current.release().unwrap_or_default();
        environment.push(format!("EZZ_RELEASE={release}"));
        let command = Command {
            words: &updater.command,
            environment,
            shown: updater.shown(),
            place,
            // A user's command on the host manages its own downloads.
            cache: (updater.usual || !updater.on_host).then_some(self.cache.as_path()),
            limit: self.limit,
        };
        carry_out(context, session, stage, command)
    }
}

/// A command that changes the files of a stage.
#[derive(Debug)]
pub(super) struct Command<'a> {
    /// Program and arguments.
    pub(super) words: &'a [String],
    /// The environment, as `NAME=VALUE`.
    pub(super) environment: Vec<String>,
    /// The description for messages.
    pub(super) shown: String,
    /// The place where it runs.
    pub(super) place: Place<'a>,
    /// The directory for its downloads.
    pub(super) cache: Option<&'a Path>,
    /// The most time that it may take.
    pub(super) limit: Duration,
}

/// Runs the command.
///
/// # Errors
/// [`CliError::Updater`]: it failed; [`CliError`].
pub(super) fn carry_out(
    context: &Context<'_>,
    session: &Session,
    stage: &Stage,
    command: Command<'_>,
) -> Result<(), CliError> {
    let Command { shown, limit, .. } = command;
    let cancel = context.machine.cancel();
    context.report.note(format!("{shown} ..."));
    let ran = session.host.run_in_world(&WorldRequest {
        generation: stage.id,
        root: &stage.base,
        place: command.place,
        command: command.words,
        environment: &command.environment,
        cache: command.cache,
        limit,
        stop: &|| cancel.is_cancelled(),
    });
    context.host_notes(session);
    let ran = ran?;
    if let Err(error) = few_logs(&ran.log) {
        // Old logs that remain do no harm.
        let at = ran.log.parent().unwrap_or(&ran.log);
        context.report.warning(format!(
            "cannot remove old logs in {}: {error}",
            at.display()
        ));
    }
    cancel.check().map_err(|_| CliError::Interrupted)?;
    let how = match ran.code {
        Some(0) => return Ok(()),
        Some(code) => format!("exited with status {code}"),
        None => format!("did not end within {} s", limit.as_secs()),
    };
    Err(CliError::Updater {
        command: shown,
        how,
        said: ran.said,
        log: ran.log.display().to_string(),
    })
}

fn profile_of(generation: &Generation) -> Result<&'static Profile, CliError> {
    let world = generation
        .world
        .as_ref()
        .ok_or(PlanError::NotSealed(generation.id))?;
    let profile = crate::plan::spec::profile(generation, world);
    profile.map_err(|why| PlanError::from(why).into())
}

/// Options of `ezz update` that no command is likely to have.
const OWN: [&str; 16] = [
    "--restart",
    "--canary",
    "--stage-only",
    "--on-host",
    "--swap",
    "--why",
    "--continue",
    "--abort",
    "--allow-secrets",
    "--foreign",
    "--max-size",
    "--batch",
    "--pause",
    "--health",
    "--health-limit",
    "--dry-run",
];

/// Options of ezz that many commands have, too: at the end of the line they are most likely meant for ezz.
const LAST: [&str; 5] = ["-n", "--dry-run", "--json", "-q", "--quiet"];

/// Refuses a command whose words contain options of ezz, or that is a shell command line in one word.
pub(super) fn own_words(words: &[String]) -> Result<(), CliError> {
    let Some(program) = words.first() else {
        return Ok(());
    };
    let line = |words: &[String]| {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        words.join(" ")
    };
    let whole = |words: &[String]| quoted(&line(words));
    let own = |word: &&String| {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        OWN.contains(&name)
    };
    let swallowed = |at: usize| {
        let (command, options) = words.split_at(at);
        let found = options.first().map_or("", String::as_str);
        let command = match command {
            [] => "COMMAND".to_owned(),
            command => line(command),
        };
        CliError::Usage {
            what: format!("{found} comes after --run, which takes the rest of the line"),
            hint: format!(
                "`ezz update {} --run {command}`; if it is an option of the command: `--run sh -c {}`",
                line(options),
                whole(words)
            ),
        }
    };
    if let Some(found) = words.iter().find(own) {
        let at = words.iter().position(|word| word == found).unwrap_or(0);
        return Err(swallowed(at));
    }
    let last = words.iter().rev();
    let options = last.take_while(|word| LAST.contains(&word.as_str()));
    match options.count() {
        0 => {}
        count => return Err(swallowed(words.len() - count)),
    }
    if words.len() == 1 && program.contains(char::is_whitespace) {
        return Err(CliError::Usage {
            what: format!("{program:?} is one word, and no program has that name"),
            hint: format!(
                "`--run {program}`: a program and its arguments; for a line of a shell, `--run sh -c {}`",
                quoted(program)
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::Hint as _;

    #[test]
    fn a_command_does_not_swallow_options_of_ezz() {
        let of = |line: &[&str]| {
            let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            own_words(&words)
                .map_err(|error| (error.exit().code(), error.hint().unwrap_or_default()))
        };
        for good in [
            &["true"][..],
            &["apt-get", "install", "-y", "--quiet", "nginx"],
            &["sh", "-c", "echo --restart; true"],
        ] {
            assert!(of(good).is_ok(), "{good:?}");
        }
        let (code, hint) = of(&["true", "--restart", "--canary", "web1"]).expect_err("refused");
        assert_eq!(code, 2);
        assert!(
            hint.contains("`ezz update --restart --canary web1 --run true`"),
            "{hint}"
        );
        let (_, hint) = of(&["apt-get install -y nginx"]).expect_err("refused");
        assert!(hint.contains("`--run apt-get install -y nginx`"), "{hint}");
        assert!(hint.contains("sh -c 'apt-get install -y nginx'"), "{hint}");
        assert!(of(&["x", "--dry-run"]).is_err());
        for last in [
            &["true", "-n"][..],
            &["true", "--quiet"],
            &["apt-get", "-y", "-q", "--json"],
        ] {
            let (code, hint) = of(last).expect_err("refused");
            assert_eq!(code, 2, "{last:?}");
            assert!(hint.contains("--run sh -c"), "{hint}");
        }
        let (_, hint) = of(&["true", "-n", "-q"]).expect_err("refused");
        assert!(hint.contains("`ezz update -n -q --run true`"), "{hint}");
        assert!(of(&["sh", "-c", "exit 0", "-n", "x"]).is_ok());
    }
}
