//! What a jail costs on disk and in memory: ten jails that run the same program, compared with ten copies of the world
//! that do.

use std::time::Duration;

use crate::guest::{PEER, number, run, sh};
use crate::{Failure, Measured};

/// The number of jails.
const JAILS: usize = 10;

/// The program: it maps itself, its libraries and modules, and waits.
const PROGRAM: &str = "/usr/bin/perl -MPOSIX -MData::Dumper -MFile::Find -e 'sleep 600'";

/// Measures the costs of jails on disk and in memory.
pub fn measure(measured: &mut Measured) -> Result<(), Failure> {
    let before = number(
        "zfs get -Hpo value epoch tank/ezz 2>/dev/null || zfs get -Hpo value ezz:epoch tank/ezz",
    )?;
    run("create 'j{1..1000}'")?;
    let after = number("zfs get -Hpo value ezz:epoch tank/ezz")?;
    measured.add("commits for 1000 jails", after - before);
    sh("zpool sync")?;
    let used = number("zfs get -Hpo value used tank/ezz/jails/j500")?;
    measured.add("bytes of a new jail", used);
    // Files that differ from those of the origin: they were copied.
    let own = number("zfs diff tank/ezz/newjail/1@1 tank/ezz/jails/j500 | wc -l")?;
    measured.add("inodes of a new jail that are not shared", own);
    run("delete --yes 'j*'")?;
    let base = "/srv/jails/basejail/1";
    sh(&format!("zfs create -o mountpoint=/peer {PEER}"))?;
    for n in 1..=JAILS {
        sh(&format!(
            "zfs create {PEER}/c{n}; cp -a {base}/. /peer/c{n}/; mknod /peer/c{n}/dev/null c 1 3"
        ))?;
    }
    sh("zpool sync")?;
    measured.add(
        "bytes of a full copy",
        number(&format!("zfs get -Hpo value used {PEER}/c1"))?,
    );
    measured.add(
        "inodes of a full copy",
        number("find /peer/c1 -xdev | wc -l")?,
    );
    let copies: Vec<String> = (1..=JAILS)
        .map(|n| format!("chroot /peer/c{n} {PROGRAM}"))
        .collect();
    running(measured, "full copies", &copies)?;
    sh(&format!("zfs destroy -r {PEER}; rm -rf /peer"))?;
    run(&format!("create 'm{{1..{JAILS}}}' --start"))?;
    let jails: Vec<String> = (1..=JAILS)
        .map(|n| format!("$EZZ exec m{n} -- {PROGRAM}"))
        .collect();
    running(measured, "thin jails", &jails)?;
    run("stop 'm*'")?;
    run("delete --yes 'm*'")
}

/// Runs the program in ten places; measures the page cache that it takes, and the memory that each instance has for
/// itself.
fn running(measured: &mut Measured, name: &str, commands: &[String]) -> Result<(), Failure> {
    sh("sync; echo 3 >/proc/sys/vm/drop_caches")?;
    let cached = || number("awk '/^Cached:/ { print $2 }' /proc/meminfo");
    let before = cached()?;
    let all: Vec<String> = commands
        .iter()
        .map(|command| format!("({command}) </dev/null >/dev/null 2>&1 &"))
        .collect();
    sh(&all.join("\n"))?;
    let wanted = commands.len() as f64;
    let mut seconds = 0;
    while number("pgrep -xc perl || true")? < wanted {
        seconds += 1;
        if seconds > 120 {
            return Err(Failure(format!("{name}: the programs do not run")));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(Duration::from_secs(2));
    let mapped = (cached()? - before) / wanted;
    measured.add(format!("page cache per jail, KiB: {name}"), mapped);
    let private = number(
        "for p in $(pgrep -x perl); do awk '/^Private_/ { s += $2 } END { print s }' /proc/$p/smaps_rollup; done | sort -n | sed -n 5p",
    )?;
    measured.add(format!("private memory, KiB: {name}"), private);
    sh("pkill -x perl; sleep 1").map(drop)
}
