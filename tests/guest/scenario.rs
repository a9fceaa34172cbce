//! The scenarios: what is there before, which command is interrupted, and what has to be true
//! afterwards. What is true of every site is the inspector's business, not theirs.

use std::collections::BTreeMap;
use std::fs;

use crate::sys::{Failure, sh};

/// A command and what is around it.
pub struct Scenario {
    pub name: &'static str,
    /// Prepares the pool `tank`, once.
    pub setup: &'static str,
    /// Prepares the host after each boot.
    pub boot: &'static str,
    /// The words after `ezz`; `^` in one is a blank.
    pub command: &'static str,
    /// What a second run may say, once the first one had done all.
    pub already: &'static str,
    /// How it may end: first, how it does when nobody interrupts it.
    pub codes: &'static [i32],
    /// Whether the outcome is on the pool, so that a reboot does not end it.
    pub durable: bool,
    /// What must be true right after a cut, before any other command: all or nothing.
    pub atomic: fn() -> Vec<String>,
    /// What must be true when the command was done, so many times.
    pub end: fn(times: u64) -> Vec<String>,
    /// Back to what `setup` made, for many kills in one boot.
    pub reset: &'static str,
}

/// A site with a made-up world as generation 1.
const SITE: &str = r#"
$EZZ -q init tank/ezz
mkdir -p $OUT/w; cd $OUT/w
mkdir -p usr/bin usr/sbin usr/lib usr/lib64 usr/share etc var/lib/dpkg var/lib/apt root home tmp dev proc sys run opt srv mnt media boot var/log var/cache var/tmp
ln -s usr/bin bin; ln -s usr/sbin sbin; ln -s usr/lib lib; ln -s usr/lib64 lib64
cp /bin/dash usr/bin/dash; cp /bin/dash usr/bin/su; chmod 4755 usr/bin/su; ln usr/bin/dash usr/bin/sh; cp /bin/true usr/bin/dpkg
printf 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian"\n' >usr/lib/os-release
ln -s ../usr/lib/os-release etc/os-release
echo 12.1 >etc/debian_version
echo 'root:x:0:0:root:/root:/bin/sh' >etc/passwd
echo 'root:*:19000:0:99999:7:::' >etc/shadow; chmod 640 etc/shadow
: >var/lib/dpkg/status; chmod 1777 tmp var/tmp
for d in 1 2 3 4 5 6; do mkdir usr/share/$d etc/$d; for f in a b c d e f g h i j k l; do echo $d$f >usr/share/$d/$f; echo $d$f >etc/$d/$f; done; done
head -c 3000000 /dev/urandom >usr/share/large
tar -cf $OUT/world.tar .; rm -rf $OUT/w; cd /
"#;

macro_rules! site_and {
    ($more:literal) => {
        concat!("__SITE__\n$EZZ -q install $OUT/world.tar\n", $more)
    };
}

