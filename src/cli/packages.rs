//! Worlds from FreeBSD's base packages: the checks before anything is created, and the profile's command that lets
//! pkg(8) of the host install them.

use std::path::Path;
use std::time::Duration;

use super::build::Stage;
use super::source::{Command, carry_out};
use super::{CliError, Context};
use crate::freebsd_release::{Packaged, PackagedError};
use crate::model::CACHE;
use crate::ports::{HostError, Place};
use crate::profile::{Packages, Profile};
use crate::session::{Scope, Session};

/// Enough for some hundreds of megabytes on a slow line.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// Checks that the packages can be installed on this host, before anything is created.
///
/// # Errors
/// [`CliError::Usage`]; [`HostError::Missing`]: the host has no pkg(8), or no keys.
pub(super) fn ready(session: &Session, packaged: &Packaged) -> Result<(), CliError> {
    session.host.takes_packages()?;
    packaged
        .check(Path::new("/"))
        .map_err(|error| refused(&error))
}

/// Installs the packages into an empty stage.
///
/// # Errors
/// [`CliError::Updater`]: pkg(8) has failed; [`CliError`].
pub(super) fn install(
    context: &Context<'_>,
    session: &Session,
    stage: &Stage,
    packaged: &Packaged,
) -> Result<(), CliError> {
    let Packages {
        command,
        environment,
    } = rules()?;
    let site = session.inventory(&Scope::none())?.site.directory;
    let mut environment = environment.clone();
    environment.extend(packaged.environment());
    let cache = packaged.cache(&site.join(CACHE));
    let command = Command {
        words: command,
        environment,
        shown: format!("pkg(8), which installs {}", packaged.shown()),
        place: Place::Host,
        cache: Some(&cache),
        limit: LIMIT,
    };
    carry_out(context, session, stage, command)
}

/// Returns the rules of the profile whose worlds are made from packages.
fn rules() -> Result<&'static Packages, CliError> {
    let mut all = Profile::builtin().iter();
    let found = all.find_map(|profile| profile.packages.as_ref());
    found.ok_or_else(|| CliError::Usage {
        what: "no profile supports base packages".to_owned(),
        hint: "omit --packages".to_owned(),
    })
}

/// Converts the error to one with a hint for the user.
fn refused(error: &PackagedError) -> CliError {
    let hint = match error {
        PackagedError::TooOld(_) => "leave --packages out, and its sets are installed",
        PackagedError::Mirror(_) => {
            "expected a URL, such as https://pkg.example.org or file:///var/repositories"
        }
        PackagedError::NoKeys(_) => {
            "a host of that release has them; --keys names another directory with `trusted` in it"
        }
    };
    let (what, hint) = (error.to_string(), hint.to_owned());
    match error {
        PackagedError::NoKeys(_) => HostError::Missing { what, hint }.into(),
        PackagedError::TooOld(_) | PackagedError::Mirror(_) => CliError::Usage { what, hint },
    }
}
