//! The OCI bundle of a jail, which is the input of the runtime.
//!
//! This module is pure: everything that had to be looked up is in [`Bundle`]. It assumes that the root is hostile: the
//! runtime resolves mount targets inside of it, and /dev is always a new tmpfs.

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    BoxBuilder, Capabilities, Capability, Linux, LinuxBuilder, LinuxCapabilities,
    LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDeviceCgroupBuilder, LinuxIdMapping,
    LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, LinuxSeccomp, Mount, MountBuilder,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, User, UserBuilder,
};

use super::cgroup::{self, Control};
use super::ids::{COUNT, IdRange};
use super::users::Account;
use crate::model::{Limits, Network};

/// The capabilities that podman gives to a container (containers.conf(5), `default_capabilities`).
pub(super) const CAPABILITIES: [(Capability, &str); 11] = [
    (Capability::Chown, "CAP_CHOWN"),
    (Capability::DacOverride, "CAP_DAC_OVERRIDE"),
    (Capability::Fowner, "CAP_FOWNER"),
    (Capability::Fsetid, "CAP_FSETID"),
    (Capability::Kill, "CAP_KILL"),
    (Capability::NetBindService, "CAP_NET_BIND_SERVICE"),
    (Capability::Setfcap, "CAP_SETFCAP"),
    (Capability::Setgid, "CAP_SETGID"),
    (Capability::Setpcap, "CAP_SETPCAP"),
    (Capability::Setuid, "CAP_SETUID"),
    (Capability::SysChroot, "CAP_SYS_CHROOT"),
];

/// The path of the host's small init in a jail whose world has no init. It is in the tmpfs, so that the root needs no
/// file for it.
pub(super) const OWN_INIT: &str = "/dev/init";

/// A directory that every jail has and no host has. Commands start from it, because `crun exec` up to at least 1.8.1
/// runs a command on the host, in no namespace of the jail, if the jail ends meanwhile (`join_process_namespaces` in
/// its linux.c forgets to return the error).
pub(super) const INSIDE: &str = "/dev/ezz";

pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The period in which the processor time of a jail is measured, in microseconds. It is the kernel's default (cpu.max).
const PERIOD: u64 = 100_000;

/// The sizes of a jail's shared memory (as in podman) and of its /run. Their content is in the host's memory, and
/// without a size each of them could take half of it.
const SHM: &str = "64m";
const RUN: &str = "128m";
/// The size of /tmp, if the jail's init wants it in memory. Without a size, it could take half of the host's memory.
const TMP: &str = "512m";

/// The paths that podman hides (pkg/specgen, `DefaultMaskPaths`).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// More paths that podman hides, which exist if /sys is the host's.
const MASKED_SYS: [&str; 2] = ["/sys/dev/block", "/sys/devices/virtual/powercap"];

/// The names and counters of all datasets of the host's pools (`kstat/zfs/POOL/objset-*`), which every process may
/// read.
const MASKED_ZFS: &str = "/proc/spl";

/// The paths that podman makes read-only.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The first process of a jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Init {
    /// An init of the world.
    World(String),
    /// The host's small init, with a command.
    Own {
        /// The path of the host's catatonit.
        program: PathBuf,
        /// The command that it runs.
        command: Vec<String>,
    },
    /// A command that prepares the jail and then ends.
    Once(Vec<String>),
}

impl Init {
    /// Reports whether it gets a /dev/console, which an init that manages a whole system expects.
    pub(super) fn has_console(&self) -> bool {
        matches!(self, Init::World(_))
    }
}