const NOTHING: fn() -> Vec<String> = Vec::new;

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "init",
        setup: "true",
        boot: "true",
        command: "init tank/ezz",
        already: "is a site already",
        codes: &[0],
        durable: true,
        atomic: || {
            let made = sh("zfs get -Hpo value,source ezz:format tank/ezz 2>/dev/null || true");
            match made.as_deref() {
                Ok("1\tlocal\n") => datasets_are(&["", "/basejail", "/newjail", "/jails"]),
                Ok("" | "-\t-\n") => Vec::new(),
                other => vec![format!("ezz:format is {other:?}")],
            }
        },
        end: |_| datasets_are(&["", "/basejail", "/newjail", "/jails"]),
        reset: "if zfs list tank/ezz >/dev/null 2>&1; then zfs destroy -r tank/ezz; fi; rm -rf /run/ezz",
    },
    Scenario {
        name: "install",
        setup: "__SITE__",
        boot: "true",
        command: "install $OUT/world.tar",
        already: "",
        codes: &[0],
        durable: true,
        atomic: NOTHING,
        end: |times| sealed_are(times),
        reset: "for n in $(zfs list -Hr -d1 -o name tank/ezz/basejail | sed 's,.*/,,' | grep -v basejail); do
            umount /srv/jails/basejail/$n 2>/dev/null || true; for h in basejail newjail; do
            zfs release ezz tank/ezz/$h/$n@$n 2>/dev/null || true; zfs destroy -r tank/ezz/$h/$n; rmdir /srv/jails/$h/$n 2>/dev/null || true; done; done
            zfs inherit ezz:track:main tank/ezz/basejail; rm -f /srv/jails/basejail/tracks/main",
    },
    Scenario {
        name: "install-debian",
        setup: "$EZZ -q init tank/ezz",
        boot: "true",
        command: "install $WORLD",
        already: "",
        codes: &[0],
        durable: true,
        atomic: NOTHING,
        end: |times| sealed_are(times),
        reset: "false",
    },
    Scenario {
        name: "create-one",
        setup: site_and!(""),
        boot: "true",
        command: "create j01",
        already: "exists already",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(1),
        end: |_| jails_are(1, None),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j01 --yes",
    },
    Scenario {
        name: "create-fifty",
        setup: site_and!("$EZZ -q create other"),
        boot: "true",
        command: "create j{01..50}",
        already: "jails exist already",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(50),
        end: |_| jails_are(50, None),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j{01..50} --yes",
    },
    Scenario {
        name: "create-quota",
        setup: site_and!("$EZZ -q create other"),
        boot: "true",
        command: "create j{01..50} --quota 1G",
        already: "jails exist already",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(50),
        end: |_| jails_are(50, Some("1073741824")),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j{01..50} --yes",
    },
    Scenario {
        name: "create-thick",
        setup: site_and!(""),
        boot: "true",
        command: "create j{01..05} --thick --quota 1G",
        already: "jails exist already",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(5),
        end: |_| jails_are(5, Some("1073741824")),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j{01..05} --yes",
    },
    Scenario {
        name: "create-thousand",
        setup: site_and!("$EZZ -q create other"),
        boot: "true",
        command: "create j{0001..1000}",
        already: "jails exist already",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(1000),
        end: |_| jails_are(1000, None),
        reset: "[ ! -e /srv/jails/j0001 ] || $EZZ -q delete 'j*' --yes",
    },
    Scenario {
        name: "clone-twenty",
        setup: site_and!("$EZZ -q create other source --quota 1G; echo mine >/srv/jails/source/root/file; mkdir /srv/jails/source/etc/ssh; echo key >/srv/jails/source/etc/ssh/ssh_host_key"),
        boot: "true",
        command: "clone source j{01..20}",
        already: "jails exist already",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(20),
        end: |_| {
            let mut wrong = jails_are(20, Some("1073741824"));
            let files = sh("cat /srv/jails/j*/root/file | sort | uniq -c; ls /srv/jails/j*/etc/ssh/ssh_host_key 2>/dev/null || true");
            if !matches!(&files, Ok(text) if text.trim() == "20 mine") {
                wrong.push(format!("the files of the clones are {files:?}"));
            }
            wrong
        },
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j{01..20} --yes",
    },
    Scenario {
        name: "delete-thousand",
        setup: site_and!("$EZZ -q create j{0001..1000} other"),
        boot: "true",
        command: "delete j{0001..1000} --yes",
        already: "there is no jail j0001",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(1000),
        end: |_| jails_are(0, None),
        reset: "[ -e /srv/jails/j0001 ] || $EZZ -q create j{0001..1000}",
    },
    Scenario {
        name: "delete-one",
        setup: site_and!("$EZZ -q create j01 other; echo mine >/srv/jails/j01/root/file"),
        boot: "true",
        command: "delete j01 --yes",
        already: "there is no jail j01",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(1),
        end: |_| jails_are(0, None),
        reset: "[ -e /srv/jails/j01 ] || $EZZ -q create j01",
    },
    Scenario {
        name: "delete-fifty",
        setup: site_and!("$EZZ -q create j{01..50} other"),
        boot: "true",
        command: "delete j{01..50} --yes",
        already: "there is no jail j01",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(50),
        end: |_| jails_are(0, None),
        reset: "[ -e /srv/jails/j01 ] || $EZZ -q create j{01..50}",
    },
    Scenario {
        name: "track",
        setup: site_and!(""),
        boot: "true",
        command: "track create blue --generation 1",
        already: "",
        codes: &[0],
        durable: true,
        atomic: NOTHING,
        end: |_| {
            let link = fs::read_link("/srv/jails/basejail/tracks/blue").ok();
            let right = link.as_deref() == Some("../1".as_ref());
            if right { Vec::new() } else { vec![format!("the link of blue is {link:?}")] }
        },
        reset: "zfs inherit ezz:track:blue tank/ezz/basejail; rm -f /srv/jails/basejail/tracks/blue",
    },
    Scenario {
        name: "track-delete",
        setup: site_and!(
            "$EZZ -q track create blue --generation 1; mkdir -p /srv/jails/.cache/updates/blue/lists"
        ),
        boot: "true",
        command: "track delete blue",
        already: "there is no track blue",
        codes: &[0],
        durable: true,
        atomic: NOTHING,
        end: |_| {
            let left = sh(
                "zfs get -Ho value ezz:track:blue tank/ezz/basejail | grep -vx -e - || true
                ls -d /srv/jails/basejail/tracks/blue /srv/jails/.cache/updates/blue 2>/dev/null || true",
            );
            match left.as_deref() {
                Ok("") => Vec::new(),
                other => vec![format!("of blue is left: {other:?}")],
            }
        },
        reset: "$EZZ -q track create blue --generation 1; mkdir -p /srv/jails/.cache/updates/blue/lists",
    },
    Scenario {
        name: "adopt",
        setup: site_and!(
            "$EZZ -q create a b --quota 1G; $EZZ -q create big --thick
            zfs snapshot -r tank/ezz@sent; zfs send -R tank/ezz@sent >$OUT/stream
            for h in basejail newjail; do zfs release ezz tank/ezz/$h/1@1; done
            for m in a b big basejail/1; do umount /srv/jails/$m; done; zfs destroy -r tank/ezz
            zfs receive -u tank/ezz <$OUT/stream"
        ),
        boot: "true",
        command: "--site tank/ezz doctor --adopt",
        already: "",
        codes: &[0],
        durable: true,
        atomic: || {
            let sources = sh("zfs get -Hr -t filesystem -o source,property -s local,received all tank/ezz | awk '$2 ~ /^ezz:/ { print $1 }' | sort | uniq");
            match sources.as_deref() {
                Ok("local\n" | "received\n") => Vec::new(),
                other => vec![format!("the adoption is neither done nor not: {other:?}")],
            }
        },
        end: |_| {
            let received = sh("zfs get -Hr -o name,property -s received all tank/ezz | grep ezz: || true");
            match received.as_deref() {
                Ok("") => Vec::new(),
                other => vec![format!("received still: {other:?}")],
            }
        },
        reset: "for m in a b big basejail/1; do umount /srv/jails/$m 2>/dev/null || true; done
            for h in basejail newjail; do zfs release ezz tank/ezz/$h/1@1 2>/dev/null || true; done
            zfs destroy -r tank/ezz; rmdir /srv/jails 2>/dev/null || true; zfs receive -u tank/ezz <$OUT/stream",
    },
    Scenario {
        name: "repair",
        setup: site_and!(""),
        boot: r#"
            $EZZ -q create a half; zfs set ezz:seq=8 tank/ezz
            zfs release ezz tank/ezz/newjail/1@1
            ln -sfn ../9 /srv/jails/basejail/tracks/main
            umount /srv/jails/basejail/1; umount /srv/jails/a; chmod 755 /srv/jails
            for n in 7 8; do zfs create -u -o readonly=off tank/ezz/basejail/$n; zfs create -u -o canmount=noauto tank/ezz/newjail/$n; done
            zfs set ezz:jail='{"kind":"thin","base":{"track":"main"},"skel":1,"hostname":"half","network":"host","todo":[{"quota":1073741824}]}' tank/ezz/jails/half
            d=/var/log/ezz/$(zfs get -Hpo value ezz:id tank/ezz); mkdir -p $d; : >$d/gone.log"#,
        command: "doctor --repair",
        already: "",
        codes: &[0],
        durable: true,
        atomic: NOTHING,
        end: |_| match sh("zfs get -Hpo value quota tank/ezz/jails/half").as_deref() {
            Ok("1073741824\n") => Vec::new(),
            other => vec![format!("the quota of half is {other:?}")],
        },
        reset: "$EZZ -q delete a half --yes",
    },
    Scenario {
        name: "start",
        setup: "__GOLDEN__ $EZZ -q create a b",
        boot: "true",
        command: "start a b",
        already: "",
        codes: &[0],
        durable: false,
        atomic: NOTHING,
        end: |_| running_are(&["a", "b"]),
        reset: "$EZZ -q stop a b",
    },
    Scenario {
        name: "stop",
        setup: "__GOLDEN__ $EZZ -q create a b",
        boot: "$EZZ -q start a b
            for j in a b; do $EZZ -q exec $j -- sh -c '(trap \"sleep 0.5; exit\" TERM; while :; do sleep 1; done) </dev/null >/dev/null 2>&1 &'; done",
        command: "stop a b",
        already: "",
        codes: &[0],
        durable: false,
        atomic: NOTHING,
        end: |_| running_are(&[]),
        reset: "true",
    },
    Scenario {
        name: "delete-running",
        setup: "__GOLDEN__ $EZZ -q create j01 other",
        boot: "$EZZ -q start j01",
        command: "delete j01 --yes",
        already: "there is no jail j01",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(1),
        end: |_| [jails_are(0, None), running_are(&[])].concat(),
        reset: "[ -e /srv/jails/j01 ] || $EZZ -q create j01",
    },
    Scenario {
        name: "converge",
        setup: "__GOLDEN__ $EZZ -q create a b c
            $EZZ -q update --stage-only --on-host --run /bin/sh -c 'echo new >$EZZ_ROOT/usr/share/new'",
        boot: "$EZZ -q start a b c; $EZZ -q update --swap 2; touch /run/started",
        command: "converge --batch 2 --health test^-e^/usr/share/new",
        already: "",
        codes: &[0],
        durable: false,
        atomic: track_is_whole,
        // A boot starts none of them.
        end: |_| {
            let up: &[&str] = match fs::exists("/run/started") {
                Ok(true) => &["a", "b", "c"],
                Ok(false) | Err(_) => &[],
            };
            [rolled_out(2), running_are(up)].concat()
        },
        reset: "$EZZ -q rollback --to 1; $EZZ -q converge; $EZZ -q start a b c",
    },
    Scenario {
        name: "update",
        setup: site_and!("$EZZ -q create j01"),
        boot: "true",
        command: "update --on-host --run /bin/sh -c date^+%N^>$EZZ_ROOT/usr/share/new",
        already: "",
        codes: &[0],
        durable: true,
        atomic: track_is_whole,
        end: |times| newest_is_current(1 + times),
        reset: "true",
    },
    Scenario {
        name: "swap",
        setup: site_and!("$EZZ -q install $OUT/world.tar"),
        boot: "true",
        command: "update --swap 2",
        already: "",
        codes: &[0],
        durable: true,
        atomic: track_is_whole,
        end: |_| current_is(2),
        reset: "$EZZ -q rollback --to 1",
    },
    Scenario {
        name: "rollback",
        setup: site_and!("$EZZ -q install $OUT/world.tar; $EZZ -q update --swap 2"),
        boot: "true",
        command: "rollback --to 1",
        already: "",
        codes: &[0],
        durable: true,
        atomic: track_is_whole,
        end: |_| current_is(1),
        reset: "$EZZ -q update --swap 2",
    },
    Scenario {
        name: "prune",
        setup: site_and!(
            "$EZZ -q create j01
            for n in 1 2 3 4; do $EZZ -q update --on-host --run /bin/sh -c 'date +%N >$EZZ_ROOT/usr/share/new'; done
            $EZZ -q merge j01"
        ),
        boot: "true",
        command: "world prune --yes",
        already: "",
        codes: &[0],
        durable: true,
        atomic: track_is_whole,
        end: |_| two_are_left(),
        reset: "for n in 1 2; do $EZZ -q update --on-host --run /bin/sh -c 'date +%N >$EZZ_ROOT/usr/share/new'; done; $EZZ -q merge j01",
    },
    Scenario {
        name: "merge",
        setup: site_and!(
            "$EZZ -q create j01; echo mine >/srv/jails/j01/etc/2/b
            mkdir $OUT/v; tar -xf $OUT/world.tar -C $OUT/v; for d in 1 2 3 4 5 6; do echo new >$OUT/v/etc/$d/a; rm $OUT/v/etc/$d/l; done
            tar -cf $OUT/world2.tar -C $OUT/v .; rm -r $OUT/v; $EZZ -q update --from $OUT/world2.tar"
        ),
        boot: "true",
        command: "merge j01",
        codes: &[0],
        already: "",
        durable: true,
        atomic: NOTHING,
        end: |_| match sh("zfs get -Hpo value ezz:jail tank/ezz/jails/j01 | grep -o '\"skel\":[0-9]*'
                cd /srv/jails/j01/etc; cat 1/a 6/a 2/b; ls 1/l 6/l 2>/dev/null || true").as_deref() {
            Ok("\"skel\":2\nnew\nnew\nmine\n") => Vec::new(),
            other => vec![format!("it is not merged: {other:?}")],
        },
        reset: "$EZZ -q delete j01 --yes; $EZZ -q rollback --to 1; $EZZ -q create j01; echo mine >/srv/jails/j01/etc/2/b; $EZZ -q rollback --to 2",
    },
    Scenario {
        name: "merge-back",
        setup: site_and!(
            "$EZZ -q create j01; echo mine >/srv/jails/j01/etc/2/b
            mkdir $OUT/v; tar -xf $OUT/world.tar -C $OUT/v; for d in 1 2 3 4 5 6; do echo new >$OUT/v/etc/$d/a; rm $OUT/v/etc/$d/l; done
            tar -cf $OUT/world2.tar -C $OUT/v .; rm -r $OUT/v; $EZZ -q update --from $OUT/world2.tar
            $EZZ -q merge j01; $EZZ -q rollback --to 1"
        ),
        boot: "true",
        command: "merge j01",
        codes: &[0],
        already: "",
        durable: true,
        atomic: NOTHING,
        end: |_| match sh("zfs get -Hpo value ezz:jail tank/ezz/jails/j01 | grep -o '\"skel\":[0-9]*'
                cd /srv/jails/j01/etc; grep -l new [1-6]/a || true; cat 2/b; ls 1/l 6/l").as_deref() {
            Ok("\"skel\":1\nmine\n1/l\n6/l\n") => Vec::new(),
            other => vec![format!("it is not back: {other:?}")],
        },
        reset: "$EZZ -q rollback --to 2; $EZZ -q merge j01; $EZZ -q rollback --to 1",
    },
    Scenario {
        name: "rollout",
        setup: "__GOLDEN__ $EZZ -q create a b c
            $EZZ -q update --stage-only --on-host --run /bin/sh -c 'echo new >$EZZ_ROOT/usr/share/new'",
        boot: "$EZZ -q start a b c",
        command: "update --swap 2 --restart --canary a --batch 1 --health test^-e^/usr/share/new",
        already: "",
        codes: &[0],
        durable: true,
        atomic: track_is_whole,
        end: |_| rolled_out(2),
        reset: "$EZZ -q rollback --to 1 --restart; $EZZ -q start a b c",
    },
    Scenario {
        name: "rollout-back",
        setup: "__GOLDEN__ $EZZ -q create a b c
            $EZZ -q update --stage-only --on-host --run /bin/sh -c 'echo new >$EZZ_ROOT/usr/share/new'",
        boot: "$EZZ -q start a b c",
        command: "update --swap 2 --restart --batch 2 --health-limit 1 --health test^!^-e^/usr/share/new",
        already: "was rejected",
        codes: &[1, 0],
        durable: true,
        atomic: track_is_whole,
        // After a reboot nothing runs, hence nothing fails: it goes on then.
        end: |_| {
            let back = rolled_out(1);
            if rolled_out(2).is_empty() { Vec::new() } else { back }
        },
        reset: "zfs inherit ezz:rejected tank/ezz/basejail/2; $EZZ -q rollback --to 1 --restart; $EZZ -q start a b c",
    },
];

