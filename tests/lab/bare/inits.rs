//! Jails with the inits that Debian has: systemd, sysvinit and busybox end what they have started; and ping.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::inspect;
use crate::support::*;

/// A service that takes some time to end.
const SERVICE: &str = "#!/bin/sh
trap 'sleep 1; echo saved >/root/saved; exit' TERM
echo $$ >/run/service
while :; do sleep 0.2; done
";

/// A service that does not end.
const DEAF: &str = "#!/bin/sh
trap '' TERM HUP INT
echo $$ >/run/service
while :; do sleep 1; done
";

/// A script that starts and stops a service without systemd. Its stop waits for the service.
const SCRIPT: &str = "#!/bin/sh
case $1 in
start) setsid /root/service </dev/null >/dev/null 2>&1 & ;;
stop) kill $(cat /run/service); while kill -0 $(cat /run/service) 2>/dev/null; do sleep 0.1; done ;;
esac
";

/// The inittab of busybox. A login waits at the console.
const INITTAB: &str = "::respawn:/root/service
::askfirst:/bin/sh
::shutdown:/etc/init.d/service stop
";

/// Makes a clock run five times as fast: an init has a minute and a half to end.
const FAST: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    if (done == 0 && clock == CLOCK_MONOTONIC) {
        long long all = 5 * (now->tv_sec * 1000000000LL + now->tv_nsec);
        now->tv_sec = all / 1000000000LL;
        now->tv_nsec = all % 1000000000LL;
    }
    return done;
}
"#;

fn jail(name: &str, path: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name).join(path)
}

#[track_caller]
fn write(at: &Path, text: &str, mode: u32) {
    fs::create_dir_all(at.parent().expect("it has one")).expect("made");
    fs::write(at, text).expect("written");
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).expect("set");
}

#[track_caller]
fn link(target: &str, at: &Path) {
    fs::create_dir_all(at.parent().expect("it has one")).expect("made");
    let _ = fs::remove_file(at);
    symlink(target, at).expect("linked");
}

/// Gives a jail its service, as a package would.
#[track_caller]
fn serve(name: &str, service: &str) {
    write(&jail(name, "root/service"), service, 0o755);
    write(&jail(name, "etc/init.d/service"), SCRIPT, 0o755);
}

/// Makes sysvinit the init of a thick jail, with Debian's own inittab and scripts.
#[track_caller]
fn sysvinit(name: &str, service: &str) {
    let root = jail(name, "");
    let root = root.display();
    sh(&format!(
        "cp -a --remove-destination {root}/usr/lib/sysvinit/. {root}/ && cp {root}/usr/share/sysvinit/inittab {root}/etc/inittab"
    ))
    .ok();
    serve(name, service);
    link("../init.d/service", &jail(name, "etc/rc2.d/S01service"));
    link("../init.d/service", &jail(name, "etc/rc6.d/K01service"));
    link("../init.d/sendsigs", &jail(name, "etc/rc6.d/K02sendsigs"));
    link("../init.d/reboot", &jail(name, "etc/rc6.d/K03reboot"));
}

#[track_caller]
fn busybox(name: &str) {
    link("../bin/busybox", &jail(name, "usr/sbin/init"));
    serve(name, SERVICE);
    write(&jail(name, "etc/inittab"), INITTAB, 0o644);
}

/// Gives a jail units, as its administrator would.
#[track_caller]
fn systemd(name: &str) {
    for (unit, service) in [("service", SERVICE), ("deaf", DEAF)] {
        let script = format!("root/{unit}");
        write(&jail(name, &script), service, 0o755);
        let text = format!("[Service]\nExecStart=/{script}\nTimeoutStopSec=2\n");
        let units = "etc/systemd/system";
        write(
            &jail(name, &format!("{units}/{unit}.service")),
            &text,
            0o644,
        );
        let wanted = format!("{units}/multi-user.target.wants/{unit}.service");
        link(&format!("../{unit}.service"), &jail(name, &wanted));
    }
}

#[track_caller]
fn serves(name: &str) {
    let pid = || ezz(&["exec", name, "--", "cat", "/run/service"]).code == 0;
    wait_for(&format!("the service of {name}"), 60, pid);
}

/// Stops a jail whose init ends everything that it has started, and checks that this takes less than half of its time.
#[track_caller]
fn in_order(name: &str) {
    let begun = Instant::now();
    let stopped = ezz(&["stop", name, "--json"]).ok();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(50), "{name}: {took:?}");
    assert!(stopped.json()[0]["killed"].is_null(), "{stopped:#?}");
    assert!(!stopped.stderr.contains("killed"), "{stopped:#?}");
    let saved = fs::read_to_string(jail(name, "root/saved")).unwrap_or_default();
    assert_eq!(saved, "saved\n", "{name}");
}