/// Everything that determines a bundle.
#[derive(Debug, Clone)]
pub(super) struct Bundle<'a> {
    /// The host name of the jail.
    pub hostname: &'a str,
    /// The network that the jail has.
    pub network: Network,
    /// The path where the root is mounted for the runtime.
    pub root: &'a Path,
    /// The path where the basejail is mounted for the runtime; none if the jail has no basejail.
    pub base: Option<&'a Path>,
    /// The jail's range of ids on the host; none without a user namespace.
    pub ids: Option<IdRange>,
    /// The first process.
    pub init: &'a Init,
    /// Environment variables of the first process besides the usual ones, as `NAME=value`.
    pub environment: &'a [String],
    /// The path of the host's resolv.conf, if the jail is to see it.
    pub resolver: Option<&'a Path>,
    /// Whether /tmp is a file system of its own, in memory.
    pub tmp: bool,
    /// A directory for downloads, and its path in the container.
    pub cache: Option<(&'a Path, PathBuf)>,
    /// The path of the jail's cgroup.
    pub cgroup: &'a str,
    /// The limits of the jail. The host has the controllers that they need.
    pub limits: Limits,
    /// The controllers and the swap of the host.
    pub control: &'a Control,
    /// The system calls that the jail may use.
    pub seccomp: LinuxSeccomp,
}

