//! Determines which world a tree is: its profile, version and architecture, all of which are read as text or bytes. No
//! program of the world is run for this.

use std::path::Path;

use rustix::fs::FileType;

use super::dirs::{Dirs, kind};
use super::error::{Resemblance, WorldError};
use super::walk::names;
use crate::profile::{LabelRule, Os, Profile, RelPath};

/// The largest version file that is read.
const SIZE_MAX: u64 = 1 << 20;
/// The greatest length of a label.
const LABEL_MAX: usize = 64;
/// The number of directories of a root in which a world is looked for.
const LOOKED: usize = 64;

/// What is known about a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldLabel {
    /// The label, such as `14.3-RELEASE-p2` or `debian-12.15`.
    pub label: String,
    /// The label without its patch level, such as `14.3-RELEASE` or `debian-12`.
    pub release: String,
    /// The operating system whose kernel the world needs.
    pub os: Os,
    /// `amd64`, `arm64`, `i386`, `riscv64` …: the names FreeBSD and Debian agree on.
    pub arch: &'static str,
    /// The name of the world's profile.
    pub profile: String,
}

/// Returns the first built-in profile that recognises a world.
///
/// # Errors
/// No profile recognises the world, or the root cannot be read.
pub fn detect(root: &Path) -> Result<&'static Profile, WorldError> {
    let mut dirs = Dirs::open(root)?;
    if let Some(profile) = known_at(&mut dirs, &RelPath::root()) {
        return Ok(profile);
    }
    Err(WorldError::Unknown {
        known: known(),
        found: resembles(&mut dirs)?,
    })
}

/// Returns the names of the built-in profiles.
pub(super) fn known() -> String {
    let known: Vec<&str> = Profile::builtin().iter().map(|p| p.name.as_str()).collect();
    known.join(", ")
}

/// Returns the first built-in profile that recognises the content of a directory.
fn known_at(dirs: &mut Dirs, at: &RelPath) -> Option<&'static Profile> {
    Profile::builtin().iter().find(|profile| {
        profile.detect.exist.iter().all(|path| {
            // A link could lead to a file of the host instead.
            let path = at.join(path.as_bytes()).ok();
            let found = path.and_then(|path| dirs.stat(&path).unwrap_or(None));
            let found = found.map(|stat| kind(&stat));
            matches!(found, Some(FileType::RegularFile | FileType::Directory))
        })
    })
}

/// Returns what a tree that is not a world resembles: a directory in it is a world, or it has another system.
fn resembles(dirs: &mut Dirs) -> Result<Option<Resemblance>, WorldError> {
    let root = dirs.root().to_path_buf();
    let listed = dirs.dir(&RelPath::root(), false);
    let listed = names(listed.map_err(|e| e.in_tree(&root))?);
    let listed = listed.map_err(|e| WorldError::io("list", &root, e))?;
    for name in listed.iter().take(LOOKED) {
        let Ok(dir) = RelPath::root().join(name.as_bytes()) else {
            continue;
        };
        if let Some(profile) = known_at(dirs, &dir) {
            let profile = profile.name.clone();
            return Ok(Some(Resemblance::Below { dir, profile }));
        }
    }
    for path in ["etc/os-release", "usr/lib/os-release"] {
        let Ok(path) = RelPath::parse(path.as_bytes()) else {
            continue;
        };
        let text = text(dirs, &path)?.unwrap_or_default();
        let keys = ["PRETTY_NAME", "ID"];
        if let Some(name) = keys.iter().find_map(|key| assignment(&text, key)) {
            let name = name.chars().filter(|c| !c.is_control()).take(LABEL_MAX);
            return Ok(Some(Resemblance::Other(name.collect())));
        }
    }
    Ok(None)
}

/// Reads the version and the architecture of a world.
///
/// # Errors
/// The files that state them are missing or not usable.
pub fn label(root: &Path, profile: &Profile) -> Result<WorldLabel, WorldError> {
    let mut dirs = Dirs::open(root)?;
    let problem = |problem: String| WorldError::Label {
        profile: profile.name.clone(),
        path: root.to_path_buf(),
        problem,
    };
    let mut missing = Vec::new();
    let mut label = None;
    for rule in &profile.label {
        match by_rule(&mut dirs, rule)? {
            Ok(found) => {
                let release = rule
                    .patch
                    .as_ref()
                    .and_then(|patch| found.split_once(&**patch));
                let release = release.map_or(&*found, |(release, _)| release).to_owned();
                label = Some((found, release));
                break;
            }
            Err(what) => missing.push(what),
        }
    }
    let (label, release) = label.ok_or_else(|| problem(missing.join("; ")))?;
    let arch = arch(&mut dirs, &profile.arch)?;
    let arch = arch.ok_or_else(|| problem("no executable shows its architecture".to_owned()))?;
    Ok(WorldLabel {
        label,
        release,
        os: profile.os,
        arch,
        profile: profile.name.clone(),
    })
}

