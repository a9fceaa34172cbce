//! Scenarios whose worlds change under jails.
//!
//! The skeletons of the two worlds differ in everything that a merge handles: files that were added, removed and
//! changed, users with other numbers, and changes of type. The jails have changed files of their own. The files of each
//! jail at each generation are recorded while the pool is prepared, by a merge and its undoing without an interruption
//! (`own`).

use super::checks::{current_is, moved_to, newest_is_current, track, track_is_whole, two_are_left};
use super::own::{When, as_recorded, stands};
use super::{PLAIN, Scenario};

/// The names that scripts of scenarios may use; a name that occurs in one of these scripts comes after it.
pub(super) const SCRIPTS: &[(&str, &str)] = &[
    ("__RUNNING__", RUNNING),
    ("__STOPPED__", STOPPED),
    ("__WORLDS__", WORLDS),
];

/// A site with the first world as generation 1, the archive of the second, and shell functions that edit jails.
const WORLDS: &str = r#"__MADE__
for p in sleep cat ls mkdir rm ln mv touch chmod cp tail head; do cp "$(command -v $p)" usr/bin/; done
for l in $(ldd /bin/dash usr/bin/sleep usr/bin/ls usr/bin/cp usr/bin/mv | grep -o '/lib[^ ]*' | sort -u); do mkdir -p .${l%/*}; cp $l .$l; done
mkdir -p etc/t/dir var/lib/db opt/x
printf 'a\nb\nc\nd\ne\nf\ng\nh\n' >etc/lines; echo old >etc/both; echo old >opt/x/prog
echo old >etc/t/file; echo old >etc/t/dir/x; ln -s file etc/t/link
printf 'root:x:0:0:root:/root:/bin/sh\ndb:x:102:102::/var/lib/db:/bin/sh\n' >etc/passwd
printf 'root:x:0:\ndb:x:102:\n' >etc/group
echo old >var/lib/db/data; chown -R 102:102 var/lib/db; chmod 700 var/lib/db
tar -cf $OUT/world.tar .
for d in 1 2 3 4 5 6; do echo new >etc/$d/a; rm etc/$d/l; done
printf 'A\nb\nc\nd\ne\nf\ng\nh\n' >etc/lines; echo theirs >etc/both; echo new >opt/x/prog; echo new >opt/x/more
rm etc/t/file etc/t/link; mkdir etc/t/file; echo new >etc/t/file/x; rm -r etc/t/dir; ln -s link etc/t/dir; echo new >etc/t/link
printf 'root:x:0:0:root:/root:/bin/sh\ndb:x:101:101::/var/lib/db:/bin/sh\nsvc:x:102:102::/var/lib/svc:/bin/sh\n' >etc/passwd
printf 'root:x:0:\ndb:x:101:\nsvc:x:102:\n' >etc/group
mkdir -p etc/svc var/lib/svc/deep; echo conf >etc/svc/conf; echo seed >var/lib/svc/deep/seed
chown -R 101:101 var/lib/db; chown -R 102:102 etc/svc/conf var/lib/svc; chmod 2750 var/lib/svc/deep; chmod 600 etc/svc/conf
echo new >usr/share/new; echo 12.2 >etc/debian_version
tar -cf $OUT/world2.tar .; cd /; rm -r /tmp/w
$EZZ -q install $OUT/world.tar
edited() { for j in "$@"; do ( cd /srv/jails/$j
    sed -i 's/^h$/H mine/' etc/lines; echo mine >etc/2/b; echo mine >etc/own; echo mine >var/lib/db/data
    echo 'alice:x:1001:1001::/home/alice:/bin/sh' >>etc/passwd; echo 'alice:x:1001:' >>etc/group
    mkdir home/alice; echo mine >home/alice/file; chown -R 1001:1001 home/alice ); done; }
# The number that svc gets is another's in this one.
numbered() { ( cd /srv/jails/$1; echo 'mine:x:999:999::/:/bin/sh' >>etc/passwd; echo 'mine:x:999:' >>etc/group
    echo mine >opt/mine; chown 999:999 opt/mine ); }
held() { "$@" || [ $? -eq 3 ]; }
"#;

/// Three jails at generation 1: in b another account has the number that the second world gives to a new one, and c has
/// a conflict.
const RUNNING: &str = r#"__WORLDS__
$EZZ -q create a b c; $EZZ -q start a b c; $EZZ -q stop a b c
edited a b c; numbered b; echo mine >/srv/jails/c/etc/both
$GUEST own a b c
$EZZ -q update --from $OUT/world2.tar; $EZZ -q merge a b; $GUEST own a b
$EZZ -q rollback --to 1; $EZZ -q merge a b; $GUEST own a b
"#;

/// One jail that does not run, with a conflict; a merge by hand keeps both versions.
const STOPPED: &str = r#"__WORLDS__
$EZZ -q create j01; edited j01; numbered j01; echo mine >/srv/jails/j01/etc/both
$GUEST own j01
$EZZ -q update --from $OUT/world2.tar; held $EZZ -q merge j01; $GUEST own j01
grep -q '^svc:x:998:' /srv/jails/j01/etc/passwd; grep -q '^H mine' /srv/jails/j01/etc/lines; test -e /srv/jails/j01/etc/both.ezz-new
$EZZ -q rollback --to 1; $EZZ -q merge j01; $GUEST own j01
"#;

/// Checks that the track is whole, and that each jail is at one of the generations or is marked as being merged.
fn each_is_whole() -> Vec<String> {
    let own = as_recorded(&["a", "b", "c"], When::Interrupted);
    [track_is_whole(), own].concat()
}

fn one_is_whole() -> Vec<String> {
    as_recorded(&["j01"], When::Interrupted)
}

/// Checks that the only jail follows its track, with the own files of this generation.
fn merged_to(generation: u64) -> Vec<String> {
    let mut wrong = as_recorded(&["j01"], When::Settled);
    let is = stands("j01");
    if is != format!(r#"{{"track":"main"}} {generation}"#) {
        wrong.push(format!("j01 is at {is}"));
    }
    wrong
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "converge",
        setup: "__RUNNING__",
        boot: "$EZZ -q start a b c; $EZZ -q update --swap 2",
        command: "converge --batch 2 --health test^-e^/etc/own",
        codes: &[3, 0],
        durable: false,
        atomic: each_is_whole,
        end: |_| moved_to(2),
        reset: "$EZZ -q rollback --to 1 --restart",
        after_boot: "start a b c",
        up: &["a", "b", "c"],
        ..PLAIN
    },
    Scenario {
        name: "update",
        setup: "__WORLDS__
            $EZZ -q create j01; edited j01; numbered j01; $GUEST own j01",
        command: "update --from $OUT/world2.tar",
        atomic: || [track_is_whole(), one_is_whole()].concat(),
        end: |times| [newest_is_current(1 + times), merged_to(1)].concat(),
        ..PLAIN
    },
    Scenario {
        name: "swap",
        setup: site_and!("$EZZ -q install $OUT/world.tar"),
        command: "update --swap 2",
        atomic: track_is_whole,
        end: |_| current_is(2),
        reset: "$EZZ -q rollback --to 1",
        ..PLAIN
    },
    Scenario {
        name: "rollback",
        setup: "__RUNNING__
            $EZZ -q start a b c; $EZZ -q update --swap 2; held $EZZ -q converge; $EZZ -q stop a b c; $GUEST own a b c",
        boot: "$EZZ -q start a b c",
        command: "rollback --to 1 --restart",
        atomic: each_is_whole,
        end: |_| moved_to(1),
        reset: "$EZZ -q update --swap 2; $EZZ -q converge || [ $? -eq 3 ]",
        after_boot: "start a b c",
        up: &["a", "b", "c"],
        ..PLAIN
    },
    Scenario {
        name: "prune",
        setup: site_and!(
            "$EZZ -q create j01
            for n in 1 2 3 4; do $EZZ -q update --on-host --run /bin/sh -c 'date +%N >$EZZ_ROOT/usr/share/new; date +%N >$EZZ_ROOT/etc/1/a'; done
            $EZZ -q merge j01"
        ),
        command: "world prune --yes",
        atomic: track_is_whole,
        end: |_| two_are_left(),
        reset: "for n in 1 2; do $EZZ -q update --on-host --run /bin/sh -c 'date +%N >$EZZ_ROOT/usr/share/new; date +%N >$EZZ_ROOT/etc/1/a'; done; $EZZ -q merge j01",
        ..PLAIN
    },
    Scenario {
        name: "merge",
        setup: "__STOPPED__ $EZZ -q rollback --to 2",
        command: "merge j01",
        codes: &[3, 0],
        atomic: one_is_whole,
        end: |_| merged_to(2),
        reset: "$EZZ -q rollback --to 1; $EZZ -q merge j01; $EZZ -q rollback --to 2",
        ..PLAIN
    },
    Scenario {
        name: "merge-back",
        setup: "__STOPPED__ $EZZ -q rollback --to 2; held $EZZ -q merge j01; $EZZ -q rollback --to 1",
        command: "merge j01",
        atomic: one_is_whole,
        end: |_| merged_to(1),
        reset: "$EZZ -q rollback --to 2; $EZZ -q merge j01 || [ $? -eq 3 ]; $EZZ -q rollback --to 1",
        ..PLAIN
    },
    Scenario {
        name: "rollout",
        setup: "__RUNNING__",
        boot: "$EZZ -q start a b c",
        command: "update --swap 2 --restart --canary a --batch 1 --health test^-e^/etc/own",
        codes: &[3, 0],
        atomic: each_is_whole,
        end: |_| moved_to(2),
        reset: "$EZZ -q rollback --to 1 --restart; $EZZ -q start a b c",
        after_boot: "start a b c",
        up: &["a", "b", "c"],
        ..PLAIN
    },
    Scenario {
        name: "rollout-back",
        setup: "__RUNNING__",
        boot: "$EZZ -q start a b c",
        command: "update --swap 2 --restart --batch 2 --health-limit 1 --health test^!^-e^/usr/share/new",
        already: "was rejected",
        codes: &[1, 0, 3],
        atomic: each_is_whole,
        // After a reboot no jail runs, hence none fails: the roll-out continues then.
        end: |_| match track() {
            Ok((2, _)) => moved_to(2),
            Ok(_) | Err(_) => moved_to(1),
        },
        reset: "zfs inherit ezz:rejected tank/ezz/basejail/2; $EZZ -q rollback --to 1 --restart; $EZZ -q start a b c",
        after_boot: "start a b c",
        up: &["a", "b", "c"],
        ..PLAIN
    },
];
