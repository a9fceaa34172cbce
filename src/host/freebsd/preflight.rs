//! The conditions of jails on a FreeBSD host: the addresses of its interfaces, the sockets that listen, the addresses
//! of running jails, and what the kernel and rc.conf(5) lack. Each program runs once for all jails, and only if one of
//! them needs it. This module parses what they print. It must not judge what any of it means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use super::checks::{BOOT, run, variable};
use super::conf::{self, DEVFS_RULESET};
use super::params::{self, Known};
use super::system::System;
use crate::model::{Bound, HostConditions, JailConfig, Lack, Listener, Network, Owner};
use crate::name::JailName;

/// Ports from here on are given to clients (net.inet.ip.portrange.first). A UDP socket on such a port is most likely
/// one that waits for answers.
const CLIENTS: u16 = 10_000;

/// The arguments of jls(8). The addresses come first because they have no blanks. The output is text, which is the same
/// in every release.
const JLS: [&str; 5] = ["-n", "ip4.addr", "ip6.addr", "name", "path"];

/// The arguments of sockstat(1): the sockets of processes in no jail (`-j 0`: libjail's jail_getid.c), in columns that
/// are as wide as necessary.
const SOCKSTAT: [&str; 4] = ["-46lqw", "-j", "0", "-Ptcp,udp"];

/// Reads what the jails need; `site` is the path of the site directory, without links.
pub(super) fn look(
    system: &dyn System,
    site: &Path,
    jails: &[(&JailName, &JailConfig)],
) -> HostConditions {
    let mut around = HostConditions {
        assigns: true,
        hostname: run(system, "hostname", &[]).ok(),
        lacks: lacks(system, jails),
        boot: boot(system),
        ..HostConditions::default()
    };
    let addressed = |network| {
        let mut those = jails.iter().map(|(_, config)| config);
        those.any(|config| config.network == network && !config.addresses.is_empty())
    };
    let (host, vnet) = (addressed(Network::Host), addressed(Network::Vnet));
    if host || vnet {
        match run(system, "ifconfig", &[]) {
            Ok(text) => {
                let interfaces = interfaces(&text);
                around.addresses = Some(by_address(&interfaces));
                around.interfaces = Some(interfaces.into_keys().collect());
            }
            Err(why) => around
                .unread
                .push(format!("cannot list the interfaces: {why}")),
        }
        match run(system, "jls", &JLS) {
            Ok(text) => around.taken = taken(&text, site),
            Err(why) => around
                .unread
                .push(format!("cannot list the addresses of running jails: {why}")),
        }
    }
    if host {
        match run(system, "sockstat", &SOCKSTAT) {
            Ok(text) => around.listeners = listeners(&text),
            Err(why) => around
                .unread
                .push(format!("cannot list the listening services: {why}")),
        }
    }
    around
}

/// Returns what the kernel lacks of what the jails need, each only once.
fn lacks(system: &dyn System, jails: &[(&JailName, &JailConfig)]) -> Vec<Lack> {
    let mut lacks = BTreeSet::new();
    let mut features = Vec::new();
    if jails.iter().any(|(_, it)| it.network == Network::Vnet) {
        features.push(VIMAGE);
    }
    if jails
        .iter()
        .any(|(name, it)| !conf::rules(name, &it.limits).is_empty())
    {
        features.push(RACCT);
    }
    if !features.is_empty() {
        let mut asked = vec!["-i"];
        asked.extend(features.iter().map(|feature| feature.name));
        let text = run(system, "sysctl", &asked).unwrap_or_default();
        let on = pairs(&text);
        let off = features.iter().filter(|it| on.get(it.name) != Some(&"1"));
        lacks.extend(off.map(Feature::lack));
    }
    let usual = DEVFS_RULESET.to_string();
    let rulesets: BTreeSet<&str> = jails
        .iter()
        .map(|(_, config)| {
            let own = config.params.get("devfs_ruleset");
            own.and_then(<[String]>::last).unwrap_or(&usual).as_str()
        })
        .collect();
    if let Ok(loaded) = run(system, "devfs", &["rule", "showsets"]) {
        let loaded: BTreeSet<&str> = loaded.split_whitespace().collect();
        // The start of a jail reports ruleset 0, which hides nothing.
        let missing = rulesets
            .iter()
            .filter(|it| !loaded.contains(*it) && **it != "0");
        lacks.extend(missing.map(|number| Lack {
            what: format!(
                "the devfs ruleset {number} is not loaded, and no jail starts without its own"
            ),
            hint: "service devfs restart".to_owned(),
        }));
    }
    if jails.iter().any(|(_, it)| !it.params.is_empty()) {
        if let Ok(known) = Known::of_kernel(system) {
            let unknown = jails.iter().flat_map(|(_, it)| known.unknown(&it.params));
            lacks.extend(
                unknown.filter_map(|name| params::module(&name).map(|it| module_lack(&name, it))),
            );
        }
    }
    lacks.into_iter().collect()
}

