//! Starting a jail. Everything is checked before anything is made; what was made is undone if a
//! later step fails.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ezz_zfs::errno::Errno;
use ezz_zfs::mount::{MountError, MountFlags, bind_idmapped, mounted};
use nix::mount::MsFlags;

use super::bundle::{Bundle, CAPABILITIES, Init};
use super::cgroup::Control;
use super::ids::{self, IdRange, NamespaceError, UserNamespace};
use super::inside::Inside;
use super::paths::Paths;
use super::{crun, file, identity, process, program, runtime, seccomp, state, stop};
use crate::crash::point;
use crate::exec::find;
use crate::model::{Changed, JailState, Network, Params};
use crate::name::JailName;
use crate::ports::{HostError, JailSpec, ensure_native};
use crate::profile::{Os, RelPath};

/// A first process that ends within this time did not start.
pub(super) const SETTLE: Duration = Duration::from_millis(200);

/// What makes the keys of an ssh server, in the jail.
const KEYGEN: [&str; 2] = ["/usr/bin/ssh-keygen", "-A"];

/// What makes the certificate and its key that services of Debian begin with, in the jail.
const CERTIFICATE: [&str; 2] = ["/usr/sbin/make-ssl-cert", "generate-default-snakeoil"];

/// How long a command may take that makes a database from a text of the jail, which may make it hang.
const REMADE: Duration = Duration::from_secs(60);

/// A command that runs in a jail before its first process.
struct Maker {
    command: Vec<String>,
    /// What is there only if the command does not fail, if the jail starts without it.
    optional: Option<String>,
    limit: Duration,
}