impl Scenario {
    /// The script that prepares the pool. What needs a real world starts on the golden image.
    pub fn prepares(&self) -> String {
        self.setup
            .replace("__SITE__", SITE)
            .replace("__GOLDEN__", "")
    }

    /// Whether it may end with this code.
    pub fn ends_so(&self, code: Option<i32>) -> bool {
        code.is_some_and(|code| self.codes.contains(&code))
    }

    /// The words after `ezz`, with the real world's path.
    pub fn line(&self) -> String {
        let world = std::env::var("EZZ_LAB_WORLD").unwrap_or_default();
        self.command.replace("$WORLD", &world)
    }
}

fn complain(so: bool, what: String) -> Vec<String> {
    if so { Vec::new() } else { vec![what] }
}

fn lines(script: &str) -> Result<Vec<String>, Failure> {
    Ok(sh(script)?.lines().map(str::to_owned).collect())
}

fn datasets_are(below: &[&str]) -> Vec<String> {
    let mut wanted: Vec<String> = below.iter().map(|name| format!("tank/ezz{name}")).collect();
    wanted.sort();
    let found = lines("zfs list -Hr -o name tank/ezz | sort").unwrap_or_default();
    complain(
        found == wanted,
        format!("there are {found:?}, not {wanted:?}"),
    )
}

