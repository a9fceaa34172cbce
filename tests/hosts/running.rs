//! Jails start, stop, run commands, and change their generation.

use super::{Bench, Why, is_stopped, listed, runs, start_of};

pub fn start(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b"]).ok();
    is_stopped(bench, "a");
    let done = bench.ezz(&["start", "a", "--json"]).ok().json();
    assert_eq!(done[0]["did"], "started");
    runs(bench, "a");
    assert!(bench.base("a").is_some());
    is_stopped(bench, "b");
    bench.ezz(&["doctor"]).ok();
    Ok(())
}

pub fn start_twice(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let (before, mounts) = (start_of(bench, "a"), bench.mounts("a"));
    let again = bench.ezz(&["start", "a"]).ok();
    assert!(again.err.contains("a is already running"), "{again:#?}");
    assert_eq!(start_of(bench, "a"), before);
    assert_eq!(bench.mounts("a"), mounts);
    Ok(())
}

pub fn stop(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b", "--start"]).ok();
    let done = bench.ezz(&["stop", "a", "--json"]).ok().json();
    assert_eq!(done[0]["did"], "stopped");
    is_stopped(bench, "a");
    runs(bench, "b");
    bench.ezz(&["start", "a"]).ok();
    runs(bench, "a");
    Ok(())
}

pub fn stop_twice(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.ezz(&["stop", "a"]).ok();
    let again = bench.ezz(&["stop", "a"]).ok();
    assert!(again.err.contains("a is already stopped"), "{again:#?}");
    is_stopped(bench, "a");
    Ok(())
}

pub fn restart(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b", "--start"]).ok();
    let of = |jail| start_of(bench, jail).expect("it runs");
    let (a, b) = (of("a"), of("b"));
    bench.ezz(&["restart", "a"]).ok();
    runs(bench, "a");
    assert_ne!(of("a"), a, "it is the same start");
    assert_eq!(of("b"), b, "the other is left alone");
    bench.ezz(&["stop", "b"]).ok();
    bench.ezz(&["restart", "b"]).ok();
    runs(bench, "b");
    Ok(())
}

pub fn exit_status(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let run = |script: &str| bench.ezz(&["exec", "a", "--", "sh", "-c", script]);
    run("exit 0").ok();
    run("exit 7").exits(7);
    run("exit 255").exits(255);
    run("kill -9 $$").exits(137);
    run("kill -15 $$").exits(143);
    runs(bench, "a");
    Ok(())
}

/// The exit codes are a shell's: the command does not exist, or cannot be executed.
pub fn exec_without_a_command(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.ezz(&["exec", "a", "--", "nosuch"]).exits(127);
    bench.ezz(&["exec", "a", "--", "/"]).exits(126);
    runs(bench, "a");
    Ok(())
}

pub fn exec_in_a_stopped_jail(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a"]).ok();
    let run = &["exec", "a", "--", "sh", "-c", "exit 7"];
    bench.ezz(run).refused(1, "a is not running");
    bench.ezz(&["start", "a"]).ok();
    bench.ezz(run).exits(7);
    bench.ezz(&["stop", "a"]).ok();
    bench.ezz(run).refused(1, "a is not running");
    Ok(())
}

pub fn generation(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b", "--start"]).ok();
    let first = bench.base("a").map(u64::from);
    bench.ezz(&["update", "--from", &bench.world()]).ok();
    let (state, has, due) = listed(bench, "a");
    assert_eq!((state.as_str(), has), ("running", first));
    assert!(due > first, "{due:?}");
    assert_eq!(bench.base("a").map(u64::from), first);
    bench.ezz(&["restart", "a"]).ok();
    assert_eq!(listed(bench, "a"), (state.clone(), due, due));
    assert_eq!(bench.base("a").map(u64::from), due);
    assert_eq!(bench.base("b").map(u64::from), first);
    bench.ezz(&["rollback"]).ok();
    assert_eq!(listed(bench, "a"), (state, due, first));
    bench.ezz(&["converge"]).ok();
    assert_eq!(bench.base("a").map(u64::from), first);
    runs(bench, "a");
    runs(bench, "b");
    Ok(())
}

