//! Runs commands in the world of a staged generation: in a container like that of a jail, which has the staged base as
//! its root and ends with its command.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, Init};
use super::cgroup::Control;
use super::inside::Inside;
use super::paths::Paths;
use super::{file, identity, program, runtime, start, stop};
use crate::crash::point;
use crate::exec::{Watch, Watched};
use crate::model::{Base, Changed, JailConfig, Kind, Limits, World};
use crate::name::{DatasetName, GenerationId, JailName, NameError};
use crate::ports::{HostError, JailSpec, Place, WorldRequest, WorldRun, make_cache};
use crate::profile::Profile;

/// The environment variable with the path of the world, for the command.
const ROOT: &str = "EZZ_ROOT";

/// Runs a command in a world.
///
/// # Errors
/// Returns the errors of [`crate::ports::Host::run_in_world`].
pub(super) fn run(paths: &Paths, request: &WorldRequest<'_>) -> Result<WorldRun, HostError> {
    let paths = &paths.worlds();
    let name = &name(request.generation)?;
    paths
        .create()
        .map_err(file("make the directories in", &paths.site()))?;
    stop::clear(paths, name)?;
    point();
    let log = paths.log(name);
    let watch = Watch {
        limit: request.limit,
        stop: request.stop,
        log: Some(open(&log)?),
    };
    let ended = match request.place {
        Place::Host => on_host(name, request, watch)?,
        Place::Jail {
            dataset,
            profile,
            world,
        } => {
            let spec = spec(name, request, dataset, profile, world);
            let ended = contained(paths, &spec, request, watch);
            let cleared = stop::clear(paths, name).and_then(|_| stop::forget_exit(paths, name));
            let ended = ended?;
            cleared?;
            ended
        }
    };
    Ok(WorldRun::new(&ended, log))
}

/// Ends and removes what is left of a command.
///
/// # Errors
/// Returns the errors of [`crate::ports::Host::clear_world`].
pub(super) fn clear(paths: &Paths, generation: GenerationId) -> Result<Changed, HostError> {
    let paths = &paths.worlds();
    let name = &name(generation)?;
    let found = stop::clear(paths, name)?;
    stop::forget_exit(paths, name)?;
    Ok(if found {
        Changed::Done
    } else {
        Changed::Already
    })
}

/// Returns the name of such a container. A jail could have the same name, so they are not kept among the jails.
fn name(generation: GenerationId) -> Result<JailName, HostError> {
    JailName::parse(&format!("stage-{generation}")).map_err(|error: NameError| HostError::Parse {
        what: format!("generation {generation}"),
        why: error.to_string(),
    })
}

fn open(log: &PathBuf) -> Result<File, HostError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(log)
        .map_err(file("write", log))
}

fn on_host(
    name: &JailName,
    request: &WorldRequest<'_>,
    watch: Watch<'_>,
) -> Result<Watched, HostError> {
    let program = program("run a command for", name);
    if let Some(cache) = request.cache {
        make_cache(cache).map_err(file("make", cache))?;
    }
    let exec = request.on_host().ok_or(HostError::Command {
        jail: name.clone(),
        why: "there is no command".to_owned(),
    })?;
    exec.watched(watch).map_err(program)
}

/// Returns the world in the form of a jail.
fn spec(
    name: &JailName,
    request: &WorldRequest<'_>,
    dataset: &DatasetName,
    profile: &Profile,
    world: &World,
) -> JailSpec {
    JailSpec {
        site_id: String::new(),
        name: name.clone(),
        dataset: dataset.clone(),
        root: request.root.to_owned(),
        base: None,
        config: JailConfig {
            hostname: name.to_string(),
            ..JailConfig::new(
                Kind::Thick,
                Base::Pin(request.generation),
                request.generation,
            )
        },
        profile: std::borrow::Cow::Owned(profile.clone()),
        world: world.clone(),
    }
}

fn contained(
    paths: &Paths,
    spec: &JailSpec,
    request: &WorldRequest<'_>,
    watch: Watch<'_>,
) -> Result<Watched, HostError> {
    let name = &spec.name;
    let seccomp = start::requirements(false)?;
    start::check_mounts(spec)?;
    let inside = Inside::open(&spec.root).map_err(file("open", &spec.root))?;
    identity::mount_points(&inside, spec)?;
    let resolver = identity::resolver(&inside, spec)?;
    let update = spec.profile.update.as_ref();
    let wanted = update.and_then(|update| update.cache.as_ref());
    let wanted = wanted.filter(|at| inside.is_directory(&at.to_string()));
    let wanted = wanted.and_then(|at| Some((request.cache?, at)));
    drop(inside);
    if let Some((cache, _)) = wanted {
        make_cache(cache).map_err(file("make", cache))?;
    }
    let ids = start::mount(paths, spec, wanted.map(|(from, _)| from))?;
    let (root, cache) = (paths.root(name), paths.cache(name));
    let mut environment = request.environment.to_vec();
    environment.push(format!("{ROOT}=/"));
    let bundle = Bundle {
        hostname: &spec.config.hostname,
        network: spec.config.network,
        root: &root,
        base: None,
        ids,
        init: &Init::Once(request.command.to_vec()),
        environment: &environment,
        resolver,
        tmp: false,
        cache: wanted.map(|(_, at)| (cache.as_path(), at.under(Path::new("/")))),
        cgroup: &paths.cgroup(name),
        limits: Limits::default(),
        control: &Control::of_host(),
        seccomp,
    };
    start::write(paths, spec, &bundle)?;
    point();
    runtime::run_watched(paths, name, watch)
}