/// So many sealed generations, and the track on the first.
fn sealed_are(times: u64) -> Vec<String> {
    let script = "zfs get -Hrpo name -t snapshot -s local ezz:sealed tank/ezz/basejail | sort";
    let sealed = match lines(script) {
        Ok(sealed) => sealed,
        Err(Failure(why)) => return vec![why],
    };
    let mut wrong = complain(
        sealed.len() as u64 == times,
        format!("{times} were to be sealed, and there are {sealed:?}"),
    );
    let track = sh("zfs get -Hpo value ezz:track:main tank/ezz/basejail").unwrap_or_default();
    let first = sealed.first().and_then(|name| name.rsplit_once('@'));
    let current = first.is_some_and(|(_, n)| track.contains(&format!("\"current\":{n},")));
    if !current {
        wrong.push(format!("the track is {track}, and sealed are {sealed:?}"));
    }
    wrong
}

/// The jails of the command: name, `ezz:jail`, quota.
fn jails() -> Result<BTreeMap<String, (String, String)>, Failure> {
    let rows = lines("zfs get -Hrp -d1 -o name,property,value ezz:jail,quota tank/ezz/jails")?;
    let mut jails: BTreeMap<String, (String, String)> = BTreeMap::new();
    for row in &rows {
        let mut columns = row.splitn(3, '\t');
        let (name, property) = (columns.next().unwrap_or_default(), columns.next());
        let value = columns.next().unwrap_or_default().to_owned();
        let Some(name) = name.strip_prefix("tank/ezz/jails/j") else {
            continue;
        };
        let jail = jails.entry(format!("j{name}")).or_default();
        match property {
            Some("quota") => jail.1 = value,
            _ => jail.0 = value,
        }
    }
    Ok(jails)
}

