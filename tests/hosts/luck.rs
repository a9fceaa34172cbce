//! Lost files, stale mounts, foreign jails, processes that do not end, and a jail(8) that does not report what it did.

use super::{Bench, Command, Lie, Why, is_stopped, listed, runs, start_of};

pub fn lost_conf(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let conf = bench.files("a")?.remove(0).0;
    std::fs::remove_file(&conf).expect("it is there");
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    bench.ezz(&["start", "a"]).ok();
    assert!(conf.exists(), "it is made again");
    runs(bench, "a");
    // Also for a jail that has ended meanwhile.
    bench.ezz(&["stop", "a"]).ok();
    std::fs::remove_file(&conf).expect("it is there");
    bench.ezz(&["doctor", "--repair"]).ok();
    assert!(conf.exists(), "it is made again");
    Ok(())
}

pub fn lost_fstab(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let fstab = bench.files("a")?.remove(1).0;
    std::fs::remove_file(&fstab).expect("it is there");
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    Ok(())
}

pub fn stale_base(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    bench.stale_base("a")?;
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    bench.stale_base("a")?;
    bench.ezz(&["delete", "a", "--yes"]).ok();
    assert_eq!(bench.mounts("a"), [""; 0]);
    Ok(())
}

/// The kernel does not refuse a mount over another; the lower one would stay below it.
pub fn stale_other(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    bench.stale_base("a")?;
    bench.ezz(&["update", "--from", &bench.world()]).ok();
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    assert_eq!(bench.base("a"), Some(2));
    Ok(())
}

/// A jail can replace its mount point by a link; nothing is mounted where the link leads.
pub fn planted(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    let elsewhere = bench.outside("elsewhere")?;
    let at = bench.directory().join("a/basejail");
    std::fs::remove_dir(&at).expect("it is empty");
    std::os::unix::fs::symlink(&elsewhere, &at).expect("writable");
    let refused = bench.ezz(&["start", "a"]).exits(1);
    assert!(refused.err.contains("is a symbolic link"), "{refused:#?}");
    is_stopped(bench, "a");
    std::fs::remove_file(&at).expect("it is there");
    std::fs::create_dir(&at).expect("writable");
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    // The link may also appear while the jail runs: its mount has the real path.
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    Ok(())
}

pub fn died(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b", "--start"]).ok();
    bench.dies("a")?;
    bench.dies("b")?;
    assert_eq!(listed(bench, "a").0, "stopped");
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    bench.ezz(&["stop", "b"]).ok();
    is_stopped(bench, "b");
    bench.dies("a")?;
    bench.ezz(&["delete", "a", "--yes"]).ok();
    assert_eq!(bench.mounts("a"), [""; 0]);
    assert!(!bench.directory().join("a").exists());
    Ok(())
}

pub fn stranger(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    bench.stranger("a", true)?;
    assert_eq!(listed(bench, "a").0, "stopped", "it is not this one");
    let refused = bench.ezz(&["start", "a"]).exits(1);
    assert!(
        refused.err.contains("does not belong to this site"),
        "{refused:#?}"
    );
    // Nor does ezz stop it, or run a command in it.
    bench.ezz(&["stop", "a"]).ok();
    bench
        .ezz(&["exec", "a", "--", "sh", "-c", "exit 0"])
        .refused(1, "a is not running");
    assert!(start_of(bench, "a").is_some(), "the stranger is gone");
    assert_eq!(bench.mounts("a"), [""; 0]);
    bench.stranger("a", false)?;
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    Ok(())
}

/// A process that does not end when it is asked is killed after its time, and reported.
pub fn deaf(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b", "--start"]).ok();
    let before = bench.files("a").ok();
    bench.deaf("a")?;
    let stopped = bench
        .ezz(&["stop", "a", "b", "--timeout", "2", "--json"])
        .ok();
    let words = "jail a: ";
    let line = stopped.err.lines().find(|line| line.contains(words));
    let line = line.unwrap_or_else(|| panic!("no {words:?} in {stopped:#?}"));
    assert!(line.contains(" within 2 s and w"), "{line}");
    assert!(line.contains(" killed: "), "{line}");
    // The time was that of this stop only: the derived files are unchanged.
    assert_eq!(bench.files("a").ok(), before);
    assert!(!stopped.err.contains("jail b: "), "{stopped:#?}");
    let done = stopped.json();
    let killed = |jail: &str| {
        done.iter()
            .find(|it| it["jail"] == jail)
            .map(|it| &it["killed"])
    };
    let first = &killed("a").expect("it is told")[0];
    assert!(first["pid"].as_u64().is_some_and(|pid| pid > 1), "{first}");
    let name = first["name"].as_str().expect("a name");
    assert!(
        line.contains(name) && !name.contains(char::is_control),
        "{first}"
    );
    assert!(killed("b").expect("it is told").is_null());
    is_stopped(bench, "a");
    is_stopped(bench, "b");
    Ok(())
}

pub fn dying(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.dying()?;
    let before = start_of(bench, "a");
    bench.ezz(&["stop", "a"]).ok();
    assert_eq!(start_of(bench, "a"), None);
    assert_eq!(bench.mounts("a"), [""; 0]);
    assert_eq!(listed(bench, "a").0, "dying");
    // Its name becomes free only when the kernel has removed the jail.
    bench.ezz(&["start", "a"]).ok();
    assert_ne!(start_of(bench, "a"), before);
    runs(bench, "a");
    Ok(())
}

