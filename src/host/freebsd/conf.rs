//! The files that jail(8) reads, as text: one block of jail.conf(5) for a jail, and its fstab.
//!
//! A self-contained file per jail works in every way that a host may use it: named in `jail_list`, included by
//! jail.conf, or given to `jail -f` (rc.d/jail). It has no variables and no includes, and every string is in single
//! quotes. This module is pure: it must not access files or the host.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::datasets;
use super::vnet::{self, Pair};
use crate::model::{Address, Limits, Network};
use crate::name::JailName;
use crate::ports::JailSpec;
use crate::profile::{Database, Os};

/// The devices that a jail sees: the ruleset `devfsrules_jail` of /etc/defaults/devfs.rules.
pub const DEVFS_RULESET: u32 = 4;

/// The longest `osrelease`, without its NUL (`OSRELEASELEN`, sys/jail.h).
const OSRELEASE_MAX: usize = 31;

/// The program that sets resource limits. Its arguments have no character for which jail(8) would start a shell.
pub const RCTL: &str = "/usr/bin/rctl";

/// The program that binds a jail to processors. The kernel removes the set with the jail.
const CPUSET: &str = "/usr/bin/cpuset";

/// Parameters to which ezz adds values of its own.
const MERGED: [&str; 5] = [
    "exec.prestart",
    "exec.created",
    "vnet.interface",
    "exec.start",
    "exec.poststop",
];

/// The beginning of each file; the id of the site follows.
const MARK: &str = "# Made by ezz for site ";

/// The error for a value that cannot be written into one of the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// The value has a NUL byte; jail(8) reads C strings.
    #[error("{what} has a NUL byte")]
    Nul {
        /// What the value is, for the message.
        what: &'static str,
    },
    /// The jail has a network stack of its own, and one of its addresses names no bridge.
    #[error("each address of a jail with a network of its own names its bridge: BRIDGE|ADDRESS")]
    Bridge,
}

/// The two files of one jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The block for jail.conf.d.
    pub conf: Vec<u8>,
    /// The fstab; none for a thick jail, which has no mounts of ezz's.
    pub fstab: Option<Vec<u8>>,
}

/// The paths that the block of a jail contains.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The path of the fstab.
    pub fstab: &'a Path,
    /// The path of the log of what the jail prints at its start and stop. It is outside of the jail, because jail(8)
    /// opens it as root.
    pub console_log: &'a Path,
}