/// All jails of the command, or none; all with something left to do, or none. While its intent is
/// there a batch does not count, and what there is of it is debris.
fn all_or_none(count: usize) -> Vec<String> {
    let intents = "zfs get -Hpo property all tank/ezz/jails | grep -c ^ezz:intent: || true";
    let (jails, intents) = match (jails(), sh(intents)) {
        (Ok(jails), Ok(intents)) => (jails, intents),
        (Err(Failure(why)), _) | (_, Err(Failure(why))) => return vec![why],
    };
    if intents != "0\n" {
        return Vec::new();
    }
    let found = jails.len();
    let unfinished = jails
        .values()
        .filter(|(config, _)| config.contains("\"todo\""))
        .count();
    let mut wrong = complain(
        found == 0 || found == count,
        format!("not atomic: {found} of {count} jails are there"),
    );
    if unfinished != 0 && unfinished != found {
        wrong.push(format!(
            "not atomic: {unfinished} of {found} jails have something to do"
        ));
    }
    wrong
}

fn jails_are(count: usize, quota: Option<&str>) -> Vec<String> {
    match jails() {
        Ok(jails) => {
            let without = jails
                .values()
                .filter(|(_, is)| quota.is_some_and(|quota| is != quota))
                .count();
            let so = jails.len() == count && without == 0;
            complain(
                so,
                format!("{} of {count} jails, {without} without quota", jails.len()),
            )
        }
        Err(Failure(why)) => vec![why],
    }
}

