//! The conditions of jails on a Linux host: whether it has their addresses, the sockets that listen, and the
//! addresses of running jails of any site. No process is started.
//!
//! A jail on the host's network shares the host's ports. ezz gives it no address; it has those of the host. So every
//! socket that listens on all addresses can conflict with it, including those of other jails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use super::cgroup::{Control, controller_hint};
use super::paths::{self, Paths};
use super::{ids, process, state};
use crate::model::{Address, Bound, HostConditions, JailConfig, Lack, Listener, Network, Owner};
use crate::name::JailName;
use crate::ports::HostError;
use crate::text::first_few;

/// Ports from here on are given to clients (ip_local_port_range of ip(7)). A UDP socket on such a port is most likely
/// one that waits for answers.
const CLIENTS: u16 = 32_768;

/// Reads what the jails need.
pub(super) fn look(paths: &Paths, jails: &[(&JailName, &JailConfig)]) -> HostConditions {
    let mut around = HostConditions {
        hostname: nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok()),
        lacks: lacks(jails),
        ..HostConditions::default()
    };
    let on_host = jails
        .iter()
        .filter(|(_, config)| config.network == Network::Host);
    let wanted: BTreeSet<IpAddr> = on_host
        .flat_map(|(_, config)| &config.addresses)
        .map(|address| address.ip)
        .collect();
    if wanted.is_empty() {
        return around;
    }
    let has = wanted.iter().filter(|ip| is_here(**ip));
    around.addresses = Some(has.map(|ip| (*ip, None)).collect());
    match listeners(Path::new("/proc/net"), &|uid| owner(paths, uid)) {
        Ok(found) => around.listeners = found,
        Err(error) => around
            .unread
            .push(format!("cannot list the listening services: {error}")),
    }
    match taken(paths, &wanted) {
        Ok(found) => around.taken = found,
        Err(error) => around.unread.push(format!(
            "cannot list the addresses of running jails: {error}"
        )),
    }
    around
}

/// Returns the limits that a start would refuse, each kind once, with the jails that have them.
fn lacks(jails: &[(&JailName, &JailConfig)]) -> Vec<Lack> {
    let mut limited = jails.iter().filter(|(_, it)| !it.limits.is_empty());
    match limited.next() {
        None => Vec::new(),
        Some(_) => lacks_of(&Control::of_host(), jails),
    }
}

fn lacks_of(control: &Control, jails: &[(&JailName, &JailConfig)]) -> Vec<Lack> {
    let mut refused: BTreeMap<&str, Vec<&JailName>> = BTreeMap::new();
    for (name, config) in jails {
        if let Some(controller) = control.missing_for(&config.limits) {
            refused.entry(controller).or_default().push(name);
        }
    }
    let lack = |(controller, jails): (&str, Vec<&JailName>)| Lack {
        what: format!(
            "the cgroup controller {controller} is missing: {} cannot start, because of a limit that needs it",
            first_few(jails, 5, ", ")
        ),
        hint: controller_hint(controller),
    };
    refused.into_iter().map(lack).collect()
}

