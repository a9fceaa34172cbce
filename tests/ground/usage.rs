//! Mistakes in the arguments are found before the pool is opened.

use crate::sim::SimMachine;

const MISTAKES: [(&str, &str); 26] = [
    ("start Web", "bad jail name"),
    ("stop web [", "bad pattern"),
    ("restart web{9..1}", "bad range"),
    ("delete Web --yes", "bad jail name"),
    ("delete web web --yes", "named twice"),
    ("merge Web", "bad jail name"),
    ("converge Web a_b", "2 bad names"),
    ("list Web", "bad jail name"),
    ("create Web", "bad jail name"),
    ("create web web", "named twice"),
    (
        "create a b --hostname one",
        "a host name is only possible for a single jail",
    ),
    (
        "create a b --address 10.0.0.1/24",
        "an address is only possible for a single jail",
    ),
    (
        "create a b --dataset tank/data",
        "a dataset is only possible for a single jail",
    ),
    ("create web{1..2001} --atomic", "in one transaction"),
    ("create --count 10001 --prefix web", "these are 10001 jails"),
    (
        "create web --param a.b --param a.b=1",
        "with and without a value",
    ),
    ("clone a b b", "named twice"),
    ("clone a b c --address 10.0.0.1/24", "a single jail"),
    ("install nowhere.tar", "there is no file"),
    ("install nowhere.tar --arch amd64", "is not a release"),
    ("install 14.3-RELEASE --set base --set base", "named twice"),
    ("update --from nowhere.tar", "there is no file"),
    ("update --from 14.3-RELEASE --mirror ftp", "bad mirror"),
    (
        "update --continue --dry-run",
        "depend on the state of its jails",
    ),
    ("update --run true --restart", "comes after --run"),
    ("doctor --adopt --directory jails", "is not valid"),
];

#[test]
fn mistakes_are_found_where_there_is_no_site() {
    let machine = SimMachine::bare(true);
    // Every command that opens a site fails at that point.
    for sound in [
        "start web",
        "create web",
        "list",
        "update --run true",
        "doctor",
    ] {
        let words: Vec<&str> = sound.split(' ').collect();
        machine.ezz(&words).exits(1);
    }
    for (line, why) in MISTAKES {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = machine.ezz(&words).exits(2);
        let told = ended.err.join("\n");
        assert!(told.contains(why), "{line}: no {why:?} in {told}");
        assert!(told.contains("hint: "), "{line}: {told}");
    }
}