/// Which jails run, by the processes in their cgroups.
fn running_are(wanted: &[&str]) -> Vec<String> {
    let script = "for f in /sys/fs/cgroup/ezz/*/*/cgroup.procs /sys/fs/cgroup/ezz/*/*/*/cgroup.procs; do
        [ ! -e $f ] || [ -z \"$(cat $f 2>/dev/null)\" ] || echo $f; done | cut -d/ -f7 | grep -v ^_ | sort -u || true";
    match lines(script) {
        Ok(found) => complain(found == wanted, format!("{found:?} run, not {wanted:?}")),
        Err(Failure(why)) => vec![why],
    }
}

/// `ezz:track:main`: its current and previous generation, 0 for none.
fn track() -> Result<(u64, u64), Failure> {
    let text = sh("zfs get -Hpo value ezz:track:main tank/ezz/basejail")?;
    let number = |key: &str| {
        let rest = text.split_once(&format!("\"{key}\":"));
        let digits = rest.map_or("", |(_, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_digit());
            &rest[..end.unwrap_or(rest.len())]
        });
        digits.parse().unwrap_or(0)
    };
    Ok((number("current"), number("previous")))
}

/// The track and the last entry of its log changed together.
fn track_is_whole() -> Vec<String> {
    let log = "zfs get -Hpo value -s local ezz:swaps:main tank/ezz/basejail";
    match (track(), sh(log)) {
        (Ok((current, _)), Ok(log)) if !log.is_empty() => {
            let last = log.rsplit("\"to\":").next().unwrap_or_default();
            let so = last.starts_with(&format!("{current},"));
            complain(so, format!("the track is at {current}, its log says {log}"))
        }
        // No swap yet: where the first world has put it.
        (Ok((current, _)), Ok(_)) => complain(
            current == 1,
            format!("the track is at {current}, without a log"),
        ),
        (Err(Failure(why)), _) | (_, Err(Failure(why))) => vec![why],
    }
}

