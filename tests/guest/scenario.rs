//! The scenarios: the state before, the command that is interrupted, and what must be true afterwards. What is true of
//! every site is checked by the inspector, not here.

use std::fs;

use crate::sys::sh;
use checks::{all_or_none, datasets_are, jails_are, running_are, sealed_are};

/// A command, and the conditions before and after it.
pub struct Scenario {
    pub name: &'static str,
    /// The script that prepares the pool `tank`, once.
    pub setup: &'static str,
    /// The script that prepares the host after each boot.
    pub boot: &'static str,
    /// The words after `ezz`; a `^` in a word stands for a blank.
    pub command: &'static str,
    /// The error that a second run may report if the first one was complete.
    pub already: &'static str,
    /// The exit codes that are allowed; the first is that of an undisturbed run.
    pub codes: &'static [i32],
    /// Whether the outcome is on the pool, so that a reboot keeps it.
    pub durable: bool,
    /// Checks what must be true right after a cut, before any other command: all or nothing.
    pub atomic: fn() -> Vec<String>,
    /// Checks what must be true after the command was completed `times` times.
    pub end: fn(times: u64) -> Vec<String>,
    /// The script that restores what `setup` created, for many kills in one boot.
    pub reset: &'static str,
    /// The words after `ezz` that start the jails after a power cut: a boot of the lab starts none.
    pub after_boot: &'static str,
    /// The jails that run after the command has ended.
    pub up: &'static [&'static str],
}

/// The values that most scenarios have.
const PLAIN: Scenario = Scenario {
    name: "",
    setup: "",
    boot: "true",
    command: "",
    already: "",
    codes: &[0],
    durable: true,
    atomic: NOTHING,
    end: |_| Vec::new(),
    reset: "true",
    after_boot: "",
    up: &[],
};

/// A site without a world, and the files of one in the current directory.
const MADE: &str = r#"
$EZZ -q init tank/ezz
mkdir -p /tmp/w; cd /tmp/w
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
"#;

/// The site of [`MADE`], with the world as an archive.
const SITE: &str = r#"__MADE__
tar -cf $OUT/world.tar .; cd /; rm -r /tmp/w
"#;

macro_rules! site_and {
    ($more:literal) => {
        concat!("__SITE__\n$EZZ -q install $OUT/world.tar\n", $more)
    };
}

mod checks;
pub mod own;
mod worlds;

const NOTHING: fn() -> Vec<String> = Vec::new;

const BASIC: &[Scenario] = &[
    Scenario {
        name: "init",
        setup: "true",
        boot: "true",
        command: "init tank/ezz",
        already: "is already a site",
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
    },
    Scenario {
        name: "create-one",
        setup: site_and!(""),
        boot: "true",
        command: "create j01",
        already: "already exists",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(1),
        end: |_| jails_are(1, None),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j01 --yes",
        ..PLAIN
    },
    Scenario {
        name: "create-fifty",
        setup: site_and!("$EZZ -q create other"),
        boot: "true",
        command: "create j{01..50}",
        already: "jails already exist",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(50),
        end: |_| jails_are(50, None),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j{01..50} --yes",
        ..PLAIN
    },
    Scenario {
        name: "create-quota",
        setup: site_and!("$EZZ -q create other"),
        boot: "true",
        command: "create j{01..50} --quota 1G",
        already: "jails already exist",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(50),
        end: |_| jails_are(50, Some("1073741824")),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j{01..50} --yes",
        ..PLAIN
    },
    Scenario {
        name: "create-thick",
        setup: site_and!(""),
        boot: "true",
        command: "create j{01..05} --thick --quota 1G",
        already: "jails already exist",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(5),
        end: |_| jails_are(5, Some("1073741824")),
        reset: "[ ! -e /srv/jails/j01 ] || $EZZ -q delete j{01..05} --yes",
        ..PLAIN
    },
    Scenario {
        name: "create-thousand",
        setup: site_and!("$EZZ -q create other"),
        boot: "true",
        command: "create j{0001..1000}",
        already: "jails already exist",
        codes: &[0],
        durable: true,
        atomic: || all_or_none(1000),
        end: |_| jails_are(1000, None),
        reset: "[ ! -e /srv/jails/j0001 ] || $EZZ -q delete 'j*' --yes",
        ..PLAIN
    },
    Scenario {
        name: "clone-twenty",
        setup: site_and!("$EZZ -q create other source --quota 1G; echo mine >/srv/jails/source/root/file; mkdir /srv/jails/source/etc/ssh; echo key >/srv/jails/source/etc/ssh/ssh_host_key"),
        boot: "true",
        command: "clone source j{01..20}",
        already: "jails already exist",
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
    },
];

/// Returns all scenarios.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    BASIC.iter().chain(worlds::ALL)
}

impl Scenario {
    /// Returns the script that prepares the pool. A scenario that needs a real world starts on the golden image.
    pub fn prepares(&self) -> String {
        let setup = worlds::SCRIPTS
            .iter()
            .fold(self.setup.to_owned(), |text, (name, script)| {
                text.replace(name, script)
            });
        setup
            .replace("__SITE__", SITE)
            .replace("__MADE__", MADE)
            .replace("__GOLDEN__", "")
    }

    /// Checks that the jails in `up` run.
    pub fn are_up(&self) -> Vec<String> {
        if self.up.is_empty() {
            return Vec::new();
        }
        running_are(self.up)
    }

    /// Returns whether the command may end with this code.
    pub fn ends_so(&self, code: Option<i32>) -> bool {
        code.is_some_and(|code| self.codes.contains(&code))
    }

    /// Returns the words after `ezz`, with the path of the real world.
    pub fn line(&self) -> String {
        let world = std::env::var("EZZ_LAB_WORLD").unwrap_or_default();
        self.command.replace("$WORLD", &world)
    }
}