/// Reports whether a socket can have an address. That includes addresses of a range that is local as a whole, such as
/// 127.0.0.0/8.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Returns the sockets that accept connections or packets, from the tables of proc_pid_net(5).
fn listeners(
    directory: &Path,
    owner: &dyn Fn(u32) -> Option<Owner>,
) -> io::Result<BTreeSet<Listener>> {
    let mut all = BTreeSet::new();
    for (file, protocol) in [
        ("tcp", "tcp"),
        ("tcp6", "tcp"),
        ("udp", "udp"),
        ("udp6", "udp"),
    ] {
        match File::open(directory.join(file)) {
            Ok(table) => read(BufReader::new(table), protocol, owner, &mut all)?,
            // The kernel has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Adds the sockets that listen in one table of proc_pid_net(5), for `tcp` or `udp`. `owner` returns the owner of a
/// user id.
///
/// # Errors
/// Returns an error if the table cannot be read. It skips a line that does not belong in such a table.
pub fn read(
    table: impl BufRead,
    protocol: &'static str,
    owner: &dyn Fn(u32) -> Option<Owner>,
    all: &mut BTreeSet<Listener>,
) -> io::Result<()> {
    for line in table.lines().skip(1) {
        let line = line?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (Some(local), Some(state), Some(uid)) = (words.get(1), words.get(3), words.get(7))
        else {
            continue;
        };
        match (protocol, *state) {
            // The kernel lists listening sockets first (tcp_seq_start, net/ipv4/tcp_ipv4.c). A host may have a hundred
            // thousand connections.
            ("tcp", "0A") => {}
            ("tcp", _) => break,
            // The socket is not connected.
            (_, "07") => {}
            _ => continue,
        }
        let Some((ip, port)) = endpoint(local) else {
            continue;
        };
        if port == 0 || protocol == "udp" && port >= CLIENTS {
            continue;
        }
        let bound = match ip.to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Bound::All {
                v4: true,
                v6: false,
            },
            // It listens on both families, unless its program wants only IPv6, which the table does not show.
            IpAddr::V6(ip) if ip.is_unspecified() => Bound::All { v4: true, v6: true },
            ip => Bound::One(ip),
        };
        all.insert(Listener {
            bound,
            protocol,
            port,
            by: uid.parse().ok().and_then(owner),
        });
    }
    Ok(())
}

/// Parses an address such as `0100007F:0016`: words of four bytes in this machine's byte order, and the port as a plain
/// number.
pub fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let bytes: Vec<u8> = (0..address.len() / 8)
        .map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let ip = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    Some((ip, port))
}

/// Returns the jail to which a user id of the host belongs; none if no jail has it.
fn owner(paths: &Paths, uid: u32) -> Option<Owner> {
    let of = ids::owner_of(&paths.ids(), uid)?;
    let own = of.strip_prefix(&paths.owners());
    Some(match own.and_then(|name| JailName::parse(name).ok()) {
        Some(name) => Owner::Jail(name),
        None => Owner::Other(stranger(of.rsplit('/').next().unwrap_or_default())),
    })
}

fn stranger(name: &str) -> String {
    format!("jail {name} of another site")
}

/// Returns those of the addresses with which running jails of any site were started.
fn taken(paths: &Paths, wanted: &BTreeSet<IpAddr>) -> Result<BTreeSet<(IpAddr, Owner)>, HostError> {
    let mut taken = BTreeSet::new();
    for site in paths.sites().map_err(super::file("list", &paths.site()))? {
        let jails = site.jails();
        for name in paths::list(&jails).map_err(super::file("list", &jails))? {
            let Ok(name) = JailName::parse(&name) else {
                continue;
            };
            let started = site.started(&name);
            let text = process::read(&started).map_err(super::file("read", &started))?;
            let addresses = addresses(text.as_deref().unwrap_or_default());
            let theirs: Vec<IpAddr> = addresses.filter(|ip| wanted.contains(ip)).collect();
            if theirs.is_empty() || state::init(&site, &name)?.is_none() {
                continue;
            }
            let owner = match site.site() == paths.site() {
                true => Owner::Jail(name),
                false => Owner::Other(stranger(name.as_str())),
            };
            taken.extend(theirs.into_iter().map(|ip| (ip, owner.clone())));
        }
    }
    Ok(taken)
}

/// Returns the addresses in the record of a jail's start: `start::runs_as`.
fn addresses(started: &str) -> impl Iterator<Item = IpAddr> {
    let line = started.lines().nth(2).unwrap_or_default();
    let words = line.split(' ').filter_map(|word| word.parse().ok());
    words.map(|address: Address| address.ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded on Linux 6.12.
    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19219 1 000000009a4c5f0c 100 0 0 10 0
   1: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1879048193        0 20001 1 00000000f1d1a5a6 100 0 0 10 0
   2: 0100007F:9C40 0100007F:1F40 01 00000000:00000000 02:000000B5 00000000  1000        0 20103 2 00000000a4d8b1c8 20 4 30 10 -1
   3: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19219 1 000000009a4c5f0c 100 0 0 10 0
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0019 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19221 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19222 1 0 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:0278 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19222 1 0 100 0 0 10 0
";
    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  501: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 15005 2 0 0
  502: 00000000:C001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 15006 2 0 0
  503: 0100007F:0035 0100007F:0044 01 00000000:00000000 00:00000000 00000000     0        0 15006 2 0 0
";

    #[test]
    fn a_missing_controller_is_reported_with_the_jails_that_need_it() {
        use crate::model::{Base, Kind, Limits};
        use crate::name::GenerationId;
        let control = Control {
            controllers: vec!["memory".to_owned()],
            swap: false,
            memory: None,
        };
        let with = |limits| JailConfig {
            limits,
            ..JailConfig::new(Kind::Thin, Base::Pin(GenerationId(1)), GenerationId(1))
        };
        let pids = with(Limits {
            processes: Some(9),
            ..Limits::default()
        });
        let memory = with(Limits {
            memory: Some(1 << 30),
            ..Limits::default()
        });
        let names = ["a", "b", "c"].map(|name| JailName::parse(name).expect("a name"));
        let jails = [(&names[0], &pids), (&names[1], &memory), (&names[2], &pids)];
        let found = lacks_of(&control, &jails);
        assert_eq!(
            found,
            [Lack {
                what: "the cgroup controller pids is missing: a, c cannot start, because of a limit that needs it".to_owned(),
                hint: "Linux may need cgroup_enable=pids on its command line".to_owned(),
            }]
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_tables_of_the_kernel_tell_who_listens() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let owner = |uid: u32| (uid > 70_000).then(|| Owner::Other(format!("user {uid}")));
        let shown = || -> Vec<String> {
            let found = listeners(directory.path(), &owner).expect("read");
            found
                .iter()
                .map(|it| format!("{it} {:?}", it.bound))
                .collect()
        };
        assert_eq!(shown(), [""; 0], "a kernel without a network");
        for (name, text) in [("tcp", TCP), ("tcp6", TCP6), ("udp", UDP)] {
            std::fs::write(directory.path().join(name), text).expect("written");
        }
        let found = shown();
        for line in [
            "udp 68 All { v4: true, v6: false }",
            "tcp 22 All { v4: true, v6: false }",
            "tcp 25 All { v4: true, v6: true }",
            "tcp 631 One(::1)",
            "tcp 632 One(127.0.0.1)",
            "tcp 8000 (user 1879048193) One(127.0.0.1)",
        ] {
            assert!(found.iter().any(|it| it == line), "no {line:?}: {found:#?}");
        }
        assert_eq!(
            found.len(),
            6,
            "connections and clients are none: {found:#?}"
        );
    }

    #[test]
    fn what_is_no_endpoint_is_none() {
        for text in [
            "",
            ":",
            "0100007F",
            "0100007F:",
            "01007F:0016",
            "XX00007F:0016",
            "é100007F:0016",
        ] {
            assert_eq!(endpoint(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_address_is_here_or_not() {
        assert!(is_here(Ipv4Addr::LOCALHOST.into()));
        // TEST-NET-3 (RFC 5737), which no host has.
        assert!(!is_here(Ipv4Addr::new(203, 0, 113, 77).into()));
    }

    #[test]
    fn running_jails_have_addresses() {
        let found: Vec<IpAddr> =
            addresses("web\nhost\nem0|192.0.2.7/24 2001:db8::7/64\nmemory=1\n").collect();
        assert_eq!(found.len(), 2);
        assert_eq!(addresses("").count(), 0);
        assert_eq!(addresses("web\nnone\n\n").count(), 0);
    }
}
