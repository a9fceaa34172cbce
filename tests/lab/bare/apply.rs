//! Fleets: the jails of a site become what a file describes, a second run changes nothing, and an error in the file is
//! reported with its place.

use crate::inspect;
use crate::support::*;
use crate::worlds::{install_runnable, install_small};

const FILE: &str = "/tmp/fleet.toml";

fn write(text: &str) {
    std::fs::write(FILE, text).expect("written");
}

fn epoch() -> u64 {
    let text = property(SITE, "ezz:epoch");
    text.parse().expect("a number")
}

fn config(name: &str) -> serde_json::Value {
    json_property(&format!("{SITE}/jails/{name}"), "ezz:jail")
}

fn names() -> String {
    let told = ezz(&["list", "--json"]).ok().json();
    let names: Vec<&str> = told
        .iter()
        .filter_map(|line| line["jail"].as_str())
        .collect();
    names.join(" ")
}

/// Runs an `apply` that has nothing to do, and checks that it changes nothing.
#[track_caller]
fn applied(args: &[&str]) {
    let before = everything();
    let told = ezz(&[&["apply", FILE], args].concat()).ok();
    assert_eq!(told.stdout, "nothing to do\n", "{told:#?}");
    let told = ezz(&[&["apply", FILE, "--dry-run"], args].concat()).ok();
    assert_eq!(told.stdout, "nothing to do\n", "{told:#?}");
    assert_eq!(everything(), before);
}

const SHOP: &str = r#"
fleet = "shop"
[defaults]
ip_pools = ["em0|10.0.0.0/24"]
labels = { tier = "front" }
[[jail]]
name = "web{01..20}"
hostname = "{name}.example.org"
depends = ["db"]
[[jail]]
name = "db"
thick = true
quota = "1G"
addresses = ["em0|10.0.0.2/24"]
ip_pools = []
labels = { tier = "back" }
flavours = ["base"]
order = -1
"#;