/// What must be there, and the Debian package that brings it.
pub(super) const PROGRAMS: [(&str, &str); 4] = [
    ("crun", "crun"),
    ("conmon", "conmon"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// The package of the seccomp profile.
pub(super) const SECCOMP_PACKAGE: &str = "golang-github-containers-common";

/// Starts a jail.
///
/// # Errors
/// See [`crate::ports::Host::start`].
pub(super) fn start(
    paths: &Paths,
    spec: &JailSpec,
    stop: &dyn Fn() -> bool,
) -> Result<Changed, HostError> {
    let name = &spec.name;
    if matches!(state::of(paths, name)?, JailState::Running { .. }) {
        return Ok(Changed::Already);
    }
    ensure_native(spec, Os::Linux)?;
    let seccomp = requirements(spec.config.nested_userns)?;
    let control = Control::of_host();
    control.can(&spec.config.limits)?;
    takes(spec.config.network, &spec.config.params)?;
    if !spec.config.datasets.is_empty() {
        return Err(no_datasets());
    }
    paths
        .create()
        .map_err(file("make the directories in", &paths.site()))?;
    point();
    stop::clear(paths, name)?;
    stop::forget_exit(paths, name)?;
    check_mounts(spec)?;
    let inside = Inside::open(&spec.root).map_err(file("open", &spec.root))?;
    let init = choose_init(&inside, spec)?;
    point();
    identity::prepare(&inside, spec, matches!(init, Init::Own { .. }))?;
    let resolver = match spec.config.network {
        Network::Host => identity::resolver(&inside, spec)?,
        Network::None | Network::Vnet => None,
    };
    let mut makers = Vec::new();
    // Services that want another certificate run without it.
    let certificate = Some("the certificate of ssl-cert".to_owned());
    for (wanted, maker, optional) in [
        (identity::wants_host_keys(&inside, spec)?, &KEYGEN, None),
        (
            identity::wants_certificate(&inside, spec)?,
            &CERTIFICATE,
            certificate,
        ),
    ] {
        if wanted && world(&inside, spec, |world| world.is_program(maker[0]))? {
            makers.push(Maker {
                command: maker.map(str::to_owned).to_vec(),
                optional,
                limit: runtime::ONCE,
            });
        }
    }
    makers.extend(remade(&inside, spec));
    let tmp = matches!(init, Init::World(_))
        && world(&inside, spec, |world| identity::wants_tmp(world, &inside))?;
    if tmp {
        identity::mount_point(&inside, spec, "tmp")?;
    }
    drop(inside);

    let run = || -> Result<(), HostError> {
        let ids = mount(paths, spec, None)?;
        let (root, base) = (paths.root(name), paths.base(name));
        let bundle = Bundle {
            hostname: &spec.config.hostname,
            network: spec.config.network,
            root: &root,
            base: spec.base.is_some().then_some(base.as_path()),
            ids,
            init: &init,
            environment: &[],
            resolver,
            tmp,
            cache: None,
            cgroup: &paths.cgroup(name),
            limits: spec.config.limits.clone(),
            control: &control,
            seccomp,
        };
        for maker in makers {
            let program = maker.command[0].clone();
            let once = Init::Once(maker.command);
            let once = Bundle {
                init: &once,
                ..bundle.clone()
            };
            write(paths, spec, &once)?;
            point();
            match (
                runtime::run_once(paths, name, maker.limit, stop),
                maker.optional,
            ) {
                (Err(HostError::Start { why, .. }), Some(what)) if !stop() => {
                    let why = format!("{program} failed: {why}");
                    paths.note(format!("{name} starts without {what}: {why}"));
                }
                (done, _) => done?,
            }
        }
        point();
        write(paths, spec, &bundle)?;
        point();
        runtime::create(paths, name, init.has_console(), stop)?;
        point();
        runtime::start(paths, name, stop)?;
        point();
        let started = paths.started(name);
        fs::write(&started, runs_as(spec)).map_err(file("write", &started))
    };
    match run() {
        Ok(()) => Ok(Changed::Done),
        Err(error) => {
            // What cannot be undone now is found and undone by the next start, stop or forget.
            let _ = stop::clear(paths, name);
            let _ = stop::forget_exit(paths, name);
            // Whatever it failed with then.
            Err(if stop() {
                HostError::Ended(name.clone())
            } else {
                error
            })
        }
    }
}

/// Refuses what only FreeBSD has.
///
/// # Errors
/// [`HostError::Missing`].
pub(super) fn takes(network: Network, params: &Params) -> Result<(), HostError> {
    let what = if network == Network::Vnet {
        "networks of jails: their network is the host's or none".to_owned()
    } else if params.is_empty() {
        return Ok(());
    } else {
        format!("the parameters {params}")
    };
    Err(HostError::Missing {
        what,
        hint: "FreeBSD's jail(8) has them".to_owned(),
    })
}

/// Datasets of jails need root of a jail to be the host's for ZFS.
pub(super) fn no_datasets() -> HostError {
    HostError::Missing {
        what: "datasets that jails administer themselves".to_owned(),
        hint: "FreeBSD's jail(8) has them".to_owned(),
    }
}

/// What of its configuration a jail was started with: the text of its `started`.
pub(super) fn runs_as(spec: &JailSpec) -> String {
    let config = &spec.config;
    let addresses: Vec<String> = config.addresses.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{}\n{}\n{}\n",
        config.hostname,
        config.network,
        addresses.join(" ")
    );
    if !config.limits.is_empty() {
        text += &format!("{}\n", config.limits);
    }
    if config.nested_userns {
        text += "user namespaces\n";
    }
    text
}

/// Writes the configuration of the container.
pub(super) fn write(paths: &Paths, spec: &JailSpec, bundle: &Bundle<'_>) -> Result<(), HostError> {
    let config = paths.jail(&spec.name).join("config.json");
    let text = bundle
        .spec()
        .map_err(|error| error.to_string())
        .and_then(|spec| serde_json::to_vec(&spec).map_err(|error| error.to_string()))
        .map_err(|why| HostError::Parse {
            what: format!("the configuration of {}", spec.name),
            why,
        })?;
    fs::write(&config, text).map_err(file("write", &config))
}

/// What this host must have; gives the seccomp profile, with user namespaces or without.
pub(super) fn requirements(
    user_namespaces: bool,
) -> Result<oci_spec::runtime::LinuxSeccomp, HostError> {
    for (program, package) in PROGRAMS {
        if find(program).is_err() {
            return Err(missing(format!("the program {program}"), package));
        }
    }
    crun::require()?;
    let Some((path, text)) = seccomp_profile()? else {
        return Err(missing("a seccomp profile".to_owned(), SECCOMP_PACKAGE));
    };
    let release = Path::new("/proc/sys/kernel/osrelease");
    let kernel = process::read(release).map_err(file("read", release))?;
    let machine = seccomp::Machine {
        arch: std::env::consts::ARCH,
        capabilities: &CAPABILITIES.map(|(_, name)| name),
        kernel: kernel
            .as_deref()
            .and_then(seccomp::version)
            .unwrap_or_default(),
    };
    let bad = |why: String| HostError::Parse {
        what: path.display().to_string(),
        why,
    };
    let mut profile = seccomp::convert(&text, machine).map_err(|error| bad(error.to_string()))?;
    if !user_namespaces {
        let denied = seccomp::deny_user_namespaces(&mut profile, machine.arch);
        denied.map_err(|error| bad(error.to_string()))?;
    }
    Ok(profile)
}

fn missing(what: String, package: &str) -> HostError {
    HostError::Missing {
        what,
        hint: format!("apt-get install {package}"),
    }
}

/// The first seccomp profile of the host that is there.
pub(super) fn seccomp_profile() -> Result<Option<(PathBuf, String)>, HostError> {
    for path in seccomp::PROFILES.map(PathBuf::from) {
        if let Some(text) = process::read(&path).map_err(file("read", &path))? {
            return Ok(Some((path, text)));
        }
    }
    Ok(None)
}

/// That the datasets, and not the directories below their mounts, are given to the jail.
pub(super) fn check_mounts(spec: &JailSpec) -> Result<(), HostError> {
    let table = mounted().map_err(|source| HostError::Mount {
        action: "read the mounts",
        jail: spec.name.to_string(),
        source,
    })?;
    let base = spec.base.as_ref().map(|base| (&base.path, &base.dataset));
    for (path, dataset) in [Some((&spec.root, &spec.dataset)), base]
        .into_iter()
        .flatten()
    {
        let found = table.iter().rfind(|mount| mount.target == *path);
        if found.is_none_or(|mount| mount.fstype != "zfs" || mount.source != dataset.as_str()) {
            return Err(HostError::Start {
                jail: spec.name.clone(),
                why: format!("{dataset} is not mounted at {}", path.display()),
            });
        }
    }
    Ok(())
}

/// Looks at the world of a jail. A thin jail's is its basejail, which is sealed, and not what the
/// jail can write.
fn world<T>(
    inside: &Inside,
    spec: &JailSpec,
    look: impl FnOnce(&Inside) -> io::Result<T>,
) -> Result<T, HostError> {
    match &spec.base {
        Some(base) => Inside::open(&base.path)
            .and_then(|inside| look(&inside))
            .map_err(file("look into", &base.path)),
        None => look(inside).map_err(file("look into", &spec.root)),
    }
}

/// What makes the databases of the profile again whose texts are newer: a merge has changed one, or its
/// administrator. Files that cannot be looked at are none.
fn remade(inside: &Inside, spec: &JailSpec) -> Vec<Maker> {
    let time = |path: &RelPath| inside.modified(&path.to_string()).ok().flatten();
    let due = spec.profile.database.iter().filter(|database| {
        matches!((time(&database.from), time(&database.made)), (Some(from), Some(made)) if from > made)
    });
    due.map(|database| Maker {
        command: ["/bin/sh", "-c", &database.command]
            .map(str::to_owned)
            .to_vec(),
        optional: Some(format!(
            "a /{} that is as new as /{}",
            database.made, database.from
        )),
        limit: REMADE,
    })
    .collect()
}

/// The world's init if it has one, else our own around the profile's command.
fn choose_init(inside: &Inside, spec: &JailSpec) -> Result<Init, HostError> {
    for path in &spec.profile.start.init {
        if world(inside, spec, |world| world.is_program(path))? {
            return Ok(Init::World(path.clone()));
        }
    }
    match find("catatonit") {
        Ok(program) => Ok(Init::Own {
            program,
            command: spec.profile.start.command.clone(),
        }),
        Err(_) => Err(missing(
            "the program catatonit, for worlds without an init".to_owned(),
            "catatonit",
        )),
    }
}

/// Mounts root and base for the jail, and a directory for downloads: with ids of its own if this OpenZFS
/// can do that.
pub(super) fn mount(
    paths: &Paths,
    spec: &JailSpec,
    cache: Option<&Path>,
) -> Result<Option<IdRange>, HostError> {
    let name = &spec.name;
    let cache_at = cache.map(|_| paths.cache(name));
    for path in [paths.jail(name), paths.root(name), paths.base(name)]
        .into_iter()
        .chain(cache_at)
    {
        point();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(file("make", &path))?;
    }
    point();
    let directory = paths.ids();
    let ids = ids::take(&directory, &paths.owner(name))
        .map_err(file("take ids from", &directory))?
        .ok_or_else(|| HostError::Missing {
            what: "free ids: 4094 jails run".to_owned(),
            hint: format!("stop some, or look into {}", directory.display()),
        })?;
    point();
    let path = paths.jail(name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o710))
        .and_then(|()| chown(&path, None, Some(ids.first())))
        .map_err(file("open to the jail", &path))?;
    let namespace = UserNamespace::new(ids).map_err(|error| match error {
        NamespaceError::Exec(source) => program("make a user namespace for", name)(source),
        NamespaceError::Map(source) => HostError::File {
            action: "map the ids of a user namespace in",
            path: "/proc".into(),
            source,
        },
    })?;
    let failed = |source| HostError::Mount {
        action: "mount the files",
        jail: name.to_string(),
        source,
    };
    let mapped = binds(paths, spec, cache)
        .into_iter()
        .try_for_each(|(from, to, flags)| {
            point();
            bind_idmapped(from, &to, namespace.fd.as_fd(), flags)
        });
    match mapped {
        Ok(()) => Ok(Some(ids)),
        Err(MountError::IdmapUnsupported { .. }) => {
            for (from, to, flags) in binds(paths, spec, cache) {
                bind(from, &to, flags).map_err(failed)?;
            }
            Ok(None)
        }
        Err(other) => Err(failed(other)),
    }
}

