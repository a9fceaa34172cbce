//! What makes a jail an individual, given to it before it runs for the first time. What it has is
//! left alone, and nothing is followed out of it.

use std::io::ErrorKind;
use std::path::Path;

use super::inside::Inside;
use crate::ports::{HostError, JailSpec};

/// Directories that the runtime mounts on. A link there would move the mount elsewhere.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Makes the mount points, and checks that they are directories.
///
/// # Errors
/// [`HostError::Start`] if one of them is a link or a file.
pub(super) fn mount_points(inside: &Inside, spec: &JailSpec) -> Result<(), HostError> {
    let basejail = spec.base.is_some().then_some("basejail");
    for directory in MOUNT_POINTS.into_iter().chain(basejail) {
        inside
            .ensure_directory(directory)
            .map_err(|e| refused(spec, directory, e))?;
    }
    inside
        .ensure_directory("etc")
        .map_err(|e| refused(spec, "etc", e))
}

/// Makes the mount points, and gives the jail its names.
///
/// # Errors
/// As [`mount_points`]; [`HostError::File`].
pub(super) fn prepare(inside: &Inside, spec: &JailSpec, own_init: bool) -> Result<(), HostError> {
    mount_points(inside, spec)?;
    let hostname = &spec.config.hostname;
    let create = |name: &str, text: &str| {
        inside
            .create("etc", name, text.as_bytes())
            .map_err(|source| HostError::File {
                action: "write",
                path: spec.root.join("etc").join(name),
                source,
            })
    };
    create("hostname", &format!("{hostname}\n"))?;
    create(
        "hosts",
        &format!(
            "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n\
             127.0.1.1\t{hostname}\n"
        ),
    )?;
    let generate = |what: &str| spec.profile.generate.iter().any(|name| name == what);
    // systemd takes an empty one for a first boot, and makes one itself.
    if generate("machine-id") && own_init {
        let id = format!("{}\n", uuid::Uuid::new_v4().simple());
        if !create("machine-id", &id)? {
            inside
                .fill("etc", "machine-id", id.as_bytes())
                .map_err(|source| HostError::File {
                    action: "write",
                    path: spec.root.join("etc/machine-id"),
                    source,
                })?;
        }
    }
    Ok(())
}

/// Whether an ssh server of the jail has no keys yet.
///
/// # Errors
/// [`HostError::File`].
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
            // It has one, or no server is configured.
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

/// The host's resolv.conf, if the jail has none of its own.
///
/// # Errors
/// [`HostError::File`].
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