#[test]
fn a_fleet_is_made_changed_and_pruned_and_twice_is_nothing() {
    init();
    install_small();
    ezz(&["create", "other", "--address", "10.0.0.1/24"]).ok();
    sh("mkdir -p /srv/jails/flavours/base/etc/app /srv/jails/flavours/base/root; cd /srv/jails/flavours/base; chmod 700 .; echo conf >etc/app/conf; chmod 600 etc/app/conf; echo new >etc/passwd; ln -s conf etc/app/link").ok();
    write(SHOP);
    let before = everything();
    let planned = ezz(&["apply", FILE, "--dry-run"]).ok();
    for words in [
        "+ db: create: base track main; addresses em0|10.0.0.2/24; labels tier=back; flavours base; order -1; quota 1G",
        "+ web20: create: base track main; hostname web20.example.org; addresses em0|10.0.0.22/24; labels tier=front; depends db",
    ] {
        assert!(planned.stdout.contains(words), "{planned:#?}");
    }
    assert_eq!(everything(), before);
    let at = epoch();
    let told = ezz(&["apply", FILE, "--json"]).ok();
    // One warning, however many jails there are.
    let shared = "share this host's network";
    assert_eq!(told.stderr.matches(shared).count(), 1, "{told:#?}");
    let told = told.json();
    assert_eq!(told.len(), 21);
    assert!(told.iter().all(|line| line["did"] == "created"));
    // All jails are created in the transactions of one, and one more records that their remaining work is done.
    assert_eq!(epoch(), at + commits_of_create() + 1);
    assert_eq!(config("web07")["addresses"][0], "em0|10.0.0.9/24");
    assert_eq!(config("db")["fleet"], "shop");
    let laid =
        sh("cd /srv/jails/db; cat etc/passwd etc/app/link; stat -c '%a %u' etc/app/conf . etc")
            .ok();
    assert_eq!(laid.stdout, "new\nconf\n600 0\n755 0\n755 0\n");
    assert_eq!(inspect::site(SITE), [""; 0]);
    applied(&[]);
    applied(&["--prune", "--yes"]);

    // Some jails change, one is new, one is removed, and the others keep their addresses.
    let changed = SHOP
        .replace("web{01..20}", "web{02..21}")
        .replace("tier = \"back\"", "tier = \"deep\"")
        .replace("quota = \"1G\"", "quota = \"2G\"");
    write(&changed);
    let planned = ezz(&["apply", FILE, "--dry-run", "--prune"]).ok();
    for words in [
        "~ db: change: labels tier=back > tier=deep; quota 1G > 2G\n",
        "- web01: delete\n",
        "+ web21: create: ",
    ] {
        assert!(planned.stdout.contains(words), "{words}: {planned:#?}");
    }
    ezz(&["apply", FILE, "--prune"]).refused(1, "cannot ask for confirmation");
    let at = epoch();
    write(&changed.replace("[defaults]", "[defaults]\nnetwork = \"host\""));
    let told = ezz(&["apply", FILE, "--json"]).ok();
    assert!(!told.stderr.contains(shared), "{told:#?}");
    let told = told.json();
    assert_eq!(told.len(), 2, "without --prune nothing goes: {told:?}");
    assert_eq!(
        epoch(),
        at + commits_of_create() + 1,
        "one for the configuration"
    );
    let told = ezz(&["apply", FILE, "--prune", "--yes"]).ok();
    assert_eq!(told.stdout, "web01: deleted\n");
    assert_eq!(property("tank/ezz/jails/db", "quota"), "2147483648");
    assert_eq!(config("web07")["addresses"][0], "em0|10.0.0.9/24");
    assert_eq!(config("db")["labels"]["tier"], "deep");
    assert!(names().starts_with("db other web02 ") && names().ends_with(" web21"));
    applied(&["--prune", "--yes"]);

    // The present jails as a file: those of no other fleet, and folded into ranges.
    sh(&format!("{EZZ} list --fleet shop >{FILE}")).ok();
    let written = std::fs::read_to_string(FILE).expect("written");
    assert!(
        !written.contains("other") && written.contains(r#"quota = "2G""#),
        "{written}"
    );
    applied(&["--prune", "--yes"]);
    ezz(&["list", "--fleet", "shop", "other"]).ok();
    let none = ezz(&["list", "--fleet", "none"]).ok();
    assert!(
        none.stderr.contains("no jail belongs to the fleet none"),
        "{none:#?}"
    );
    short_files();
    // A jail that the file names becomes a jail of the fleet.
    sh(&format!("{EZZ} list --fleet shop '*' >{FILE}")).ok();
    let told = ezz(&["apply", FILE]).ok();
    assert_eq!(told.stdout, "other: changed\n", "it belonged to none");
    assert_eq!(config("web07")["addresses"][0], "em0|10.0.0.9/24");
    // All jails are removed.
    write("fleet = \"shop\"\n[[jail]]\nnames = [\"db\", \"none\"]\nstate = \"absent\"\n");
    ezz(&["apply", FILE, "--prune", "--yes"]).ok();
    assert_eq!(names(), "");
    applied(&[]);
}

/// Settings that a file leaves out stay as they are; settings that it clears are removed.
#[track_caller]
fn short_files() {
    ezz(&["create", "eq{1..300}", "--label", "tier=bulk"]).ok();
    sh(&format!("{EZZ} list --fleet many 'eq*' >{FILE}")).ok();
    let written = std::fs::read_to_string(FILE).expect("written");
    assert!(
        written.contains(r#"name = "eq{1..300}""#) && written.lines().count() < 15,
        "{written}"
    );
    ezz(&["delete", "--yes", "eq{1..300}"]).ok();
    let args = [
        "create",
        "rich",
        "--label",
        "owner=bob",
        "--memory",
        "512M",
        "--quota",
        "1G",
        "--address",
        "10.9.0.7/24",
        "--hostname",
        "rich.example.org",
        "--health",
        "true",
        "--network",
        "none",
    ];
    ezz(&args).ok();
    let kept = || {
        let mut config = config("rich");
        config.as_object_mut().expect("an object").remove("fleet");
        (config.to_string(), property("tank/ezz/jails/rich", "quota"))
    };
    let before = kept();
    write("fleet = \"short\"\n[[jail]]\nname = \"rich\"\n");
    let told = ezz(&["apply", FILE, "--dry-run"]).ok();
    assert!(
        told.stdout
            .starts_with("~ rich: change: fleet none > short\n"),
        "{told:#?}"
    );
    ezz(&["apply", FILE]).ok();
    assert_eq!(kept(), before);
    applied(&[]);
    // The file has one label, which is then the only one. The rest stays.
    write(
        "fleet = \"short\"\n[[jail]]\nname = \"rich\"\nlabels = { tier = \"a\" }\nquota = \"none\"\nhealth = \"\"\nlimits = {}\naddresses = []\n",
    );
    let told = ezz(&["apply", FILE, "--dry-run"]).ok();
    for words in [
        "labels owner=bob > tier=a",
        "quota 1G > none",
        "addresses 10.9.0.7/24 > none",
        "limits memory=",
        "health true > none",
    ] {
        assert!(told.stdout.contains(words), "{words}: {told:#?}");
    }
    ezz(&["apply", FILE]).ok();
    let now = config("rich");
    assert_eq!(
        (&now["hostname"], &now["network"]),
        (&"rich.example.org".into(), &"none".into())
    );
    assert_eq!(now["limits"], serde_json::Value::Null);
    assert_eq!(property("tank/ezz/jails/rich", "quota"), "0");
    applied(&[]);
    ezz(&["delete", "--yes", "rich"]).ok();
}

#[test]
fn what_a_site_cannot_have_is_told_with_its_place_and_nothing_is_changed() {
    init();
    install_small();
    ezz(&["create", "there", "--address", "10.0.0.9/24"]).ok();
    write("fleet = \"one\"\n[[jail]]\nname = \"mine\"\n");
    ezz(&["apply", FILE]).ok();
    sh("mkdir /srv/jails/full; touch /srv/jails/full/x; zfs create -u tank/ezz/jails/odd").ok();
    let before = everything();
    for (text, place, words) in [
        (
            "name = \"mine\"",
            "line 3, column 8",
            "belongs to the fleet one",
        ),
        (
            "name = \"a\"\ntrack = \"none\"",
            "line 4, column 9",
            "there is no track none",
        ),
        (
            "name = \"a\"\npin = \"9\"",
            "line 4, column 7",
            "there is no sealed generation",
        ),
        (
            "name = \"a\"\nflavours = [\"x\"]",
            "line 4, column 13",
            "there is no flavour x",
        ),
        (
            "name = \"a\"\nclone = \"b\"",
            "line 4, column 9",
            "there is no jail b",
        ),
        (
            "name = \"a\"\ndepends = [\"b\"]",
            "line 4, column 12",
            "the jail b is to be absent",
        ),
        (
            "name = \"a\"\ndepends = [\"there\"]\n[[jail]]\nname=\"there\"\nstate=\"absent\"",
            "line 4, column 12",
            "the jail there is to be absent",
        ),
        (
            "name = \"a\"\naddresses = [\"10.0.0.9\"]",
            "line 4, column 14",
            "already belongs to there",
        ),
        (
            "name = \"a{1..3}\"\nip_pools = [\"10.0.0.8/30\"]",
            "line 4, column 13",
            "1 free addresses, but 3 jails",
        ),
        (
            "name = \"there\"\nthick = true",
            "line 3, column 8",
            "cannot become thick",
        ),
        (
            "name = \"main\"",
            "line 3, column 8",
            "is the name of a track",
        ),
        (
            "name = \"full\"",
            "line 3, column 8",
            "not an empty directory",
        ),
        ("name = \"odd\"", "line 3, column 8", "no ezz:jail"),
        (
            "name = \"a\"\ndepends = [\"b\"]\n[[jail]]\nname = \"b\"\ndepends = [\"a\"]",
            "line 7, column 12",
            "wait for each other: a, b, a",
        ),
        (
            "name = \"a\"\n[[jail]]\nname = \"a\"",
            "line 5, column 8",
            "named already in line 3",
        ),
        ("nam = \"a\"", "line 3, column 1", "unknown field"),
    ] {
        write(&format!("fleet = \"two\"\n[[jail]]\n{text}\n"));
        for dry in [&[][..], &["--dry-run"]] {
            let told = ezz(&[&["apply", FILE, "--yes"], dry].concat()).refused(1, words);
            assert!(told.stderr.contains(place), "{text}: {told:#?}");
            assert!(told.stderr.contains(FILE), "{text}: {told:#?}");
        }
        assert_eq!(everything(), before, "{text}");
    }
    ezz(&["apply", "/nowhere"]).refused(1, "cannot read the fleet file /nowhere");
    // Clones, and a file from standard input.
    sh(&format!("printf 'fleet = \"two\"\\n[[jail]]\\nname = \"c{{1..2}}\"\\nclone = \"there\"\\n' | {EZZ} apply -")).ok();
    assert_eq!(
        property("tank/ezz/jails/c1", "origin").split('@').next(),
        Some("tank/ezz/jails/there")
    );
    assert_eq!(config("c1")["hostname"], "c1");
}

#[test]
fn a_fleet_runs_in_its_order_and_is_restarted_when_told() {
    init();
    install_runnable(SITE);
    let fleet = |hostname: &str, state: &str| {
        write(&format!(
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nstate = \"{state}\"\ndepends = [\"b\"]\nhostname = \"{hostname}\"\n
             [[jail]]\nname = \"b\"\nstate = \"{state}\"\ndepends = [\"c\"]\n[[jail]]\nname = \"c\"\nstate = \"{state}\"\n"
        ));
    };
    let order = |told: Ended| -> String {
        let lines = told
            .stdout
            .lines()
            .map(|line| line.split(':').next().unwrap_or_default());
        lines.collect::<Vec<_>>().join(" ")
    };
    fleet("one", "running");
    assert_eq!(order(ezz(&["apply", FILE]).ok()), "c b a");
    applied(&[]);
    ezz(&["stop", "b"]).ok();
    assert_eq!(ezz(&["apply", FILE]).ok().stdout, "b: started\n");
    // A running jail keeps its settings until it is restarted.
    fleet("two", "running");
    let told = ezz(&["apply", FILE]).ok();
    assert!(told.stderr.contains("ezz restart a"), "{told:#?}");
    let name = |expected: &str| {
        let told = ezz(&[
            "exec",
            "a",
            "--",
            "/bin/sh",
            "-c",
            "read n </proc/sys/kernel/hostname; echo $n",
        ])
        .ok();
        assert_eq!(told.stdout.trim(), expected);
    };
    name("one");
    // Also if an earlier command has changed it.
    assert_eq!(
        ezz(&["apply", FILE, "--restart"]).ok().stdout,
        "a: restarted\n"
    );
    name("two");
    fleet("three", "running");
    assert_eq!(
        ezz(&["apply", FILE, "--restart"]).ok().stdout,
        "a: changed and restarted\n"
    );
    name("three");
    // Jails are stopped in the reverse order, also by `stop`.
    assert_eq!(order(ezz(&["stop", "--all"]).ok()), "a b c");
    assert_eq!(order(ezz(&["start", "--all"]).ok()), "c b a");
    fleet("three", "stopped");
    assert_eq!(order(ezz(&["apply", FILE]).ok()), "a b c");
    applied(&[]);
    assert_eq!(inspect::site(SITE), [""; 0]);
}

/// Flavours are files: they are laid neither through links nor over what is shared.
#[test]
fn a_flavour_is_laid_over_what_is_the_jails_own_and_nothing_else() {
    init();
    install_small();
    sh("cd /srv/jails; mkdir -p flavours/good/etc flavours/good/usr/local flavours/bad/usr/bin
        echo mine >flavours/good/etc/debian_version; ln -s /etc/shadow flavours/good/etc/link; mkfifo flavours/good/etc/pipe
        echo x >flavours/good/usr/local/x; echo x >flavours/bad/usr/bin/x")
    .ok();
    ezz(&["create", "a", "--flavour", "good"]).ok();
    let laid = sh("cd /srv/jails/a; cat etc/debian_version usr/local/x; readlink etc/link usr/bin; ls etc/pipe 2>&1; true").ok();
    assert!(
        laid.stdout
            .starts_with("mine\nx\n/etc/shadow\n../basejail/usr/bin\n"),
        "{laid:#?}"
    );
    let shown = ezz(&["show", "a", "--json"]).ok().json();
    assert_eq!(shown[0]["flavours"][0], "good");
    let before = everything();
    for name in ["bad", "none", "Bad"] {
        let code = if name == "Bad" { 2 } else { 1 };
        let told = ezz(&["create", "b", "--flavour", name]).exits(code);
        assert!(told.stderr.contains(name), "{told:#?}");
        // A flavour that fails has raised the epoch, and cleared away what it had created.
        let epoch = |text: &str| -> String {
            let lines = text.lines().filter(|line| !line.contains("ezz:epoch"));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(epoch(&everything()), epoch(&before), "{name}");
        assert!(!std::path::Path::new("/srv/jails/b").exists());
    }
    // In several jails at once, and over a clone.
    ezz(&["clone", "a", "c{1..3}", "--flavour", "good"]).ok();
    assert_eq!(inspect::site(SITE), [""; 0]);
}
