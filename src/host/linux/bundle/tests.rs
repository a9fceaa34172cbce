//! Tests of the runtime's configuration, read back from its JSON.

use serde_json::{Value, json};

use super::*;
use crate::host::linux::jail_id::JailIds;

fn control() -> Control {
    Control {
        controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
        swap: true,
        memory: None,
    }
}

fn bundle(change: impl FnOnce(&mut Bundle<'_>)) -> Value {
    bundle_on(&control(), change)
}

fn bundle_on(control: &Control, change: impl FnOnce(&mut Bundle<'_>)) -> Value {
    let init = Init::Own {
        program: "/usr/bin/catatonit".into(),
        command: vec!["/bin/sh".into(), "-c".into(), "wait".into()],
    };
    let mut bundle = Bundle {
        hostname: "web1",
        network: Network::Host,
        root: Path::new("/run/ezz/S/jails/web1/root"),
        base: Some(Path::new("/run/ezz/S/jails/web1/base")),
        ids: IdRange::from_slot(2),
        init: &init,
        environment: &[],
        resolver: Some(Path::new("/etc/resolv.conf")),
        tmp: false,
        cache: None,
        cgroup: "/ezz/S/web1",
        limits: Limits::default(),
        control,
        seccomp: LinuxSeccomp::default(),
    };
    change(&mut bundle);
    serde_json::to_value(bundle.spec().expect("valid")).expect("serialises")
}

fn at<'a>(spec: &'a Value, destination: &str) -> Option<&'a Value> {
    let mounts = spec["mounts"].as_array()?;
    mounts.iter().find(|m| m["destination"] == destination)
}

fn namespaces(spec: &Value) -> Vec<&str> {
    let list = spec["linux"]["namespaces"].as_array().expect("a list");
    list.iter().filter_map(|n| n["type"].as_str()).collect()
}

fn has(list: &Value, word: &str) -> bool {
    list.as_array()
        .is_some_and(|list| list.iter().any(|w| w == word))
}

#[test]
fn a_thin_jail() {
    let spec = bundle(|_| ());
    let ids = json!([{"containerID": 0, "hostID": 0x7000_0000 + 2 * 65536, "size": 65536}]);
    assert_eq!(spec["linux"]["uidMappings"], ids);
    assert_eq!(spec["linux"]["gidMappings"], ids);
    assert_eq!(
        namespaces(&spec),
        ["mount", "pid", "ipc", "uts", "cgroup", "user"]
    );
    let base = at(&spec, "/basejail").expect("mounted");
    assert_eq!(base["source"], "/run/ezz/S/jails/web1/base");
    assert_eq!(base["options"], json!(["bind", "private", "ro", "nodev"]));
    let init = at(&spec, OWN_INIT).expect("mounted");
    assert_eq!(
        init["options"],
        json!(["bind", "private", "ro", "nosuid", "nodev"])
    );
    assert_eq!(
        spec["process"]["args"],
        json!(["/dev/init", "--", "/bin/sh", "-c", "wait"])
    );
    for path in [
        "/.zfs",
        "/basejail/.zfs",
        "/proc/kcore",
        "/proc/spl",
        "/sys/firmware",
    ] {
        assert!(has(&spec["linux"]["maskedPaths"], path), "{path}");
    }
    assert_eq!(spec["root"]["readonly"], false);
    assert_eq!(spec["hostname"], "web1");
    assert_eq!(spec["linux"]["cgroupsPath"], "/ezz/S/web1");
}

/// The limits are in every container, including those that prepare a jail or a world.
#[test]
fn cgroups_below_a_jails_have_limits() {
    const ONCE: &Init = &Init::Once(Vec::new());
    const NONE: &Control = &Control {
        controllers: Vec::new(),
        swap: false,
        memory: None,
    };
    let limits = json!({"cgroup.max.depth": "15", "cgroup.max.descendants": "1024"});
    for spec in [bundle(|_| ()), bundle(|b| b.init = ONCE)] {
        assert_eq!(spec["linux"]["resources"]["unified"], limits);
    }
    // crun refuses them if there is no unified hierarchy.
    let spec = bundle(|b| b.control = NONE);
    assert_eq!(spec["linux"]["resources"]["unified"], Value::Null);
    // Even the longest path below the cgroup of the longest name fits into /proc/PID/cgroup.
    let longest = "/ezz/12345678/".len() + 63 + cgroup::DEPTH as usize * 256;
    assert!(longest < 4096, "{longest}");
}

#[test]
fn root_has_few_capabilities_and_may_use_su() {
    let spec = bundle(|_| ());
    let process = &spec["process"];
    assert_eq!(process["noNewPrivileges"], false);
    let bounding = process["capabilities"]["bounding"]
        .as_array()
        .expect("a list");
    assert_eq!(bounding.len(), CAPABILITIES.len());
    for never in [
        "CAP_SYS_ADMIN",
        "CAP_MKNOD",
        "CAP_DAC_READ_SEARCH",
        "CAP_NET_RAW",
    ] {
        assert!(!has(&process["capabilities"]["bounding"], never), "{never}");
    }
    assert_eq!(process["capabilities"]["ambient"], json!([]));
}