/// Returns the text of a jail's files.
///
/// # Errors
/// Returns [`ConfError`] if a value has a NUL, or an address names no bridge although the jail has a network stack of
/// its own.
pub fn render(spec: &JailSpec, names: Names<'_>) -> Result<Files, ConfError> {
    let mut block = Block::new(&spec.name);
    block.text("path", "the path of the jail", spec.root.as_os_str())?;
    block.text(
        "host.hostname",
        "the host name",
        OsStr::new(&spec.config.hostname),
    )?;
    for (name, value) in network(spec) {
        match value {
            Value::Flag => block.flag(name),
            Value::Word(word) => block.word(name, word),
            Value::List(values) => block.list(name, "an address", &values)?,
        }
    }
    if spec.profile.os == Os::FreeBsd {
        let label = &spec.world.label;
        if let Some(number) = osreldate(label).filter(|_| label.len() <= OSRELEASE_MAX) {
            block.text("osrelease", "the release", OsStr::new(label))?;
            block.word("osreldate", &number.to_string());
        }
    }
    let pairs = vnet::pairs(&spec.site_id, &spec.name, &spec.config);
    let by_hand = |address: &Address| address.interface.is_none();
    if spec.config.network == Network::Vnet && spec.config.addresses.iter().any(by_hand) {
        return Err(ConfError::Bridge);
    }
    if spec.base.is_some() {
        block.text(
            "mount.fstab",
            "the path of its fstab",
            names.fstab.as_os_str(),
        )?;
    }
    let params = &spec.config.params;
    let said = |name: &str| params.get(name).unwrap_or_default().iter().cloned();
    let given = &spec.config.datasets;
    let needs = datasets::NEEDS.iter().filter(|_| !given.is_empty());
    for (name, word) in needs.copied().filter(|(name, _)| !params.says(name)) {
        match word {
            Some(word) => block.word(name, &word.to_string()),
            None => block.flag(name),
        }
    }
    let given_says = |it: &str| !given.is_empty() && datasets::NEEDS.iter().any(|(n, _)| *n == it);
    for (name, word) in [
        ("mount.devfs", None),
        ("devfs_ruleset", Some(DEVFS_RULESET)),
        ("enforce_statfs", Some(2)),
        ("exec.clean", None),
        ("stop.timeout", Some(spec.profile.stop.timeout)),
    ] {
        match word {
            _ if params.says(name) || given_says(name) => {}
            Some(word) => block.word(name, &word.to_string()),
            None => block.flag(name),
        }
    }
    let limits = rules(&spec.name, &spec.config.limits);
    let made = pairs.iter().map(Pair::make);
    block.commands("exec.prestart", made.chain(said("exec.prestart")))?;
    let add = limits.iter().map(|rule| format!("{RCTL} -a {rule}"));
    let pin = spec.config.limits.cpuset.iter();
    let pin = pin.map(|list| format!("{CPUSET} -l {list} -j {}", spec.name));
    let give = given.iter().map(|it| datasets::give(&spec.name, it));
    let created = add.chain(pin).chain(give);
    block.commands("exec.created", created.chain(said("exec.created")))?;
    let jail_ends = pairs.iter().map(|pair| pair.jail.clone());
    block.commands("vnet.interface", jail_ends.chain(said("vnet.interface")))?;
    let configured = pairs.iter().flat_map(Pair::configure);
    let start = match params.get("exec.start") {
        Some(commands) => commands.to_vec(),
        None => spec.profile.start.exec.iter().cloned().collect(),
    };
    let databases = spec.profile.database.iter().map(remade);
    block.commands("exec.start", configured.chain(databases).chain(start))?;
    if let (Some(command), false) = (&spec.profile.stop.exec, params.says("exec.stop")) {
        block.text("exec.stop", "the stop command", OsStr::new(command))?;
    }
    let unlimited = (!limits.is_empty()).then(|| no_rules(&spec.name));
    let taken = given.iter().map(datasets::take);
    let removed = taken.chain(pairs.iter().map(Pair::remove)).chain(unlimited);
    block.commands("exec.poststop", removed.chain(said("exec.poststop")))?;
    for (name, values) in params
        .iter()
        .filter(|(name, _)| !MERGED.contains(&name.as_str()))
    {
        if values.is_empty() {
            block.flag(name);
        } else {
            block.list(name, "a parameter", values)?;
        }
    }
    block.text(
        "exec.consolelog",
        "the path of the console log",
        names.console_log.as_os_str(),
    )?;
    // A jail is a virtual host: it exists until it is stopped, even if no process runs in it.
    block.flag("persist");

    let mark = mark(&spec.site_id);
    let mut conf = mark.clone().into_bytes();
    conf.extend_from_slice(&block.close());
    let mut fstab = None;
    if let Some(base) = &spec.base {
        let mut text = mark.into_bytes();
        text.extend(nullfs_line(&base.path, &spec.root.join("basejail"), "ro")?);
        fstab = Some(text);
    }
    Ok(Files { conf, fstab })
}

/// Returns the rules of rctl(8) that limit a jail. They stay in the kernel under the jail's name, even when the jail
/// does not exist.
pub(super) fn rules(name: &JailName, limits: &Limits) -> Vec<String> {
    let rule = |resource: &str, most: u64| format!("jail:{name}:{resource}:deny={most}");
    let rules = [
        limits.memory.map(|bytes| rule("memoryuse", bytes)),
        limits
            .cpus
            .map(|cpus| rule("pcpu", u64::from(cpus.hundredths()))),
        limits
            .processes
            .map(|most| rule("maxproc", u64::from(most))),
    ];
    rules.into_iter().flatten().collect()
}

/// Returns a command that makes a database again if its text file is newer. If the command fails, the jail still
/// starts.
fn remade(database: &Database) -> String {
    let Database {
        from,
        made,
        command,
    } = database;
    format!(
        "if [ /{from} -nt /{made} ]; then {command} || echo '/{made} is older than /{from}' >&2; fi"
    )
}

