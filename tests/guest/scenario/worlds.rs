//! Scenarios whose worlds change under jails.

use std::fs;

use super::checks::{
    current_is, newest_is_current, rolled_out, running_are, track_is_whole, two_are_left,
};
use super::{NOTHING, Scenario};
use crate::sys::sh;

pub(super) const ALL: &[Scenario] = &[
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
        command: "worlds prune --yes",
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