/// Checks that Debian 13's ping needs no right where the host lets every group open its sockets, and that the ping of
/// Debian 12 does not start in a jail because of its file capability.
#[track_caller]
fn ping(look: &dyn Fn(&str) -> Ended) {
    let groups = |range: &str| fs::write("/proc/sys/net/ipv4/ping_group_range", range);
    groups("0 2147483647").expect("written");
    let answer = look("ping -c1 127.0.0.1").ok();
    assert!(answer.stdout.contains("1 received"), "{answer:#?}");
    groups("1 0").expect("written");
    let closed = ezz(&["exec", "systemd", "--", "ping", "-c1", "127.0.0.1"]);
    assert!(![0, 126, 127].contains(&closed.code), "{closed:#?}");
    let hint = "`sysctl net.ipv4.ping_group_range='0 2147483647'` opens it";
    assert!(closed.stderr.contains(hint), "{closed:#?}");
    // There is no such note for another command that fails, or for a ping that fails for another reason.
    let other = look("ping -c1 127.0.0.1; exit 5").exits(5);
    assert!(!other.stderr.contains("sysctl"), "{other:#?}");
    groups("0 2147483647").expect("written");
    let nowhere = ezz(&["exec", "systemd", "--", "ping", "-c1", "192.0.2.1"]);
    assert_ne!(nowhere.code, 0, "{nowhere:#?}");
    assert!(!nowhere.stderr.contains("sysctl"), "{nowhere:#?}");
    let own = jail("systemd", "usr/local/bin/ping");
    fs::copy(Path::new(DIRECTORY).join("basejail/1/usr/bin/ping"), &own).expect("copied");
    sh(&format!("setcap cap_net_raw=ep {}", own.display())).ok();
    let refused = ezz(&["exec", "systemd", "--", "ping", "-c1", "127.0.0.1"]);
    let refused = refused.refused(126, "its file has capabilities that no jail has");
    assert!(refused.stderr.contains("setcap -r"), "{refused:#?}");
}

#[test]
fn the_inits_of_debian_end_their_services() {
    let world = variable("EZZ_LAB_INITS").expect("`vagrant/lab/lab world inits` makes it");
    init();
    ezz(&["-q", "install", &world]).ok();
    ezz(&["create", "systemd"]).ok();
    ezz(&["create", "busybox", "sysvinit", "deaf", "--thick"]).ok();
    systemd("systemd");
    busybox("busybox");
    sysvinit("sysvinit", SERVICE);
    sysvinit("deaf", DEAF);
    ezz(&["start", "--all"]).ok();
    for (name, program) in [
        ("systemd", "/usr/lib/systemd/systemd"),
        ("busybox", "/usr/bin/busybox"),
        ("sysvinit", "/usr/sbin/init"),
        ("deaf", "/usr/sbin/init"),
    ] {
        let pid = sh(&format!("cat /run/ezz/*/jails/{name}/pid")).ok().stdout;
        let runs = fs::read_link(format!("/proc/{}/exe", pid.trim())).expect("it runs");
        assert!(runs.ends_with(program.trim_start_matches('/')), "{runs:?}");
        serves(name);
    }

    // A service that does not end is killed when the time of its init is over, and reported.
    fs::write("/tmp/fast.c", FAST).expect("written");
    sh("gcc -shared -fPIC -o /tmp/fast.so /tmp/fast.c").ok();
    let command =
        format!("LD_PRELOAD=/tmp/fast.so {EZZ} stop deaf --json >/tmp/deaf.out 2>/tmp/deaf.err");
    let mut deaf = spawn("/", &command);

    // None of systemd's own units fails in a jail.
    let look = |words: &str| ezz(&["exec", "systemd", "--", "sh", "-c", words]);
    let state = look("timeout 100 systemctl is-system-running --wait");
    let failed = look("systemctl --no-pager --failed; systemctl --no-pager list-jobs");
    assert_eq!(state.stdout, "running\n", "{state:#?} {failed:#?}");

    ping(&look);
    for name in ["systemd", "busybox", "sysvinit"] {
        in_order(name);
    }
    assert!(deaf.wait().expect("a child").success());
    let told = fs::read_to_string("/tmp/deaf.err").expect("written");
    let words = "did not end within 100 s and were killed: ";
    assert!(told.contains(words), "{told}");
    let out = fs::read_to_string("/tmp/deaf.out").expect("written");
    assert!(out.contains(r#""name":"service""#), "{out}");
    assert_eq!(inspect::site(SITE), [""; 0]);
    ezz(&["doctor"]).ok();
}