/// A program that starts a jail without ezz, such as `service jail restart`, finds the base of the jail's own files: a
/// swap does not change it.
pub fn started_by_others(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let first = bench.base("a");
    bench.ezz(&["update", "--from", &bench.world()]).ok();
    bench.restarted(&["a"])?;
    runs(bench, "a");
    assert_eq!(bench.base("a"), first);
    let (_, has, due) = listed(bench, "a");
    assert_eq!(has, first.map(u64::from));
    assert!(due > has, "{due:?}");
    let found = bench.ezz(&["doctor"]).out;
    assert!(found.contains(" is due: "), "{found}");
    bench.ezz(&["converge"]).ok();
    assert_eq!(bench.base("a").map(u64::from), due);
    bench.restarted(&["a"])?;
    assert_eq!(bench.base("a").map(u64::from), due);
    Ok(())
}

pub fn thick(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--thick", "--start"]).ok();
    assert!(start_of(bench, "a").is_some());
    assert_eq!(listed(bench, "a").0, "running");
    assert_eq!(bench.base("a"), None);
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    Ok(())
}

const FLEET: &str = "fleet = \"shop\"\n[[jail]]\nname = \"web\"\ndepends = [\"db\"]\n[[jail]]\nname = \"db\"\n\
    depends = [\"net\"]\n[[jail]]\nname = \"net\"\n";

pub fn dependencies(bench: &dyn Bench) -> Result<(), Why> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), FLEET).expect("writable");
    let path = file.path().to_str().expect("a plain path");
    bench.ezz(&["apply", path]).ok();
    bench.ezz(&["stop", "--all"]).ok();
    bench.ezz(&["start", "--all"]).ok();
    let order = |mut starts: Vec<(String, u64)>| {
        starts.sort_by_key(|(_, start)| *start);
        starts.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(order(bench.running()), ["net", "db", "web"]);
    let told = bench.ezz(&["stop", "--all", "--json"]).ok().json();
    let names: Vec<_> = told.iter().map(|line| line["jail"].clone()).collect();
    assert_eq!(names, ["web", "db", "net"], "who needs another stops first");
    assert_eq!(bench.running(), []);
    Ok(())
}

pub fn health(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    bench.ezz(&["update", "--from", &bench.world()]).ok();
    let ill = bench.ezz(&["converge", "--health", "exit 3", "--health-limit", "2"]);
    assert_ne!(ill.code, 0, "{ill:#?}");
    assert!(ill.err.contains("a failed its health check"), "{ill:#?}");
    assert!(ill.err.contains("exited with status 3"), "{ill:#?}");
    bench.ezz(&["converge", "--health", "exit 0"]).ok();
    runs(bench, "a");
    let (_, has, due) = listed(bench, "a");
    assert_eq!(has, due);
    Ok(())
}

pub fn delete(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "b", "--start"]).ok();
    bench.ezz(&["delete", "a", "--yes"]).ok();
    assert_eq!(start_of(bench, "a"), None);
    assert_eq!(bench.mounts("a"), [""; 0]);
    assert!(!bench.directory().join("a").exists());
    if let Ok(files) = bench.files("a") {
        assert_eq!(files, [], "what was derived");
    }
    runs(bench, "b");
    bench.ezz(&["create", "a", "--start"]).ok();
    runs(bench, "a");
    Ok(())
}

/// A base is needed as long as a jail runs on it, whatever its track points to.
pub fn prune(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let first = bench.base("a").expect("it is thin");
    for _ in 0..2 {
        bench.ezz(&["update", "--from", &bench.world()]).ok();
    }
    bench.ezz(&["world", "prune", "--yes"]).ok();
    runs(bench, "a");
    assert_eq!(bench.base("a"), Some(first));
    let base = |generation| bench.directory().join("basejail").join(generation);
    assert!(base(first.to_string()).exists());
    bench.ezz(&["restart", "a"]).ok();
    bench.ezz(&["world", "prune", "--yes"]).ok();
    runs(bench, "a");
    assert!(
        !base(first.to_string()).exists(),
        "nobody needs it any more"
    );
    Ok(())
}