fn binds<'a>(
    paths: &Paths,
    spec: &'a JailSpec,
    cache: Option<&'a Path>,
) -> Vec<(&'a Path, PathBuf, MountFlags)> {
    let flags = MountFlags {
        nodev: true,
        ..MountFlags::default()
    };
    let read_only = MountFlags {
        read_only: true,
        ..flags
    };
    let mut binds = vec![(spec.root.as_path(), paths.root(&spec.name), flags)];
    if let Some(base) = &spec.base {
        binds.push((base.path.as_path(), paths.base(&spec.name), read_only));
    }
    if let Some(cache) = cache {
        binds.push((cache, paths.cache(&spec.name), flags));
    }
    binds
}

/// A bind mount without other ids: for OpenZFS before 2.2.
fn bind(from: &Path, at: &Path, flags: MountFlags) -> Result<(), MountError> {
    remount("bind", Some(from), at, MsFlags::MS_BIND)?;
    remount("make private", None, at, MsFlags::MS_PRIVATE)?;
    let mut bits = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RELATIME;
    bits.set(MsFlags::MS_RDONLY, flags.read_only);
    bits.set(MsFlags::MS_NODEV, flags.nodev);
    remount("set the flags", None, at, bits)
}

fn remount(
    step: &'static str,
    from: Option<&Path>,
    at: &Path,
    bits: MsFlags,
) -> Result<(), MountError> {
    nix::mount::mount(from, at, None::<&str>, bits, None::<&str>).map_err(|errno| {
        MountError::Bind {
            source_dir: from.unwrap_or(at).to_owned(),
            at: at.to_owned(),
            step,
            errno: Errno(errno as i32),
        }
    })
}