/// Returns the lack of a module that has a parameter.
pub(super) fn module_lack(name: &str, module: &str) -> Lack {
    Lack {
        what: format!("the parameter {name} is there only with the kernel module {module}"),
        hint: format!("kldload {module}; at boot: sysrc kld_list+={module}"),
    }
}

/// A feature that a kernel can be built or booted without.
pub(super) struct Feature {
    /// The name of its sysctl(8), which is 1 if the kernel has the feature.
    pub(super) name: &'static str,
    /// What needs the feature.
    pub(super) what: &'static str,
    hint: &'static str,
}

/// Network stacks of jails.
pub(super) const VIMAGE: Feature = Feature {
    name: "kern.features.vimage",
    what: "networks of jails",
    hint: "a kernel with `options VIMAGE`, as GENERIC has it",
};

/// Resource limits of jails.
pub(super) const RACCT: Feature = Feature {
    name: "kern.racct.enable",
    what: "limits of jails",
    hint: "add kern.racct.enable=1 to /boot/loader.conf, and reboot",
};

impl Feature {
    fn lack(&self) -> Lack {
        Lack {
            what: format!("{} is not 1: no {}", self.name, self.what),
            hint: self.hint.to_owned(),
        }
    }
}

/// Returns what keeps a boot from mounting the datasets or starting the jails. `doctor` reports what cannot be read.
fn boot(system: &dyn System) -> Vec<Lack> {
    let off = |(service, name, otherwise): (&str, &str, &str)| {
        let value = variable(system, service, name).ok()?;
        (!is_yes(&value)).then(|| Lack {
            what: format!("{name} is not set: {otherwise}"),
            hint: format!("sysrc {name}=YES"),
        })
    };
    BOOT.into_iter().filter_map(off).collect()
}

/// Reports whether checkyesno of rc.subr(8) accepts a word, which it does for these four.
pub(super) fn is_yes(value: &str) -> bool {
    let mut words = ["yes", "true", "on", "1"].iter();
    words.any(|word| value.eq_ignore_ascii_case(word))
}

/// Parses lines `NAME: VALUE` of sysctl(8), which leaves out names that it does not know.
pub(super) fn pairs(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect()
}

/// Parses interfaces with their addresses (sbin/ifconfig/af_inet.c, af_inet6.c).
fn interfaces(text: &str) -> BTreeMap<String, Vec<IpAddr>> {
    let mut all: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if !line.starts_with(char::is_whitespace) {
            let name = line.split_once(": ").map(|(name, _)| name.to_owned());
            if let Some(name) = &name {
                all.entry(name.clone()).or_default();
            }
            current = name;
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let family = words.next();
        let address = words
            .next()
            .filter(|_| matches!(family, Some("inet" | "inet6")));
        // Such as fe80::1%lo0.
        let address = address.and_then(|text| text.split(['%', '/']).next()?.parse().ok());
        let addresses = current.as_ref().and_then(|name| all.get_mut(name));
        if let (Some(addresses), Some(address)) = (addresses, address) {
            addresses.push(address);
        }
    }
    all
}

