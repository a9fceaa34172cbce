//! Gives a jail its identity before it runs for the first time. What the jail already has stays unchanged, and no link
//! is followed out of the jail.

use std::io::ErrorKind;
use std::path::Path;

use super::inside::Inside;
use super::names;
use crate::ports::{HostError, JailSpec};
use crate::profile::{RelPath, ScrubAction};

/// The most bytes of /etc/hosts or /etc/hostname that are read.
const TEXT_MAX: u64 = 1 << 20;

/// The text of /etc/hosts if the profile does not have one.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n";

/// The directories on which the runtime mounts. A link in the place of one would move the mount elsewhere.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Creates the mount points, and checks that they are directories.
///
/// # Errors
/// [`HostError::Start`] if one of them is a link or a file.
pub(super) fn mount_points(inside: &Inside, spec: &JailSpec) -> Result<(), HostError> {
    let basejail = spec.base.is_some().then_some("basejail");
    let directories = MOUNT_POINTS.into_iter().chain(basejail).chain(["etc"]);
    for directory in directories {
        mount_point(inside, spec, directory)?;
    }
    Ok(())
}

/// Creates a directory of the root, and checks that it is one.
///
/// # Errors
/// Returns the errors of [`mount_points`].
pub(super) fn mount_point(
    inside: &Inside,
    spec: &JailSpec,
    directory: &str,
) -> Result<(), HostError> {
    inside
        .ensure_directory(directory)
        .map_err(|e| refused(spec, directory, e))
}

/// Creates the mount points, and gives the jail its names.
///
/// # Errors
/// Returns the errors of [`mount_points`], and [`HostError::File`].
pub(super) fn prepare(inside: &Inside, spec: &JailSpec, own_init: bool) -> Result<(), HostError> {
    mount_points(inside, spec)?;
    let create = |name: &str, text: &str| {
        inside
            .create("etc", name, text.as_bytes())
            .map_err(failed("write", spec, name))
    };
    own_names(inside, spec)?;
    let generate = |what: &str| spec.profile.generate.iter().any(|name| name == what);
    // systemd takes an empty machine-id for a first boot, and generates one itself.
    if generate("machine-id") && own_init {
        let id = format!("{}\n", uuid::Uuid::new_v4().simple());
        if !create("machine-id", &id)? {
            inside
                .fill("etc", "machine-id", id.as_bytes())
                .map_err(failed("write", spec, "machine-id"))?;
        }
    }
    Ok(())
}

/// Writes the jail's names into its files, where they are missing or unchanged since ezz wrote them.
fn own_names(inside: &Inside, spec: &JailSpec) -> Result<(), HostError> {
    let hostname = &spec.config.hostname;
    let read = |name: &str| {
        let text = inside.read_own("etc", name, TEXT_MAX);
        let text = text.map_err(failed("read", spec, name))?;
        Ok(text.and_then(|text| String::from_utf8(text).ok()))
    };
    let fresh = fresh_hosts(spec);
    let old = read("hosts")?;
    let before = old.as_deref().and_then(|old| names::named(old, fresh));
    // The host name comes first: if a start is killed between the two, the next one can continue with the name in the
    // other file.
    let line = format!("{hostname}\n");
    let is_new = inside.create("etc", "hostname", line.as_bytes());
    if !is_new.map_err(failed("write", spec, "hostname"))? {
        let text = read("hostname")?.unwrap_or_default();
        if names::hostname_follows(&text, before, hostname) {
            let replaced = inside.replace("etc", "hostname", line.as_bytes());
            if_there_is_room(replaced).map_err(failed("write", spec, "hostname"))?;
        }
    }
    let new = names::new_hosts(fresh, hostname);
    let is_new = inside.create("etc", "hosts", new.as_bytes());
    if !is_new.map_err(failed("write", spec, "hosts"))? {
        let changed = old.and_then(|old| names::hosts(&old, fresh, hostname));
        if let Some(changed) = changed {
            let replaced = inside.replace("etc", "hosts", changed.as_bytes());
            if_there_is_room(replaced).map_err(failed("write", spec, "hosts"))?;
        }
    }
    Ok(())
}

/// Ignores an error for lack of space. A jail whose quota is used up starts with the names that it has, because it may
/// be started to be cleaned up.
fn if_there_is_room(replaced: std::io::Result<bool>) -> std::io::Result<()> {
    match replaced {
        Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Ok(()),
        done => done.map(drop),
    }
}