/// Returns the commands of a file's `exec.poststop` that ezz has written for this jail. They undo on the host what
/// other commands of the file have created. jail(8) runs those of the user.
pub fn undone(conf: &str, site_id: &str, name: &JailName) -> Vec<String> {
    let line = conf
        .lines()
        .find_map(|line| line.trim().strip_prefix("exec.poststop = "));
    let commands = line.into_iter().flat_map(|line| line.split('\''));
    let own = own(site_id, name);
    let ours = commands.filter(|command| own.iter().any(|own| own == command));
    ours.map(str::to_owned).collect()
}

/// Returns the seconds that jail(8) waits between SIGTERM and the end of a jail, as its file says.
pub fn stop_timeout(conf: &str) -> Option<u32> {
    let mut lines = conf.lines().rev();
    let value = lines.find_map(|line| line.trim().strip_prefix("stop.timeout = "))?;
    value.trim_end_matches(';').trim_matches('\'').parse().ok()
}

/// Returns the file with another number there.
pub fn with_stop_timeout(conf: &str, seconds: u32) -> String {
    let lines = conf.lines().map(
        |line| match line.trim_start().strip_prefix("stop.timeout = ") {
            Some(_) => format!("    stop.timeout = {seconds};\n"),
            None => format!("{line}\n"),
        },
    );
    lines.collect()
}

/// Returns all commands that can undo something of a jail, for a jail whose file is lost. Each has no effect if there
/// is nothing to undo.
pub fn own(site_id: &str, name: &JailName) -> Vec<String> {
    let pairs = (0..vnet::PAIRS_MAX).map(|number| vnet::removal(site_id, name, number));
    pairs.chain([no_rules(name)]).collect()
}

/// Returns the command that removes all limits of a jail.
fn no_rules(name: &JailName) -> String {
    format!("{RCTL} -r jail:{name}")
}

/// Returns the comment that begins each file.
fn mark(site_id: &str) -> String {
    format!("{MARK}{site_id}. Edits are lost at the next start.\n")
}

/// Returns the id of the site that owns a file, from its first line; none if ezz did not make the file.
pub fn owner(text: &[u8]) -> Option<&str> {
    let line = text.split(|&byte| byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(MARK)?;
    rest.split_once('.').map(|(id, _)| id)
}

/// Splits a file of ezz's into its first line and the rest.
pub(super) fn marked(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let _owner = owner(text)?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    Some(text.split_at(end + 1))
}

/// Returns the fstab of a running jail whose own was lost, from the mounts in it. Without that file, jail(8) refuses to
/// stop the jail.
///
/// # Errors
/// Returns [`ConfError`] if a path has a NUL.
pub fn fstab_of_mounted<'a>(
    site_id: &str,
    mounted: impl IntoIterator<Item = (&'a Path, &'a Path, bool)>,
) -> Result<Vec<u8>, ConfError> {
    let mut text = mark(site_id).into_bytes();
    for (source, target, read_only) in mounted {
        text.extend(nullfs_line(
            source,
            target,
            if read_only { "ro" } else { "rw" },
        )?);
    }
    Ok(text)
}

/// Returns one line of an fstab, which mounts a directory on another.
fn nullfs_line(source: &Path, target: &Path, options: &str) -> Result<Vec<u8>, ConfError> {
    let mut line = fstab_word(source.as_os_str(), "the path of the basejail")?;
    line.push(b' ');
    line.extend(fstab_word(target.as_os_str(), "the path of the jail")?);
    line.extend(format!(" nullfs {options} 0 0\n").bytes());
    Ok(line)
}

/// Writes a word of an fstab line so that strunvis(3) can read it. jail(8) splits a line at every kind of blank and
/// cuts it at any `#` (usr.sbin/jail/config.c), so more is escaped than fstab(5) requires.
fn fstab_word(word: &OsStr, what: &'static str) -> Result<Vec<u8>, ConfError> {
    let mut out = Vec::with_capacity(word.len());
    for &byte in word.as_bytes() {
        match byte {
            0 => return Err(ConfError::Nul { what }),
            b'\\' | b'#' | ..=b' ' | 0x7f => out.extend(format!("\\{byte:03o}").bytes()),
            _ => out.push(byte),
        }
    }
    Ok(out)
}

/// Writes a string so that jail.conf(5) can read it, whatever it contains. Single quotes prevent the expansion of
/// variables but, unlike in sh, not of backslashes (usr.sbin/jail/jaillex.l).
fn quoted(text: &OsStr, what: &'static str) -> Result<Vec<u8>, ConfError> {
    match text.as_bytes().contains(&0) {
        true => Err(ConfError::Nul { what }),
        false => Ok(in_quotes(text)),
    }
}

