//! The parameters of jail(8) that this host knows. A jail with an unknown parameter can never start.

use std::collections::BTreeSet;

use super::program_of;
use super::system::System;
use crate::model::Params;
use crate::ports::HostError;

/// The parameters of jail(8) itself, with the `__FreeBSD_version` that introduced them (usr.sbin/jail/config.c,
/// `intparams`). 0 means all versions on which ezz runs.
const INTERNAL: [(&str, u32); 30] = [
    ("allow.dying", 0),
    ("exec.clean", 0),
    ("exec.created", 0),
    ("exec.fib", 0),
    ("exec.jail_user", 0),
    ("exec.poststart", 0),
    ("exec.poststop", 0),
    ("exec.prepare", 0),
    ("exec.prestart", 0),
    ("exec.prestop", 0),
    ("exec.release", 0),
    ("exec.start", 0),
    ("exec.stop", 0),
    ("exec.system_jail_user", 0),
    ("exec.system_user", 0),
    ("exec.timeout", 0),
    ("ip_hostname", 0),
    ("mount", 0),
    ("mount.devfs", 0),
    ("mount.fdescfs", 0),
    ("mount.procfs", 0),
    ("stop.timeout", 0),
    ("vnet.interface", 0),
    ("zfs.dataset", 1_500_000),
    // The kernel has these parameters, but jail(8) reads them in a way of its own.
    ("cpuset.id", 0),
    ("devfs_ruleset", 0),
    ("enforce_statfs", 0),
    ("children.max", 0),
    ("securelevel", 0),
    ("allow.mount", 0),
];

/// The parameters that exist only while a module is loaded (sys/kern/sysv_*.c, `prison_add_vfs` of each file system,
/// sys/compat/linux). A mount of a file system loads its module.
const MODULES: [(&str, &str); 14] = [
    ("sysvmsg", "sysvmsg"),
    ("sysvsem", "sysvsem"),
    ("sysvshm", "sysvshm"),
    ("linux", "linux64"),
    ("linux.osname", "linux64"),
    ("linux.osrelease", "linux64"),
    ("linux.oss_version", "linux64"),
    ("allow.mount.fdescfs", "fdescfs"),
    ("allow.mount.linprocfs", "linprocfs"),
    ("allow.mount.linsysfs", "linsysfs"),
    ("allow.mount.nullfs", "nullfs"),
    ("allow.mount.procfs", "procfs"),
    ("allow.mount.tmpfs", "tmpfs"),
    ("allow.mount.zfs", "zfs"),
];

/// Returns the module that has a parameter; none if the parameter needs no module.
pub fn module(name: &str) -> Option<&'static str> {
    let found = MODULES
        .iter()
        .find(|(it, _)| *it == name || contrary_of(it) == name);
    found.map(|(_, module)| *module)
}

fn contrary_of(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((node, last)) => format!("{node}.no{last}"),
        None => format!("no{name}"),
    }
}

/// The parameters of the kernel, including those of its loaded modules, and the kernel's version.
#[derive(Debug, Default)]
pub struct Known {
    kernel: BTreeSet<String>,
    version: u32,
}

impl Known {
    /// Reads the parameters from the kernel.
    ///
    /// # Errors
    /// [`HostError::Program`] if sysctl(8) fails.
    pub fn of_kernel(system: &dyn System) -> Result<Self, HostError> {
        let ask = |arguments: &[&str]| {
            system
                .exec("sysctl")
                .and_then(|exec| exec.args(arguments).run())
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .map_err(program_of("ask for the parameters of", "jails"))
        };
        let names = ask(&["-N", "security.jail.param"])?;
        let version = ask(&["-n", "kern.osreldate"])?;
        Ok(Known {
            kernel: names.lines().filter_map(name_of).collect(),
            version: version.trim().parse().unwrap_or(0),
        })
    }

    /// Returns the parameters that this host does not know.
    pub fn unknown(&self, params: &Params) -> Vec<String> {
        let names = params.iter().map(|(name, _)| name);
        names.filter(|name| !self.knows(name)).cloned().collect()
    }

    /// Reports whether the kernel has the parameter, so that jls(8) can print it.
    pub fn in_kernel(&self, name: &str) -> bool {
        self.kernel.contains(name)
    }

    /// Returns the parameters of modules that are not loaded.
    pub fn unloaded(&self) -> Vec<&'static str> {
        let names = MODULES.iter().map(|(name, _)| *name);
        names.filter(|name| !self.knows(name)).collect()
    }

    fn knows(&self, name: &str) -> bool {
        let is = |name: &str| {
            let since = INTERNAL.iter().find(|(it, _)| *it == name);
            self.kernel.contains(name) || since.is_some_and(|(_, since)| self.version >= *since)
        };
        // jail(8) accepts a `no` before the last word of a flag.
        let (node, last) = name.rsplit_once('.').unwrap_or(("", name));
        let positive = last.strip_prefix("no").map(|last| match node {
            "" => last.to_owned(),
            node => format!("{node}.{last}"),
        });
        is(name) || positive.is_some_and(|name| is(&name))
    }
}

/// Returns the name in a line of sysctl(8): `allow.mount` for `security.jail.param.allow.mount.`. A parameter that has
/// others below it ends with a dot.
fn name_of(line: &str) -> Option<String> {
    let name = line.trim().strip_prefix("security.jail.param.")?;
    Some(name.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Param;

    fn params(texts: &[&str]) -> Params {
        let all = texts
            .iter()
            .map(|text| text.parse::<Param>().expect("valid"));
        Params::new(all).expect("valid")
    }

    #[test]
    fn the_kernels_and_those_of_jail_itself() {
        let lines = "security.jail.param.allow.mount.zfs\nsecurity.jail.param.allow.mount.\n\
                     security.jail.param.allow.raw_sockets\nsecurity.jail.param.sysvshm.\nother\n";
        let known = Known {
            kernel: lines.lines().filter_map(name_of).collect(),
            version: 1_403_000,
        };
        let good = params(&[
            "allow.raw_sockets",
            "allow.mount.nozfs",
            "allow.mount",
            "sysvshm=new",
            "exec.prestart=true",
            "mount.nodevfs",
        ]);
        assert_eq!(known.unknown(&good), [""; 0]);
        let bad = params(&[
            "sysvmsg=new",
            "allow.everything",
            "zfs.dataset=a/b",
            "meta=x",
        ]);
        let mut expected =
            ["allow.everything", "meta", "sysvmsg", "zfs.dataset"].map(str::to_owned);
        expected.sort();
        assert_eq!(known.unknown(&bad), expected);
        assert_eq!(module("sysvmsg"), Some("sysvmsg"));
        assert_eq!(module("allow.mount.nonullfs"), Some("nullfs"));
        assert_eq!(module("allow.everything"), None);
        assert!(known.unloaded().contains(&"sysvmsg") && !known.unloaded().contains(&"sysvshm"));
        let later = Known {
            version: 1_500_068,
            ..known
        };
        assert_eq!(later.unknown(&params(&["zfs.dataset=a/b"])), [""; 0]);
    }
}
