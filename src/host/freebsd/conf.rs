//! The files that jail(8) reads: one block of jail.conf(5) for a jail, and its fstab, as text.
//!
//! One self-contained file per jail works in every way a host may use it: named in `jail_list`,
//! included by jail.conf, or given to `jail -f` (rc.d/jail). No variables, no includes, every
//! string in single quotes. Pure: nothing here looks at a file or at the host.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::datasets;
use super::vnet::{self, Pair};
use crate::model::{Address, Limits, Network};
use crate::name::JailName;
use crate::ports::JailSpec;
use crate::profile::{Database, Os};

/// Devices a jail sees: the ruleset `devfsrules_jail` of /etc/defaults/devfs.rules.
pub const DEVFS_RULESET: u32 = 4;

/// `osrelease` holds 31 bytes and a NUL (`OSRELEASELEN`, sys/jail.h).
const OSRELEASE_MAX: usize = 31;

/// What sets resource limits. Its words have nothing for which jail(8) would start a shell.
pub const RCTL: &str = "/usr/bin/rctl";

/// What binds a jail to processors. It is for the kernel to undo: the set goes with the jail.
const CPUSET: &str = "/usr/bin/cpuset";

/// Parameters whose values stand beside what ezz itself does then.
const MERGED: [&str; 5] = [
    "exec.prestart",
    "exec.created",
    "vnet.interface",
    "exec.start",
    "exec.poststop",
];

/// The first words of each file; the site's id follows.
const MARK: &str = "# Made by ezz for site ";

/// A value that cannot be written into one of the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// jail(8) reads C strings.
    #[error("{what} has a NUL byte")]
    Nul {
        /// Which value.
        what: &'static str,
    },
    /// An address of a network of its own does not say which bridge it is reached by.
    #[error("each address of a jail with a network of its own names its bridge: BRIDGE|ADDRESS")]
    Bridge,
}

/// The two files of one jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its block for jail.conf.d.
    pub conf: Vec<u8>,
    /// Its fstab; none for a thick jail, which mounts nothing of ezz's.
    pub fstab: Option<Vec<u8>>,
}

/// Where the files of one jail are to name each other.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Its fstab.
    pub fstab: &'a Path,
    /// The log of what it prints at start and stop. Outside the jail: jail(8) opens it as root.
    pub console_log: &'a Path,
}

/// The text of a jail's files.
///
/// # Errors
/// [`ConfError`]: a value has a NUL.
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
    // A jail is a virtual host: it is there until it is stopped, also with nothing running in it.
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

/// The rules of rctl(8) that limit a jail. They stay in the kernel by its name, also without the jail.
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

/// The command that makes a database again if its text is newer. A jail starts with an old one, too.
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

/// What undoes what the commands of a file make on the host: those of its `exec.poststop` that are ezz's own for
/// this jail. The user's are jail(8)'s to run.
pub fn undone(conf: &str, site_id: &str, name: &JailName) -> Vec<String> {
    let line = conf
        .lines()
        .find_map(|line| line.trim().strip_prefix("exec.poststop = "));
    let commands = line.into_iter().flat_map(|line| line.split('\''));
    let own = own(site_id, name);
    let ours = commands.filter(|command| own.iter().any(|own| own == command));
    ours.map(str::to_owned).collect()
}

/// How many seconds jail(8) waits between SIGTERM and the end of a jail, as its file says.
pub fn stop_timeout(conf: &str) -> Option<u32> {
    let mut lines = conf.lines().rev();
    let value = lines.find_map(|line| line.trim().strip_prefix("stop.timeout = "))?;
    value.trim_end_matches(';').trim_matches('\'').parse().ok()
}

/// The file with another time there.
pub fn with_stop_timeout(conf: &str, seconds: u32) -> String {
    let lines = conf.lines().map(
        |line| match line.trim_start().strip_prefix("stop.timeout = ") {
            Some(_) => format!("    stop.timeout = {seconds};\n"),
            None => format!("{line}\n"),
        },
    );
    lines.collect()
}

/// All commands that can undo something of a jail, for one whose file is lost: whether there is anything to
/// undo, only they can tell.
pub fn own(site_id: &str, name: &JailName) -> Vec<String> {
    let pairs = (0..vnet::PAIRS_MAX).map(|number| vnet::removal(site_id, name, number));
    pairs.chain([no_rules(name)]).collect()
}

/// What removes all limits of a jail.
fn no_rules(name: &JailName) -> String {
    format!("{RCTL} -r jail:{name}")
}

/// The comment that begins each file.
fn mark(site_id: &str) -> String {
    format!("{MARK}{site_id}. Edits are lost at the next start.\n")
}

/// Whose a file is, by its first line: the id of a site, or none if ezz did not make it.
pub fn owner(text: &[u8]) -> Option<&str> {
    let line = text.split(|&byte| byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(MARK)?;
    rest.split_once('.').map(|(id, _)| id)
}

/// The first line of a file of ezz's, and the rest.
pub(super) fn marked(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let _owner = owner(text)?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    Some(text.split_at(end + 1))
}

/// The fstab of a running jail whose own was lost, from what is mounted in it: without the file
/// jail(8) refuses to stop the jail.
///
/// # Errors
/// [`ConfError`]: a path has a NUL.
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

/// One line of an fstab that mounts a directory on another.
fn nullfs_line(source: &Path, target: &Path, options: &str) -> Result<Vec<u8>, ConfError> {
    let mut line = fstab_word(source.as_os_str(), "the path of the basejail")?;
    line.push(b' ');
    line.extend(fstab_word(target.as_os_str(), "the path of the jail")?);
    line.extend(format!(" nullfs {options} 0 0\n").bytes());
    Ok(line)
}

/// A word of an fstab line as strunvis(3) reads it. jail(8) splits at every kind of blank and cuts
/// the line at any `#` (usr.sbin/jail/config.c), hence more is escaped than fstab(5) asks for.
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

/// A string as jail.conf(5) reads it, whatever is in it. Single quotes stop the expansion of
/// variables but not of backslashes, unlike in sh (usr.sbin/jail/jaillex.l).
fn quoted(text: &OsStr, what: &'static str) -> Result<Vec<u8>, ConfError> {
    match text.as_bytes().contains(&0) {
        true => Err(ConfError::Nul { what }),
        false => Ok(in_quotes(text)),
    }
}

/// The same of what has no NUL, such as a path.
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

/// What the jail sees of the network. Both families are always said: their defaults depend on
/// each other and on the kernel.
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
                        // jail(8) adds it to the interface before the start, removes it after.
                        Some(_) => address.to_string(),
                        // It is there already: only the kernel hears of it, without a prefix.
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

/// `__FreeBSD_version` of a release, e.g. 1403000 for `14.3-RELEASE-p2`; none where it does not
/// follow from the name (sys/sys/param.h of each release).
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

/// A block that is being written.
struct Block(Vec<u8>);

impl Block {
    fn new(name: &JailName) -> Self {
        // A jail's name has nothing that ends a token: letters, digits and hyphens.
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

    /// Commands that are run in this order; without any it says nothing.
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