/// Returns the text of /etc/hosts in a world after its scrub.
fn fresh_hosts(spec: &JailSpec) -> &str {
    let hosts = RelPath::parse(b"etc/hosts").unwrap_or_default();
    let mut rules = spec.profile.scrub.iter();
    let rule = rules.find(|rule| rule.path.matches(&hosts));
    match rule.map(|rule| &rule.action) {
        Some(ScrubAction::Reset(text)) => text,
        _ => HOSTS,
    }
}

fn failed(
    action: &'static str,
    spec: &JailSpec,
    name: &str,
) -> impl Fn(std::io::Error) -> HostError {
    let path = spec.root.join("etc").join(name);
    move |source| HostError::File {
        action,
        path: path.clone(),
        source,
    }
}

/// Reports whether the jail has the directory, but not the key, that Debian's ssl-cert generates for each machine.
///
/// # Errors
/// [`HostError::File`] if the directory cannot be read.
pub(super) fn wants_certificate(inside: &Inside, spec: &JailSpec) -> Result<bool, HostError> {
    if !spec
        .profile
        .generate
        .iter()
        .any(|name| name == "ssl-cert-snakeoil")
    {
        return Ok(false);
    }
    match inside.is_vacant("etc/ssl/private", "ssl-cert-snakeoil.key") {
        Ok(vacant) => Ok(vacant),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(failed("look at", spec, "ssl/private")(e)),
    }
}

/// Reports whether a jail with an init of its own has its /tmp in memory. That is so if its world wants it (Debian 13),
/// and its administrator has not changed that by `systemctl mask tmp.mount`.
///
/// # Errors
/// Returns the error of the operating system.
pub(super) fn wants_tmp(world: &Inside, inside: &Inside) -> std::io::Result<bool> {
    let wanted = world.exists("usr/lib/systemd/system/local-fs.target.wants/tmp.mount")?;
    Ok(wanted && !inside.is_link_to("etc/systemd/system", "tmp.mount", b"/dev/null"))
}

/// Reports whether an ssh server in the jail has no keys yet.
///
/// # Errors
/// [`HostError::File`] if the directory cannot be read.
pub(super) fn wants_host_keys(inside: &Inside, spec: &JailSpec) -> Result<bool, HostError> {
    if !spec
        .profile
        .generate
        .iter()
        .any(|name| name == "ssh-host-keys")
    {
        return Ok(false);
    }
    for kind in ["ed25519", "rsa"] {
        match inside.is_vacant("etc/ssh", &format!("ssh_host_{kind}_key")) {
            Ok(true) => {}
            // The server has a key, or is not configured.
            Ok(false) => return Ok(false),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(false);
            }
            Err(source) => {
                return Err(HostError::File {
                    action: "look at",
                    path: spec.root.join("etc/ssh"),
                    source,
                });
            }
        }
    }
    Ok(true)
}

/// Returns the path of the host's resolv.conf, if the jail has none of its own.
///
/// # Errors
/// [`HostError::File`] if the jail's /etc cannot be read.
pub(super) fn resolver(
    inside: &Inside,
    spec: &JailSpec,
) -> Result<Option<&'static Path>, HostError> {
    let host = Path::new("/etc/resolv.conf");
    let vacant = inside
        .is_vacant("etc", "resolv.conf")
        .map_err(|source| HostError::File {
            action: "look at",
            path: spec.root.join("etc/resolv.conf"),
            source,
        })?;
    Ok((vacant && host.is_file()).then_some(host))
}

fn refused(spec: &JailSpec, name: &str, error: std::io::Error) -> HostError {
    if error.kind() == ErrorKind::NotADirectory {
        return HostError::Start {
            jail: spec.name.clone(),
            why: format!("/{name} in it is not a directory"),
        };
    }
    HostError::File {
        action: "make",
        path: spec.root.join(name),
        source: error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn tmp_is_in_memory_if_the_world_wants_it_and_the_jail_does_not_mind() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [world, jail] = ["world", "jail"].map(|name| directory.path().join(name));
        let wants = world.join("usr/lib/systemd/system/local-fs.target.wants");
        let own = jail.join("etc/systemd/system");
        for path in [&wants, &own] {
            std::fs::create_dir_all(path).expect("made");
        }
        let asked = || {
            let open = |path| Inside::open(path).expect("opened");
            wants_tmp(&open(&world), &open(&jail)).expect("looked")
        };
        assert!(!asked(), "Debian 12 has it in /usr/share alone");
        symlink("../tmp.mount", wants.join("tmp.mount")).expect("linked");
        assert!(asked());
        symlink("/dev/null", own.join("tmp.mount")).expect("linked");
        assert!(!asked());
    }
}