/// Returns the label, or a description of what is missing for it.
fn by_rule(dirs: &mut Dirs, rule: &LabelRule) -> Result<Result<String, String>, WorldError> {
    if let Some(when) = &rule.when {
        let text = text(dirs, &when.file)?;
        let found = text.as_deref().and_then(|text| assignment(text, &when.key));
        if found.as_deref() != Some(&when.value) {
            return Ok(Err(format!(
                "{} of {} is not {}",
                when.key, when.file, when.value
            )));
        }
    }
    let mut parts = Vec::new();
    for part in &rule.parts {
        let Some(text) = text(dirs, &part.file)? else {
            return Ok(Err(format!("{} is missing", part.file)));
        };
        let value = match &part.key {
            Some(key) => assignment(&text, key),
            None => text.lines().next().map(|line| line.trim().to_owned()),
        };
        match value.filter(|value| !value.is_empty()) {
            Some(value) => parts.push(value),
            None => {
                let key = part.key.as_deref().unwrap_or("anything");
                return Ok(Err(format!("{} does not say {key}", part.file)));
            }
        }
    }
    let label: String = parts
        .join("-")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._+~-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(LABEL_MAX)
        .collect();
    if label.chars().all(|c| !c.is_ascii_alphanumeric()) {
        return Ok(Err("the version has no letter or digit".to_owned()));
    }
    Ok(Ok(label))
}

/// Returns the value of `KEY=value` in a shell-like text. Quotes are removed; a value that a shell would expand does
/// not count.
fn assignment(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim();
    let bare = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value);
    let expands = bare.contains(['$', '`', '\\', '"', '\'']);
    (!expands).then(|| bare.to_owned())
}

fn text(dirs: &mut Dirs, path: &RelPath) -> Result<Option<String>, WorldError> {
    let bytes = dirs.read(path, SIZE_MAX)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn arch(dirs: &mut Dirs, probes: &[RelPath]) -> Result<Option<&'static str>, WorldError> {
    for probe in probes {
        if let Some(found) = dirs.read(probe, 64)?.as_deref().and_then(machine) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns the machine of an ELF header (System V ABI, `e_machine`).
fn machine(header: &[u8]) -> Option<&'static str> {
    let (ident, rest) = header.split_at_checked(16)?;
    if !ident.starts_with(b"\x7fELF") {
        return None;
    }
    let field: [u8; 2] = rest.get(2..4)?.try_into().ok()?;
    let little = ident[5] == 1;
    let machine = if little {
        u16::from_le_bytes(field)
    } else {
        u16::from_be_bytes(field)
    };
    Some(match (machine, ident[4], little) {
        (62, ..) => "amd64",
        (183, ..) => "arm64",
        (3, ..) => "i386",
        (243, 2, _) => "riscv64",
        (40, ..) => "arm",
        (21, _, true) => "ppc64le",
        (21, _, false) => "ppc64",
        (22, ..) => "s390x",
        (258, ..) => "loong64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{assignment, machine};

    #[test]
    fn assignments_are_text() {
        let script =
            "#!/bin/sh\n: ${ROOT:=}\nUSERLAND_VERSION=\"14.3-RELEASE-p2\"\nX='a b'\nY=z\nE=$(id)\n";
        assert_eq!(
            assignment(script, "USERLAND_VERSION").as_deref(),
            Some("14.3-RELEASE-p2")
        );
        assert_eq!(assignment(script, "X").as_deref(), Some("a b"));
        assert_eq!(assignment(script, "Y").as_deref(), Some("z"));
        assert_eq!(assignment(script, "E"), None);
        assert_eq!(assignment(script, "VERSION"), None);
    }

    #[test]
    fn elf_machines() {
        let mut header = *b"\x7fELF\x02\x01\x01\x09\0\0\0\0\0\0\0\0\x02\0\x3e\0";
        assert_eq!(machine(&header), Some("amd64"));
        header[18] = 0xb7;
        assert_eq!(machine(&header), Some("arm64"));
        assert_eq!(machine(b"#!/bin/sh\n"), None);
    }
}