impl Bundle<'_> {
    /// Returns the runtime's configuration.
    ///
    /// # Errors
    /// Returns an error for a part that the specification does not allow.
    pub(super) fn spec(&self) -> Result<Spec, OciSpecError> {
        let words = match self.init {
            Init::World(path) => vec![path.clone()],
            Init::Once(command) => command.clone(),
            Init::Own { command, .. } => [OWN_INIT, "--"]
                .into_iter()
                .map(str::to_owned)
                .chain(command.iter().cloned())
                .collect(),
        };
        // Without HOME, crun looks it up in the jail's passwd, which may be a pipe that never ends.
        let mut environment = vec![
            PATH.to_owned(),
            "HOME=/root".to_owned(),
            "container=ezz".to_owned(),
        ];
        environment.extend(self.environment.iter().cloned());
        let process = process(words, environment, Path::new("/"), &root_user()?)?
            .terminal(self.init.has_console())
            .build()?;
        SpecBuilder::default()
            .version("1.0.2")
            .process(process)
            .root(
                RootBuilder::default()
                    .path(self.root)
                    .readonly(false)
                    .build()?,
            )
            .hostname(self.hostname)
            .mounts(self.mounts()?)
            .linux(self.linux()?)
            .build()
    }

    fn mounts(&self) -> Result<Vec<Mount>, OciSpecError> {
        let mut mounts = vec![
            mount("/proc", "proc", "proc", "nosuid,noexec,nodev")?,
            mount(
                "/dev",
                "tmpfs",
                "tmpfs",
                "nosuid,strictatime,mode=755,size=65536k",
            )?,
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            )?,
            mount("/dev/shm", "tmpfs", "shm", &tmpfs("noexec,mode=1777", SHM))?,
            mount(
                INSIDE,
                "tmpfs",
                "tmpfs",
                "ro,nosuid,nodev,noexec,size=4k,mode=755",
            )?,
            mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev")?,
            self.sysfs()?,
        ];
        // An init of the world manages cgroups below its own.
        let writable = match self.init {
            Init::World(_) => "rw",
            Init::Own { .. } | Init::Once(_) => "ro",
        };
        let options = format!("nosuid,noexec,nodev,relatime,{writable}");
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)?);
        mounts.push(mount("/run", "tmpfs", "tmpfs", &tmpfs("mode=755", RUN))?);
        if let Init::World(_) = self.init {
            // systemd requires that it is a mount of its own, but cannot mount it.
            let options = "nosuid,nodev,noexec,mode=1777,size=5m";
            mounts.push(mount("/run/lock", "tmpfs", "tmpfs", options)?);
        }
        if self.tmp {
            // The options of systemd's own tmp.mount, which accepts a /tmp that is mounted already.
            mounts.push(mount(
                "/tmp",
                "tmpfs",
                "tmpfs",
                &tmpfs("strictatime,mode=1777", TMP),
            )?);
        }
        if let Some(base) = self.base {
            mounts.push(bind("/basejail", base, "bind,private,ro,nodev")?);
        }
        if let Init::Own { program, .. } = self.init {
            mounts.push(bind(OWN_INIT, program, "bind,private,ro,nosuid,nodev")?);
        }
        if let Some(resolver) = self.resolver {
            mounts.push(bind(
                "/etc/resolv.conf",
                resolver,
                "bind,private,ro,nosuid,nodev,noexec",
            )?);
        }
        if let Some((cache, at)) = &self.cache {
            let at = at.to_string_lossy();
            mounts.push(bind(&at, cache, "bind,private,nosuid,nodev,noexec")?);
        }
        Ok(mounts)
    }

    /// Returns the mount of /sys. Only the owner of a network can mount a sysfs that shows it.
    fn sysfs(&self) -> Result<Mount, OciSpecError> {
        match (self.network, self.ids) {
            (Network::Host, Some(_)) => bind(
                "/sys",
                Path::new("/sys"),
                "rbind,rprivate,nosuid,noexec,nodev,rro",
            ),
            (Network::Host, None) | (Network::None | Network::Vnet, _) => {
                mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro")
            }
        }
    }

    fn linux(&self) -> Result<Linux, OciSpecError> {
        let mut namespaces = vec![
            LinuxNamespaceType::Mount,
            LinuxNamespaceType::Pid,
            LinuxNamespaceType::Ipc,
            LinuxNamespaceType::Uts,
            LinuxNamespaceType::Cgroup,
        ];
        if self.network != Network::Host {
            namespaces.push(LinuxNamespaceType::Network);
        }
        if self.ids.is_some() {
            namespaces.push(LinuxNamespaceType::User);
        }
        let namespaces = namespaces
            .into_iter()
            .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
            .collect::<Result<Vec<_>, _>>()?;
        let mut masked: Vec<&str> = MASKED.into_iter().chain(MASKED_SYS).collect();
        // A look into a snapshot in /.zfs would mount it on the host and make the dataset busy.
        masked.extend(["/.zfs", MASKED_ZFS]);
        if self.base.is_some() {
            masked.push("/basejail/.zfs");
        }
        let mut linux = LinuxBuilder::default()
            .namespaces(namespaces)
            .cgroups_path(self.cgroup)
            .seccomp(self.seccomp.clone())
            .masked_paths(owned(&masked))
            .readonly_paths(owned(&READ_ONLY));
        linux = linux.resources(self.resources()?);
        if let Some(ids) = self.ids {
            linux = linux
                .uid_mappings(vec![mapping(ids)?])
                .gid_mappings(vec![mapping(ids)?]);
        }
        linux.build()
    }

    fn resources(&self) -> Result<LinuxResources, OciSpecError> {
        // Denies all devices; the runtime allows the harmless ones.
        let devices = LinuxDeviceCgroupBuilder::default()
            .allow(false)
            .access("rwm")
            .build()?;
        let mut resources = LinuxResourcesBuilder::default().devices(vec![devices]);
        let built_in = self.control.built_in();
        if let Some(most) = self.limits.processes.or(built_in.processes) {
            let most = i64::from(most);
            resources = resources.pids(LinuxPidsBuilder::default().limit(most).build()?);
        }
        if let Some(bytes) = self.limits.memory.or(built_in.memory) {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            let mut memory = LinuxMemoryBuilder::default().limit(bytes);
            // A jail without a limit of its own may use the swap.
            if self.control.swap && self.limits.memory.is_some() {
                // The limit of memory and swap together: without it, the jail could use the host's swap beyond its
                // memory limit.
                memory = memory.swap(bytes);
            }
            resources = resources.memory(memory.build()?);
        }
        let (cpus, cpuset) = (self.limits.cpus, &self.limits.cpuset);
        if cpus.is_some() || cpuset.is_some() {
            let mut cpu = LinuxCpuBuilder::default();
            if let Some(cpus) = cpus {
                let quota = i64::from(cpus.hundredths()) * i64::try_from(PERIOD / 100).unwrap_or(0);
                cpu = cpu.quota(quota).period(PERIOD);
            }
            if let Some(cpuset) = cpuset {
                cpu = cpu.cpus(cpuset.to_string());
            }
            resources = resources.cpu(cpu.build()?);
        }
        if self.control.unified() {
            let limits = cgroup::LIMITS.map(|(file, most)| (file.to_owned(), most.to_string()));
            resources = resources.unified(limits);
        }
        resources.build()
    }
}