#[test]
fn dev_is_a_tmpfs_before_anything_is_put_there() {
    let spec = bundle(|_| ());
    let order: Vec<&str> = spec["mounts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|m| m["destination"].as_str())
        .filter(|at| at.starts_with("/dev"))
        .collect();
    assert_eq!(order.first(), Some(&"/dev"));
    assert_eq!(at(&spec, "/dev").expect("mounted")["type"], "tmpfs");
}

#[test]
fn a_thick_jail_with_an_init_and_no_network() {
    let init = Init::World("/sbin/init".into());
    let spec = bundle(|b| {
        b.base = None;
        b.network = Network::None;
        b.resolver = None;
    });
    assert_eq!(at(&spec, "/basejail"), None);
    assert_eq!(at(&spec, "/etc/resolv.conf"), None);
    assert!(!has(&spec["linux"]["maskedPaths"], "/basejail/.zfs"));
    assert!(namespaces(&spec).contains(&"network"));
    assert_eq!(at(&spec, "/sys").expect("mounted")["type"], "sysfs");
    // A closure cannot borrow `init` for long enough, so this bundle is made directly.
    let own = Bundle {
        hostname: "a",
        network: Network::None,
        root: Path::new("/r"),
        base: None,
        ids: None,
        init: &init,
        environment: &[],
        resolver: None,
        tmp: false,
        cache: None,
        cgroup: "/c",
        limits: Limits::default(),
        control: &Control::default(),
        seccomp: LinuxSeccomp::default(),
    };
    let spec = serde_json::to_value(own.spec().expect("valid")).expect("serialises");
    assert_eq!(spec["process"]["args"], json!(["/sbin/init"]));
    assert_eq!(at(&spec, OWN_INIT), None);
    assert!(has(
        &at(&spec, "/sys/fs/cgroup").expect("mounted")["options"],
        "rw"
    ));
    assert_eq!(spec["linux"].get("uidMappings"), None);
    assert!(!namespaces(&spec).contains(&"user"));
    assert_eq!(spec["linux"]["resources"].get("pids"), None);
    let none = json!([{"allow": false, "access": "rwm"}]);
    assert_eq!(spec["linux"]["resources"]["devices"], none);
}

#[test]
fn limits_are_resources() {
    let spec = bundle(|_| ());
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["pids"], json!({"limit": cgroup::PROCESSES}));
    assert_eq!(resources.get("memory"), None);
    assert_eq!(resources.get("cpu"), None);
    let limited = bundle(|bundle| {
        bundle.limits = Limits {
            memory: Some(512 << 20),
            cpus: Some("1.5".parse().expect("a number")),
            processes: Some(7),
            cpuset: Some("0-3".parse().expect("a list")),
            ..Limits::default()
        };
    });
    let resources = &limited["linux"]["resources"];
    assert_eq!(resources["pids"], json!({"limit": 7}));
    assert_eq!(
        resources["memory"],
        json!({"limit": 512 << 20, "swap": 512 << 20})
    );
    assert_eq!(
        resources["cpu"],
        json!({"quota": 150_000, "period": 100_000, "cpus": "0-3"})
    );
    let pinned = bundle(|bundle| {
        bundle.limits.cpuset = Some("1".parse().expect("a list"));
    });
    let cpu = &pinned["linux"]["resources"]["cpu"];
    assert_eq!(*cpu, json!({"cpus": "1"}));
}

/// The jail may use the swap: the memory that is kept for the host is enough to prevent an out-of-memory kill.
#[test]
fn a_jail_without_a_limit_of_memory_leaves_the_host_an_eighth() {
    let host = Control {
        memory: Some(8 << 30),
        ..control()
    };
    let memory = |own: Option<u64>| {
        let spec = bundle_on(&host, |bundle| bundle.limits.memory = own);
        spec["linux"]["resources"]["memory"].clone()
    };
    assert_eq!(memory(None), json!({"limit": 7_u64 << 30}));
    let own = 64_u64 << 30;
    assert_eq!(memory(Some(own)), json!({"limit": own, "swap": own}));
}

#[test]
fn users_of_an_exec_have_no_capabilities() {
    let id = |text: &str| JailIds::Own.read(text.as_bytes()).expect("digits");
    let account = Account {
        name: Some("www".into()),
        uid: id("33").expect("in the jail"),
        gid: id("33").expect("in the jail"),
        groups: vec![id("4").expect("in the jail")],
        home: "/var/www".into(),
    };
    let words = vec!["id".to_owned()];
    let more = vec!["A=b".to_owned()];
    let process =
        exec_process(words, &account, Path::new("/srv"), more, Some((50, 132))).expect("valid");
    let value = serde_json::to_value(process).expect("serialises");
    assert_eq!(value["capabilities"]["effective"], json!([]));
    assert_eq!(
        value["user"],
        json!({"uid": 33, "gid": 33, "additionalGids": [4]})
    );
    assert_eq!(value["consoleSize"], json!({"height": 50, "width": 132}));
    assert_eq!(value["terminal"], true);
    assert_eq!(value["cwd"], "/dev/ezz/../../srv");
    let env = json!([PATH, "HOME=/var/www", "USER=www", "LOGNAME=www", "A=b"]);
    assert_eq!(value["env"], env);
}

/// An init whose world wants /tmp in memory cannot mount it itself, and finds it mounted. Other jails have /tmp on
/// disk.
#[test]
fn tmp_is_in_memory_only_where_the_world_wants_it() {
    assert!(at(&bundle(|_| ()), "/tmp").is_none());
    let spec = bundle(|bundle| bundle.tmp = true);
    let tmp = at(&spec, "/tmp").expect("mounted");
    assert_eq!(tmp["type"], "tmpfs");
    let options = ["nosuid", "nodev", "strictatime", "mode=1777", "size=512m"];
    assert_eq!(tmp["options"], json!(options));
}