fn current_is(wanted: u64) -> Vec<String> {
    let link = fs::read_link("/srv/jails/basejail/tracks/main").ok();
    let right = link.as_deref() == Some(format!("../{wanted}").as_ref());
    match track() {
        Ok((current, _)) => complain(
            current == wanted && right,
            format!("the track is at {current}, its link is {link:?}"),
        ),
        Err(Failure(why)) => vec![why],
    }
}

/// At least so many sealed generations, and the track at the last of them.
fn newest_is_current(least: u64) -> Vec<String> {
    let script = "zfs get -Hrpo name -t snapshot -s local ezz:sealed tank/ezz/basejail | sed 's/.*@//' | sort -n";
    match lines(script) {
        Ok(sealed) => {
            let newest = sealed.last().and_then(|n| n.parse().ok()).unwrap_or(0);
            let mut wrong = current_is(newest);
            wrong.extend(complain(
                sealed.len() as u64 >= least,
                format!("{least} were to be sealed, and there are {sealed:?}"),
            ));
            wrong
        }
        Err(Failure(why)) => vec![why],
    }
}

/// Of the bases those of the track, of the skeletons those and the one that a jail is a clone of.
fn two_are_left() -> Vec<String> {
    let below = |half: &str| {
        lines(&format!(
            "zfs list -Hd1 -o name tank/ezz/{half} | sed -n 's,tank/ezz/{half}/,,p' | sort -n"
        ))
    };
    match (track(), below("basejail"), below("newjail")) {
        (Ok((current, previous)), Ok(bases), Ok(skeletons)) => {
            let mut wanted = vec![previous, current];
            wanted.sort_unstable();
            let mut with_first = vec![1];
            with_first.extend(wanted.iter().filter(|n| **n != 1));
            let text = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>();
            let so = bases == text(&wanted) && skeletons == text(&with_first);
            complain(
                so,
                format!("bases {bases:?}, skeletons {skeletons:?}, not {wanted:?}"),
            )
        }
        (Err(Failure(why)), ..) | (_, Err(Failure(why)), _) | (.., Err(Failure(why))) => vec![why],
    }
}

/// The track is there, nothing is under way, and no jail has anything else.
fn rolled_out(wanted: u64) -> Vec<String> {
    let mut wrong = current_is(wanted);
    let left = sh(
        "zfs get -Hpo property -s local all tank/ezz/basejail | grep ezz:rollout: || true
        zfs get -Hpo value -t filesystem -d1 ezz:jail tank/ezz/jails | grep '\"pin\"' || true",
    );
    match left {
        Ok(left) => wrong.extend(complain(
            left.is_empty(),
            format!("under way still: {left}"),
        )),
        Err(Failure(why)) => wrong.push(why),
    }
    let others = format!("for f in /run/ezz/*/jails/*/pid; do [ -e $f ] || continue
        grep -h ' /basejail ' /proc/$(cat $f)/mountinfo | grep -v 'tank/ezz/basejail/{wanted} ' || true; done");
    match sh(&others) {
        Ok(others) => wrong.extend(complain(
            others.is_empty(),
            format!("some run on: {others}"),
        )),
        Err(Failure(why)) => wrong.push(why),
    }
    wrong
}