/// Writes a string that has no NUL, such as a path, in the same way.
pub(super) fn in_quotes(text: &OsStr) -> Vec<u8> {
    let mut out = vec![b'\''];
    for &byte in text.as_bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' | b'\'' => out.extend([b'\\', byte]),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
    out
}

enum Value {
    Flag,
    Word(&'static str),
    List(Vec<String>),
}

/// Returns the parameters of the jail's network. Both address families are always given, because their defaults depend
/// on each other and on the kernel.
fn network(spec: &JailSpec) -> Vec<(&'static str, Value)> {
    let addresses = &spec.config.addresses;
    match spec.config.network {
        Network::Vnet => vec![("vnet", Value::Flag)],
        Network::None => vec![
            ("ip4", Value::Word("disable")),
            ("ip6", Value::Word("disable")),
        ],
        Network::Host if addresses.is_empty() => vec![
            ("ip4", Value::Word("inherit")),
            ("ip6", Value::Word("inherit")),
        ],
        Network::Host => {
            let family = |v4: bool| -> Vec<String> {
                addresses
                    .iter()
                    .filter(|address| address.ip.is_ipv4() == v4)
                    .map(|address| match address.interface {
                        // jail(8) adds the address to the interface before the start, and removes it after the stop.
                        Some(_) => address.to_string(),
                        // The host has the address already: only the kernel needs to know it, without the prefix.
                        None => address.ip.to_string(),
                    })
                    .collect()
            };
            let mut out = Vec::new();
            for (mode, list, values) in [
                ("ip4", "ip4.addr", family(true)),
                ("ip6", "ip6.addr", family(false)),
            ] {
                if values.is_empty() {
                    out.push((mode, Value::Word("disable")));
                } else {
                    out.push((mode, Value::Word("new")));
                    out.push((list, Value::List(values)));
                }
            }
            out
        }
    }
}

/// Returns the `__FreeBSD_version` of a release, such as 1403000 for `14.3-RELEASE-p2`; none where it does not follow
/// from the name (sys/sys/param.h of each release).
fn osreldate(label: &str) -> Option<u32> {
    let (version, rest) = label.split_once('-')?;
    if !rest.starts_with("RELEASE") {
        return None;
    }
    let (major, minor) = version.split_once('.')?;
    match (major.parse().ok()?, minor.parse().ok()?) {
        (14, 0) => Some(1_400_097),
        (15, 0) => Some(1_500_068),
        (major @ 14..=99, minor @ 1..=99) => Some(major * 100_000_u32 + minor * 1000_u32),
        _ => None,
    }
}

/// A block of jail.conf(5) that is being written.
struct Block(Vec<u8>);

impl Block {
    fn new(name: &JailName) -> Self {
        // A jail's name has only letters, digits and hyphens, none of which ends a token.
        Block(format!("{name} {{\n").into_bytes())
    }

    fn flag(&mut self, name: &str) {
        self.0.extend(format!("    {name};\n").bytes());
    }

    fn word(&mut self, name: &str, word: &str) {
        self.0.extend(format!("    {name} = {word};\n").bytes());
    }

    fn text(&mut self, name: &str, what: &'static str, value: &OsStr) -> Result<(), ConfError> {
        self.0.extend(format!("    {name} = ").bytes());
        self.0.extend(quoted(value, what)?);
        self.0.extend_from_slice(b";\n");
        Ok(())
    }

    fn list(&mut self, name: &str, what: &'static str, values: &[String]) -> Result<(), ConfError> {
        self.0.extend(format!("    {name} = ").bytes());
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.0.extend_from_slice(b", ");
            }
            self.0.extend(quoted(OsStr::new(value), what)?);
        }
        self.0.extend_from_slice(b";\n");
        Ok(())
    }

    /// Writes the commands that are run in this order; writes nothing if there are none.
    fn commands(
        &mut self,
        name: &str,
        commands: impl IntoIterator<Item = String>,
    ) -> Result<(), ConfError> {
        let commands: Vec<String> = commands.into_iter().collect();
        if commands.is_empty() {
            return Ok(());
        }
        self.list(name, "a command", &commands)
    }

    fn close(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }
}

#[cfg(test)]
pub(super) mod reader;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
