//! The contract of `Host` on Linux, with which the simulator and the FreeBSD host must agree (tests/hosts).

use std::path::{Path, PathBuf};

use crate::hosts_suite::{Bench, Command, Ended, Lie, Why, keeps};
use crate::support::*;

/// A site and its directory.
struct Linux {
    site: String,
    directory: PathBuf,
}

/// Why Linux leaves out scenarios that need jail(8).
const NO_JAIL: Why =
    "the files of a jail are made at each start, and no command of the host's is run for it";

impl Linux {
    /// Returns the pids of the first processes of the site's jails.
    fn first(&self) -> Vec<(String, u32)> {
        let id = property(&self.site, "ezz:id");
        let entries = std::fs::read_dir(format!("/run/ezz/{id}/jails"));
        let jails = entries.into_iter().flatten().flatten().filter_map(|entry| {
            let pid = std::fs::read_to_string(entry.path().join("pid")).ok()?;
            let pid: u32 = pid.trim().parse().ok()?;
            let lives = !stat(pid)?.contains(") Z ");
            let name = entry.file_name().to_string_lossy().into_owned();
            lives.then_some((name, pid))
        });
        jails.collect()
    }

    fn pid(&self, jail: &str) -> Option<u32> {
        let all = self.first();
        let found = all.into_iter().find(|(name, _)| name == jail);
        found.map(|(_, pid)| pid)
    }

    /// Returns the mounts at `/basejail` in a running jail.
    fn bases(&self, jail: &str) -> Vec<String> {
        let table = |pid| std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok();
        let table = self.pid(jail).and_then(table).unwrap_or_default();
        let base = |line: &&str| line.split(' ').nth(4) == Some("/basejail");
        let source = |line: &str| {
            line.rsplit(" - zfs ")
                .next()?
                .split(' ')
                .next()
                .map(str::to_owned)
        };
        table.lines().filter(base).filter_map(source).collect()
    }
}

