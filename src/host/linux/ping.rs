//! Explains why ping(8) fails in a jail on the host's network. It opens sockets that need no privilege, but only if the
//! host allows its groups to do so. The message of ping then suggests other ways, which no jail has.

use std::fs;
use std::path::Path;

/// The groups that may open such sockets, as two numbers; no group if the first number exceeds the second (icmp(7)).
const RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";

/// The number of groups that a jail has.
const GROUPS: u64 = 65536;

/// Returns what the host's administrator can do about a ping that has failed in a jail with this first process. It is
/// none if the groups of the jail may open the sockets, or if the command is not ping.
pub(super) fn closed(command: &[String], pid: impl FnOnce() -> Option<u32>) -> Option<String> {
    let word = Path::new(command.first()?).file_name()?.to_str()?;
    if !matches!(word, "ping" | "ping4" | "ping6") {
        return None;
    }
    let range = fs::read_to_string(RANGE).ok()?;
    let map = fs::read_to_string(format!("/proc/{}/gid_map", pid()?)).ok()?;
    (!covers(&range, &map)?).then(|| {
        let range = range.split_whitespace().collect::<Vec<_>>().join(" ");
        format!(
            "ping works in no jail on the host's network while net.ipv4.ping_group_range of the host is `{range}`: \
             `sysctl net.ipv4.ping_group_range='0 2147483647'` opens it"
        )
    })
}

/// Reports whether a range contains all groups of a jail. The jail's map begins with its first group in the jail, that
/// group on the host, and the number of groups.
fn covers(range: &str, map: &str) -> Option<bool> {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let words = text.split_whitespace();
        words.map(|word| word.parse().ok()).collect()
    };
    let (range, map) = (numbers(range)?, numbers(map.lines().next()?)?);
    let (&[first, last], &[_, group, count]) = (&range[..], &map[..]) else {
        return None;
    };
    Some(first <= group && group + count.min(GROUPS) <= last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_all_groups_of_a_jail_or_not() {
        let jail = "         0     131072      65536\n";
        for (range, so) in [
            ("1\t0\n", false),
            ("0\t2147483647\n", true),
            ("0\t65535\n", false),
            ("131072\t196607\n", true),
            ("131073\t196607\n", false),
            ("131072\t196606\n", false),
        ] {
            assert_eq!(covers(range, jail), Some(so), "{range}");
        }
        // A jail without ids of its own.
        assert_eq!(covers("0\t65535\n", "0 0 4294967295\n"), Some(true));
        for odd in ["", "1\n", "a\tb\n", "1\t2\t3\n"] {
            assert_eq!(covers(odd, jail), None, "{odd:?}");
        }
    }
}