pub fn busy(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.busy(4)?;
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    Ok(())
}

pub fn busy_for_ever(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let before = bench.files("a")?;
    bench.busy(u32::MAX)?;
    let refused = bench.ezz(&["stop", "a"]).exits(1);
    assert!(refused.err.contains("it is in use"), "{refused:#?}");
    assert_ne!(bench.mounts("a"), [""; 0], "nothing goes by force");
    assert_eq!(bench.files("a")?, before);
    bench.busy(0)?;
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    Ok(())
}

pub fn starts_nothing(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    bench.lie(Lie::StartsNothing)?;
    let refused = bench.ezz(&["start", "a"]).exits(1);
    assert!(refused.err.contains("a did not start"), "{refused:#?}");
    is_stopped(bench, "a");
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    Ok(())
}

pub fn starts_and_fails(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    bench.lie(Lie::StartsAndFails)?;
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    Ok(())
}

pub fn stops_nothing(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.lie(Lie::StopsNothing)?;
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    Ok(())
}

pub fn stops_and_fails(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.lie(Lie::StopsAndFails)?;
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    Ok(())
}

pub fn hangs(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.command("exec.stop", Command::Hangs)?;
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    Ok(())
}

pub fn start_hangs(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    bench.command("exec.start", Command::Hangs)?;
    let failed = bench.ezz(&["start", "a"]).exits(1);
    assert!(failed.err.contains("a did not start"), "{failed:#?}");
    let words = "did not end within 15 s and was killed";
    assert!(failed.err.contains(words), "{failed:#?}");
    is_stopped(bench, "a");
    bench.command("exec.start", Command::Works)?;
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    Ok(())
}

pub fn start_fails(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b", "c"]).ok();
    bench.command("exec.start", Command::Fails)?;
    let failed = bench.ezz(&["start", "a"]).exits(1);
    assert!(failed.err.contains("a did not start"), "{failed:#?}");
    is_stopped(bench, "a");
    assert_eq!(bench.files("a")?.len(), 2, "its files stay");
    bench.command("exec.start", Command::Works)?;
    bench.ezz(&["start", "--all"]).ok();
    runs(bench, "a");
    Ok(())
}

/// The files change only while the jail does not run, because jail(8) stops it by them.
pub fn files_of_a_running_jail(bench: &dyn Bench) -> Result<(), Why> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("a plain path");
    let fleet = |hostname: &str| {
        let text = format!("fleet = \"shop\"\n[[jail]]\nname = \"a\"\nhostname = \"{hostname}\"\n");
        std::fs::write(file.path(), text).expect("writable");
        bench.ezz(&["apply", path]).ok();
    };
    fleet("one.example.org");
    bench.ezz(&["start", "a"]).ok();
    let before = bench.files("a")?;
    assert!(String::from_utf8_lossy(&before[0].1).contains("one.example.org"));
    fleet("two.example.org");
    assert_eq!(bench.files("a")?, before);
    bench.ezz(&["doctor", "--repair"]);
    assert_eq!(bench.files("a")?, before);
    runs(bench, "a");
    bench.ezz(&["restart", "a"]).ok();
    let after = bench.files("a")?;
    assert!(String::from_utf8_lossy(&after[0].1).contains("two.example.org"));
    Ok(())
}

pub fn limits_and_networks(bench: &dyn Bench) -> Result<(), Why> {
    let nothing = bench.interfaces()?;
    let words = [
        "create",
        "a",
        "--memory",
        "64M",
        "--processes",
        "40",
        "--network",
        "vnet",
        "--address",
        "bridge0|10.0.0.2/24",
        "--address",
        "bridge0|fd00::2/64",
        "--start",
    ];
    bench.ezz(&words).ok();
    let there = |what: &str, limits: usize, interfaces: usize| {
        assert_eq!(bench.limits("a"), Ok(limits), "limits {what}");
        let now = bench.interfaces().expect("it has some").len();
        assert_eq!(now, nothing.len() + interfaces, "interfaces {what}");
    };
    there("of a running jail", 2, 2);
    bench.ezz(&["stop", "a"]).ok();
    there("after a stop", 0, 0);
    // jail(8) runs no exec.poststop after a start that failed, nor for a jail that died.
    for parameter in ["exec.created", "exec.start", "exec.poststart"] {
        bench.command(parameter, Command::Fails)?;
        bench.ezz(&["start", "a"]);
        bench.command(parameter, Command::Works)?;
        if start_of(bench, "a").is_none() {
            there("after a start that failed", 0, 0);
        }
        bench.ezz(&["stop", "a"]).ok();
    }
    bench.ezz(&["start", "a"]).ok();
    bench.dies("a")?;
    there("of one that died", 2, 2);
    bench.ezz(&["start", "a"]).ok();
    there("after its next start", 2, 2);
    std::fs::remove_file(&bench.files("a")?[0].0).expect("it is there");
    bench.ezz(&["stop", "a"]).ok();
    there("after a stop without a conf", 0, 0);
    let bridge = [
        "create",
        "b",
        "--network",
        "vnet",
        "--address",
        "none|10.0.0.3/24",
        "--start",
    ];
    bench.ezz(&bridge).exits(1);
    there("for want of a bridge", 0, 0);
    Ok(())
}