fn stat(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

impl Bench for Linux {
    fn ezz(&self, words: &[&str]) -> Ended {
        let ended = ezz(&[&["--site", self.site.as_str()], words].concat());
        Ended {
            command: format!("{words:?}"),
            code: ended.code,
            out: ended.stdout,
            err: ended.stderr,
        }
    }

    /// The start time of the first process distinguishes one start from another.
    fn running(&self) -> Vec<(String, u64)> {
        let began = |pid| -> Option<u64> {
            let stat = stat(pid)?;
            let ticks: u64 = stat.rsplit(") ").next()?.split(' ').nth(19)?.parse().ok()?;
            Some(ticks << 22 | u64::from(pid))
        };
        let jails = self.first().into_iter();
        jails
            .filter_map(|(name, pid)| Some((name, began(pid)?)))
            .collect()
    }

    fn mounts(&self, jail: &str) -> Vec<String> {
        if self.pid(jail).is_some() {
            return self
                .bases(jail)
                .iter()
                .map(|base| format!("{base} /basejail"))
                .collect();
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
        let id = property(&self.site, "ezz:id");
        let at = format!("/run/ezz/{id}/jails/{jail}/");
        let below = |line: &&str| line.split(' ').nth(4).is_some_and(|it| it.starts_with(&at));
        table.lines().filter(below).map(str::to_owned).collect()
    }

    fn base(&self, jail: &str) -> Option<u32> {
        let base = self.bases(jail).pop()?;
        base.rsplit('/').next()?.parse().ok()
    }

    fn world(&self) -> String {
        let tar = crate::worlds::runnable_world(Path::new("/tmp/next"));
        tar.display().to_string()
    }

    fn files(&self, _jail: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, Why> {
        Err(NO_JAIL)
    }

    fn restarted(&self, _jails: &[&str]) -> Result<(), Why> {
        Err("nothing but ezz starts containers of a site")
    }

    fn dies(&self, jail: &str) -> Result<(), Why> {
        let id = property(&self.site, "ezz:id");
        let first = self.pid(jail).expect("it runs");
        let monitors = processes(&format!("--name {jail} ")).into_iter();
        let ours = monitors.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&id)
        });
        for pid in ours.chain([first]) {
            sh(&format!("kill -9 {pid}")).ok();
        }
        wait_for("it to be gone", 20, || self.pid(jail).is_none());
        Ok(())
    }

    fn stale_base(&self, _jail: &str) -> Result<(), Why> {
        Err(
            "what a jail sees of the base is mounted in a directory of each start, not in the jail's own files",
        )
    }

    fn stranger(&self, _jail: &str, _runs: bool) -> Result<(), Why> {
        Err("containers are known by the directory of their site, not by their name")
    }

    fn deaf(&self, jail: &str) -> Result<(), Why> {
        let script = "trap '' TERM HUP INT; (while :; do sleep 1; done) >/dev/null 2>&1 &";
        self.ezz(&["exec", jail, "--", "sh", "-c", script]).ok();
        Ok(())
    }

    fn dying(&self) -> Result<(), Why> {
        Err("a stop waits for the last process of a container, and then the kernel is done with it")
    }

    fn busy(&self, _times: u32) -> Result<(), Why> {
        Err("the mounts of a container are reached by nobody else")
    }

    fn lie(&self, _lie: Lie) -> Result<(), Why> {
        Err(
            "conmon tells the pid of the first process, and that is looked at: there is no word to doubt",
        )
    }

    fn command(&self, _parameter: &str, _how: Command) -> Result<(), Why> {
        Err(NO_JAIL)
    }

    fn commands(&self, _jail: &str) -> Result<Vec<(String, String)>, Why> {
        Err(NO_JAIL)
    }

    fn limits(&self, _jail: &str) -> Result<usize, Why> {
        Err("sited::limits looks at cgroups")
    }

    fn interfaces(&self) -> Result<Vec<String>, Why> {
        Err("a network of its own is FreeBSD's")
    }

    fn outside(&self, _name: &str) -> Result<PathBuf, Why> {
        Err("sited::hostile plants links; mounts of one's own are parameters of jail(8)")
    }

    fn elsewhere(&self, name: &str) -> Result<Box<dyn Bench>, Why> {
        let number = sh("zfs list -Hd1 -o name tank | wc -l").ok().stdout;
        let site = format!("tank/other{}", number.trim());
        let directory = PathBuf::from("/srv").join(name);
        let at = directory.to_str().expect("text");
        ezz(&["init", &site, "--directory", at]).ok();
        crate::worlds::install_runnable(&site);
        Ok(Box::new(Linux { site, directory }))
    }

    fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// All scenarios use one site: the next one begins without a jail.
    fn end(&self) {
        self.ezz(&["stop", "--all"]).ok();
        let names = self.ezz(&["list", "--only-names"]).ok().out;
        let names: Vec<&str> = names.lines().collect();
        if !names.is_empty() {
            self.ezz(&[&["delete", "--yes"], names.as_slice()].concat())
                .ok();
        }
    }
}

#[test]
fn the_linux_host_keeps_the_contract() {
    init();
    install_runnable(SITE);
    let bench = || -> Box<dyn Bench> {
        let (site, directory) = (SITE.to_owned(), PathBuf::from(DIRECTORY));
        Box::new(Linux { site, directory })
    };
    let without = [
        "started_by_others",
        "lost_conf",
        "lost_fstab",
        "stale_base",
        "stale_other",
        "planted",
        "stranger",
        "dying",
        "busy",
        "busy_for_ever",
        "starts_nothing",
        "starts_and_fails",
        "stops_nothing",
        "stops_and_fails",
        "hangs",
        "start_hangs",
        "start_fails",
        "files_of_a_running_jail",
        "limits_and_networks",
        "parameters",
        "own_mounts",
    ];
    keeps("Linux", &bench, &without);
}