fn by_address(interfaces: &BTreeMap<String, Vec<IpAddr>>) -> BTreeMap<IpAddr, Option<String>> {
    let all = interfaces.iter().flat_map(|(name, addresses)| {
        let of = addresses.iter();
        of.map(|ip| (*ip, Some(name.clone())))
    });
    all.collect()
}

/// Parses rows of sockstat(1): user, command (which may have blanks), pid, descriptor, protocol, both addresses.
fn listeners(text: &str) -> BTreeSet<Listener> {
    text.lines().filter_map(listener).collect()
}

fn listener(row: &str) -> Option<Listener> {
    let words: Vec<&str> = row.split_ascii_whitespace().collect();
    let [_, command @ .., _pid, _fd, protocol, local, _foreign] = &words[..] else {
        return None;
    };
    let (name, v4, v6) = match *protocol {
        "tcp4" => ("tcp", true, false),
        "tcp6" => ("tcp", false, true),
        "tcp46" => ("tcp", true, true),
        "udp4" => ("udp", true, false),
        "udp6" => ("udp", false, true),
        "udp46" => ("udp", true, true),
        _ => return None,
    };
    let (address, port) = local.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    if name == "udp" && port >= CLIENTS {
        return None;
    }
    let bound = match address {
        "*" => Bound::All { v4, v6 },
        one => Bound::One(one.split('%').next()?.parse().ok()?),
    };
    let known = !command.is_empty() && *command != ["??"];
    Some(Listener {
        bound,
        protocol: name,
        port,
        by: known.then(|| Owner::Other(command.join(" "))),
    })
}