/// Returns the process of an `exec` in a running jail.
///
/// # Errors
/// Returns an error for a part that the specification does not allow.
pub(super) fn exec_process(
    command: Vec<String>,
    account: &Account,
    directory: &Path,
    environment: Vec<String>,
    terminal: Option<(u16, u16)>,
) -> Result<Process, OciSpecError> {
    let user = UserBuilder::default()
        .uid(account.uid.get())
        .gid(account.gid.get())
        .additional_gids(
            account
                .groups
                .iter()
                .map(|gid| gid.get())
                .collect::<Vec<_>>(),
        )
        .build()?;
    let mut variables = vec![PATH.to_owned(), format!("HOME={}", account.home)];
    if let Some(name) = &account.name {
        variables.extend([format!("USER={name}"), format!("LOGNAME={name}")]);
    }
    variables.extend(environment);
    let directory = Path::new(INSIDE)
        .join("../..")
        .join(directory.strip_prefix("/").unwrap_or(directory));
    let mut process = process(command, variables, &directory, &user)?.terminal(terminal.is_some());
    if let Some((rows, columns)) = terminal {
        let size = BoxBuilder::default()
            .height(u64::from(rows))
            .width(u64::from(columns))
            .build()?;
        process = process.console_size(size);
    }
    process.build()
}

fn process(
    words: Vec<String>,
    environment: Vec<String>,
    directory: &Path,
    user: &User,
) -> Result<ProcessBuilder, OciSpecError> {
    Ok(ProcessBuilder::default()
        .args(words)
        .env(environment)
        .cwd(directory)
        .user(user.clone())
        .capabilities(capabilities(user.uid() == 0)?)
        .rlimits(vec![limit(PosixRlimitType::RlimitNofile, 1024, 524_288)?])
        // With it, su and sudo would not work, and a jail is a virtual host.
        .no_new_privileges(false)
        .oom_score_adj(0))
}

fn root_user() -> Result<User, OciSpecError> {
    UserBuilder::default().uid(0u32).gid(0u32).build()
}

/// Returns the capabilities of a process. An ordinary user has none, and can get those of the bounding set by su.
fn capabilities(root: bool) -> Result<LinuxCapabilities, OciSpecError> {
    let all: Capabilities = CAPABILITIES
        .iter()
        .map(|(capability, _)| *capability)
        .collect();
    let own = if root {
        all.clone()
    } else {
        Capabilities::new()
    };
    LinuxCapabilitiesBuilder::default()
        .bounding(all)
        .effective(own.clone())
        .permitted(own)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()
}

fn limit(typ: PosixRlimitType, soft: u64, hard: u64) -> Result<PosixRlimit, OciSpecError> {
    PosixRlimitBuilder::default()
        .typ(typ)
        .soft(soft)
        .hard(hard)
        .build()
}

fn mapping(ids: IdRange) -> Result<LinuxIdMapping, OciSpecError> {
    LinuxIdMappingBuilder::default()
        .container_id(0u32)
        .host_id(ids.first())
        .size(COUNT)
        .build()
}

fn tmpfs(options: &str, size: &str) -> String {
    format!("nosuid,nodev,{options},size={size}")
}

fn mount(at: &str, typ: &str, source: &str, options: &str) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(at)
        .typ(typ)
        .source(source)
        .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
        .build()
}

/// Returns a bind mount. It is private, because the runtime mounts masks on it, which would otherwise appear on the
/// host as well.
fn bind(at: &str, source: &Path, options: &str) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(at)
        .typ("bind")
        .source(source)
        .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
        .build()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests;