/// A first process that has ended by now is a failed start, and its last words are the reason.
///
/// # Errors
/// See [`crate::ports::Host::ensure_up`].
pub(super) fn ensure_up(paths: &Paths, spec: &JailSpec) -> Result<(), HostError> {
    let name = &spec.name;
    let pid = paths.jail(name).join("pid");
    let up = match state::init(paths, name)? {
        Some(init) => !init
            .wait(Duration::ZERO)
            .map_err(file("look at the process of", &pid))?,
        None => false,
    };
    if up {
        return Ok(());
    }
    let why = last_words(paths, name);
    // What cannot be undone now is found and undone by the next start, stop or forget.
    let _ = stop::clear(paths, name);
    let _ = stop::forget_exit(paths, name);
    Err(HostError::Start {
        jail: name.clone(),
        why: why?,
    })
}

/// How a first process has ended, and what it said last.
fn last_words(paths: &Paths, name: &JailName) -> Result<String, HostError> {
    runtime::end_conmon(paths, name, Duration::from_secs(5))?;
    let status = match state::exit(paths, name)? {
        Some(status) => format!(" with status {status}"),
        None => String::new(),
    };
    let said = runtime::log_tail(&paths.log(name));
    let colon = if said.is_empty() { "" } else { ": " };
    Ok(format!(
        "its first process exited at once{status}{colon}{said}"
    ))
}

/// Whether files of this directory can be mounted with other ids.
pub(super) fn can_map_ids(directory: &Path, at: &Path) -> Result<bool, ProbeError> {
    let Some(ids) = IdRange::from_slot(0) else {
        return Ok(false);
    };
    let namespace = UserNamespace::new(ids)?;
    fs::create_dir_all(at)?;
    let result = bind_idmapped(directory, at, namespace.fd.as_fd(), MountFlags::default());
    let outcome = match result {
        Ok(()) => {
            ezz_zfs::mount::unmount(at)?;
            Ok(true)
        }
        Err(MountError::IdmapUnsupported { .. }) => Ok(false),
        Err(other) => Err(other.into()),
    };
    fs::remove_dir(at)?;
    outcome
}

/// The probe itself failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// The user namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its directory.
    #[error(transparent)]
    Io(#[from] io::Error),
}