/// Parses lines `ip4.addr=A,B ip6.addr= name=NAME path=PATH` of jls(8).
fn taken(text: &str, site: &Path) -> BTreeSet<(IpAddr, Owner)> {
    let mut all = BTreeSet::new();
    for line in text.lines() {
        let Some((addresses, rest)) = line.split_once(" name=") else {
            continue;
        };
        let Some((name, path)) = rest.split_once(" path=") else {
            continue;
        };
        let own = JailName::parse(name).ok();
        let own = own.filter(|own| site.join(own.as_str()) == Path::new(path));
        let owner = match own {
            Some(name) => Owner::Jail(name),
            None => Owner::Other(format!("jail {name}, which is not of this site")),
        };
        for list in addresses.split_ascii_whitespace() {
            let list = list.split_once('=').map_or("", |(_, list)| list);
            let ips = list.split(',').filter_map(|ip| ip.parse().ok());
            all.extend(ips.map(|ip| (ip, owner.clone())));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written from the source that prints it (sbin/ifconfig, usr.bin/sockstat, usr.sbin/jls of 15.0), not recorded on a
    // FreeBSD host.
    const IFCONFIG: &str = "\
em0: flags=1008843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\toptions=48505bb<RXCSUM,TXCSUM,VLAN_MTU>
\tether 08:00:27:4c:5d:6e
\tinet 192.0.2.2 netmask 0xffffff00 broadcast 192.0.2.255
\tinet 192.0.2.7 netmask 0xffffffff broadcast 192.0.2.7
\tinet6 fe80::a00:27ff:fe4c:5d6e%em0 prefixlen 64 scopeid 0x1
\tinet6 2001:db8::2 prefixlen 64
\tmedia: Ethernet autoselect (1000baseT <full-duplex>)
\tstatus: active
lo0: flags=1008049<UP,LOOPBACK,RUNNING,MULTICAST,LOWER_UP> metric 0 mtu 16384
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
\tgroups: lo
bridge0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500
\tid 00:00:00:00:00:00 priority 32768 hellotime 2 fwddelay 15
\tmember: em0 flags=143<LEARNING,DISCOVER,AUTOEDGE,AUTOPTP>
\tgroups: bridge
";
    const SOCKSTAT_ROWS: &str = "\
root     sshd         1021 6   tcp6  *:22              *:*
root     sshd         1021 7   tcp4  *:22              *:*
root     syslogd       855 6   udp46 *:514             *:*
bind     named         870 21  tcp4  192.0.2.7:53      *:*
root     master pro    990 13  tcp4  127.0.0.1:25      *:*
ntpd     ntpd          901 20  udp6  fe80::1%lo0:123   *:*
ntpd     ntpd          901 22  udp4  *:34567           *:*
root     icmpd         901 22  icm4  *:*               *:*
";

    #[test]
    fn interfaces_and_their_addresses() {
        let found = interfaces(IFCONFIG);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["bridge0", "em0", "lo0"]);
        assert_eq!(found["em0"].len(), 4);
        assert!(found["bridge0"].is_empty());
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let by = by_address(&found);
        assert_eq!(by[&ip("192.0.2.7")].as_deref(), Some("em0"));
        assert_eq!(by[&ip("::1")].as_deref(), Some("lo0"));
        assert!(!by.contains_key(&ip("192.0.2.8")));
        assert!(interfaces("").is_empty() && interfaces("\tinet 192.0.2.1\n").is_empty());
    }

    #[test]
    fn what_listens() {
        let found: Vec<String> = listeners(SOCKSTAT_ROWS)
            .iter()
            .map(|it| format!("{it} {:?}", it.bound))
            .collect();
        for line in [
            "tcp 22 (sshd) All { v4: false, v6: true }",
            "tcp 22 (sshd) All { v4: true, v6: false }",
            "udp 514 (syslogd) All { v4: true, v6: true }",
            "tcp 25 (master pro) One(127.0.0.1)",
            "tcp 53 (named) One(192.0.2.7)",
            "udp 123 (ntpd) One(fe80::1)",
        ] {
            assert!(found.iter().any(|it| it == line), "no {line:?}: {found:#?}");
        }
        assert_eq!(found.len(), 6, "{found:#?}");
        for row in [
            "",
            "a b c",
            "USER COMMAND PID FD PROTO LOCAL ADDRESS FOREIGN ADDRESS",
        ] {
            assert_eq!(listener(row), None, "{row:?}");
        }
        let kernel = listener("?? ?? ?? ?? tcp4 *:2049 *:*").expect("of the kernel");
        assert_eq!(kernel.to_string(), "tcp 2049");
    }

    #[test]
    fn addresses_of_running_jails() {
        let text = "\
ip4.addr=192.0.2.7,192.0.2.8 ip6.addr= name=web path=/usr/jails/web
ip4.addr= ip6.addr=2001:db8::9 name=db path=/elsewhere/db
ip4.addr= ip6.addr= name=vnet path=/usr/jails/vnet
ip4.addr=192.0.2.9 ip6.addr= name=a b path=/x name=y
";
        let found = taken(text, Path::new("/usr/jails"));
        let shown: Vec<String> = found
            .iter()
            .map(|(ip, owner)| format!("{ip} {owner}"))
            .collect();
        assert_eq!(
            shown,
            [
                "192.0.2.7 jail web",
                "192.0.2.8 jail web",
                "192.0.2.9 jail a b, which is not of this site",
                "2001:db8::9 jail db, which is not of this site",
            ]
        );
    }

    #[test]
    fn values_of_rc_conf_and_of_the_kernel() {
        let found = pairs("zfs_enable: YES\njail_enable: \nkern.racct.enable: 0\n");
        assert!(is_yes(found["zfs_enable"]) && !is_yes(found["jail_enable"]));
        assert_eq!(found["kern.racct.enable"], "0");
        assert_eq!(found.get("kern.features.vimage"), None);
        let lack = RACCT.lack();
        assert_eq!(lack.what, "kern.racct.enable is not 1: no limits of jails");
    }
}
