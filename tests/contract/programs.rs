//! The programs: what each refuses, in the order of its checks, and that a refusal changes nothing.

use ezz::plan::{Commit, Expect};

use super::{Script, doomed, jails, sealing, set, sets, site, staged};

/// A dataset becomes a site once, and no dataset within a site becomes one.
pub fn init(s: &mut Script<'_>) {
    let init = || Commit::Init {
        id: "id".to_owned(),
    };
    s.commit("without a dataset", &init());
    s.quietly(|s| {
        s.create("", &[("mountpoint", "none")]);
        s.create("inner", &[]);
    });
    s.commit("first", &init());
    s.commit("second", &init());
    s.show("", &["ezz:id", "ezz:seq", "ezz:epoch", "ezz:format"]);
    let outer = s.site.clone();
    s.site = format!("{outer}/inner");
    s.commit("within", &init());
    s.site = outer;
    s.expect(&[
        "without a dataset: refused: SITE: no-site",
        "first: ok",
        "second: refused: SITE: present",
        "show : ezz:id=id local, ezz:seq=0 local, ezz:epoch=1 local, ezz:format=1 local",
        &format!("within: refused: {}: present", s.site),
    ]);
}

/// A number is assigned once.
pub fn stage(s: &mut Script<'_>) {
    let stage = |epoch, seq| Commit::Stage { epoch, seq };
    s.commit("no site", &stage(1, 0));
    s.quietly(|s| s.create("", &[("mountpoint", "none")]));
    s.commit("no epoch", &stage(1, 0));
    s.quietly(|s| {
        let id = "id".to_owned();
        s.commit("init", &Commit::Init { id });
    });
    s.commit("stale", &stage(2, 0));
    s.commit("another number", &stage(1, 1));
    s.commit("the first", &stage(1, 0));
    s.commit("the same", &stage(1, 0));
    s.commit("the same again", &stage(2, 0));
    s.show("", &["ezz:seq", "ezz:epoch"]);
    s.expect(&[
        "no site: refused: SITE: no-site",
        "no epoch: refused: SITE: no-epoch",
        "stale: stale: 1, not 2",
        "another number: refused: SITE: differs (ezz:seq)",
        "the first: ok",
        "the same: stale: 2, not 1",
        "the same again: refused: SITE: differs (ezz:seq)",
        "show : ezz:seq=1 local, ezz:epoch=2 local",
    ]);
}

/// A seal writes both halves, their seal, the world and the track, or nothing.
fn seal_refusals(s: &mut Script<'_>) {
    s.commit("absent", &sealing(1, 1, None));
    s.quietly(|s| s.create("basejail/1", &[("readonly", "off")]));
    s.commit("half of it", &sealing(1, 1, None));
    s.quietly(|s| s.create("newjail/1", &[("canmount", "noauto")]));
    s.commit("stale", &sealing(7, 1, None));
    s.set("basejail", "readonly", "off");
    s.commit("writable", &sealing(1, 1, None));
    s.set("basejail", "readonly", "on");
    let track = set(
        &s.dataset("basejail"),
        "ezz:track:main",
        Expect::Value("{}".to_owned()),
        Some("{\"current\":1}"),
    );
    s.commit("another track", &sealing(1, 1, Some(track)));
    s.bench.snapshot(&format!("{}/newjail/1@1", s.site));
    s.commit("a snapshot", &sealing(1, 1, None));
    s.show("", &["ezz:epoch"]);
    s.show("basejail/1@1", &["type"]);
    s.expect(&[
        "absent: refused: SITE/basejail/1: absent",
        "half of it: refused: SITE/newjail/1: absent",
        "stale: stale: 1, not 7",
        "set readonly=off basejail: ok",
        "writable: refused: SITE/basejail: writable",
        "set readonly=on basejail: ok",
        "another track: refused: SITE/basejail: differs (ezz:track:main)",
        "a snapshot: refused: SITE/newjail/1@1: present",
        "show : ezz:epoch=1 local",
        "show basejail/1@1: absent",
    ]);
}

pub fn seal(s: &mut Script<'_>) {
    site(s);
    seal_refusals(s);
    staged(s, 2);
    let track = |s: &Script<'_>, expect| {
        let text = Some("{\"current\":2}");
        Some(set(&s.dataset("basejail"), "ezz:track:main", expect, text))
    };
    s.commit("sealed", &sealing(1, 2, track(s, Expect::Absent)));
    s.commit("again", &sealing(2, 2, None));
    s.show(
        "basejail/2",
        &["readonly", "sync", "ezz:world", "written@2", "written"],
    );
    s.show(
        "newjail/2",
        &["sync", "canmount", "written@2", "written@1", "ezz:world"],
    );
    s.show("basejail/2@2", &["ezz:sealed", "ezz:world"]);
    s.show("newjail/2@2", &["ezz:sealed", "userrefs"]);
    s.show("basejail", &["ezz:track:main"]);
    s.show("", &["ezz:epoch"]);
    s.expect(&[
        "sealed: ok",
        "again: refused: SITE/basejail/2@2: present",
        "show basejail/2: readonly=on, sync=standard, ezz:world={\"w\":1} local, written@2=0 local, written=0",
        "show newjail/2: sync=standard, canmount=noauto local, written@2=0 local, written@1=-, ezz:world=-",
        "show basejail/2@2: ezz:sealed={\"s\":1} local, ezz:world={\"w\":1}",
        "show newjail/2@2: ezz:sealed={\"s\":1} local, userrefs=0",
        "show basejail: ezz:track:main={\"current\":2} local",
        "show : ezz:epoch=2 local",
    ]);
}

/// A create makes all jails or none; where programs cannot clone, none.
pub fn create(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    staged(s, 2);
    s.quietly(|s| s.commit("seal", &sealing(1, 1, None)));
    if !s.bench.sync_clone() {
        s.commit("stale", &jails(s, 1, &[("a", "newjail/1@1")]));
        s.commit("unsupported", &jails(s, 2, &[("a", "newjail/1@1")]));
        s.show("jails/a", &["type"]);
        s.expect(&[
            "stale: stale: 2, not 1",
            "unsupported: refused: SITE: unsupported",
            "show jails/a: absent",
        ]);
        return;
    }
    s.commit("stale", &jails(s, 1, &[("a", "newjail/1@1")]));
    s.commit(
        "no origin",
        &jails(s, 2, &[("a", "newjail/1@1"), ("b", "newjail/2@2")]),
    );
    s.bench.snapshot(&format!("{}/newjail/2@2", s.site));
    s.commit("no seal", &jails(s, 2, &[("a", "newjail/2@2")]));
    s.commit(
        "two",
        &jails(s, 2, &[("a", "newjail/1@1"), ("b", "basejail/1@1")]),
    );
    s.commit(
        "one is there",
        &jails(s, 3, &[("c", "newjail/1@1"), ("b", "newjail/1@1")]),
    );
    s.show("jails/a", &["ezz:jail", "origin", "mounted", "mountpoint"]);
    s.show("jails/b", &["ezz:jail", "origin"]);
    s.show("jails/c", &["type"]);
    s.show("jails", &["ezz:intent:1:0"]);
    s.show("", &["ezz:epoch"]);
    s.expect(&[
        "stale: stale: 2, not 1",
        "no origin: refused: SITE/newjail/2@2: absent",
        "no seal: refused: SITE/newjail/2@2: unsealed",
        "two: ok",
        "one is there: refused: SITE/jails/b: present",
        "show jails/a: ezz:jail={\"j\":\"a\"} local, origin=SITE/newjail/1@1, mounted=no, mountpoint=DIR/a",
        "show jails/b: ezz:jail={\"j\":\"b\"} local, origin=SITE/basejail/1@1",
        "show jails/c: absent",
        "show jails: ezz:intent:1:0=-",
        "show : ezz:epoch=3 local",
    ]);
}

/// Compare and set of many properties.
pub fn commit(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    let (site, base) = (s.dataset(""), s.dataset("basejail"));
    let nosuch = s.dataset("nosuch");
    let is = |text: &str| Expect::Value(text.to_owned());
    s.commit(
        "stale",
        &sets(9, vec![set(&base, "x:a", Expect::Any, Some("1"))]),
    );
    let two = vec![
        set(&base, "x:a", Expect::Absent, Some("1")),
        set(&nosuch, "x:a", Expect::Any, Some("1")),
    ];
    s.commit("one is absent", &sets(1, two));
    s.commit(
        "differs",
        &sets(1, vec![set(&base, "x:a", is("0"), Some("1"))]),
    );
    s.commit(
        "set",
        &sets(1, vec![set(&base, "x:a", Expect::Absent, Some("1"))]),
    );
    s.commit(
        "set again",
        &sets(2, vec![set(&base, "x:a", Expect::Absent, Some("2"))]),
    );
    let inherited = s.dataset("basejail/1");
    s.commit(
        "inherited is absent",
        &sets(2, vec![set(&inherited, "x:a", Expect::Absent, Some("2"))]),
    );
    let order = vec![
        set(&site, "x:b", Expect::Any, Some("1")),
        set(&site, "x:b", Expect::Any, Some("2")),
        set(&base, "x:a", is("1"), None),
    ];
    s.commit("in order", &sets(3, order));
    s.commit(
        "native",
        &sets(4, vec![set(&base, "readonly", Expect::Any, Some("off"))]),
    );
    let long = "3".repeat(8192);
    let bad = vec![
        set(&site, "x:b", Expect::Any, Some("3")),
        set(&site, "x:c", Expect::Any, Some(&long)),
    ];
    s.commit("undone", &sets(4, bad));
    s.show("", &["x:b"]);
    // The caller must check names: a bad one stops the program, and what it did stays.
    let bad = vec![
        set(&site, "x:b", Expect::Any, Some("3")),
        set(&site, "X:c", Expect::Any, Some("3")),
    ];
    s.commit("a bad name", &sets(4, bad));
    let sealed = Commit::Set {
        epoch: 4,
        sets: vec![set(&site, "x:b", Expect::Any, Some("4"))],
        sealed: vec![s.snapshot("basejail/1@1")],
        adopt: false,
    };
    s.commit("without the snapshot", &sealed);
    s.bench.snapshot(&format!("{}/basejail/1@1", s.site));
    s.commit("without its seal", &sealed);
    s.show("", &["x:b", "ezz:epoch"]);
    s.show("basejail", &["x:a", "x:b", "readonly"]);
    s.show("basejail/1", &["x:a"]);
    s.expect(&[
        "stale: stale: 1, not 9",
        "one is absent: refused: SITE/nosuch: absent",
        "differs: refused: SITE/basejail: differs (x:a)",
        "set: ok",
        "set again: refused: SITE/basejail: differs (x:a)",
        "inherited is absent: ok",
        "in order: ok",
        "native: failed: SITE/basejail: set EINVAL",
        "undone: failed: SITE: set E2BIG",
        "show : x:b=2 local",
        "a bad name: error of the program",
        "without the snapshot: refused: SITE/basejail/1@1: absent",
        "without its seal: refused: SITE/basejail/1@1: unsealed",
        "show : x:b=3 local, ezz:epoch=4 local",
        "show basejail: x:a=-, x:b=3, readonly=on local",
        "show basejail/1: x:a=2 local",
    ]);
}

/// A dataset is destroyed only if everything that depends on it is named before it.
pub fn destroy(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    s.quietly(|s| {
        s.commit("seal", &sealing(1, 1, None));
        s.hold(&["newjail/1@1"]);
        s.clone_all(&[("jails/a", "newjail/1@1")]);
        s.create("jails/a/below", &[]);
        s.create("jails/b", &[]);
    });
    s.bench.snapshot(&format!("{}/jails/b@s", s.site));
    let of = |s: &Script<'_>, names: &[&str]| -> Vec<(String, u64)> {
        let named = names.iter();
        named
            .map(|name| (format!("{}/{name}", s.site), s.guid(name)))
            .collect()
    };
    let all = |s: &mut Script<'_>, what: &str, epoch, names: &[&str]| {
        let doom = doomed(epoch, &of(s, names));
        s.commit(what, &doom);
    };
    let site = s.site.clone();
    all(s, "stale", 9, &["jails/b"]);
    s.commit("absent", &doomed(2, &[(format!("{site}/nosuch"), 1)]));
    s.commit(
        "another of that name",
        &doomed(2, &[(format!("{site}/jails/b"), 1)]),
    );
    all(s, "held", 2, &["newjail/1@1"]);
    all(s, "a snapshot", 2, &["jails/b"]);
    all(s, "a child", 2, &["jails/a"]);
    all(s, "a child after it", 2, &["jails/a", "jails/a/below"]);
    s.quietly(|s| s.release(&["newjail/1@1"]));
    all(s, "a clone", 2, &["newjail/1@1"]);
    all(s, "a good one and a bad one", 2, &["jails/b@s", "jails/a"]);
    s.show("jails/b@s", &["type"]);
    all(s, "both", 2, &["jails/b@s", "jails/b"]);
    all(
        s,
        "all of it",
        3,
        &["jails/a/below", "jails/a", "newjail/1@1", "newjail/1"],
    );
    s.list(&["jails", "newjail"], None, &["filesystem", "snapshot"]);
    s.show("", &["ezz:epoch"]);
    s.expect(&[
        "stale: stale: 2, not 9",
        "absent: refused: SITE/nosuch: absent",
        "another of that name: refused: SITE/jails/b: differs (guid)",
        "held: refused: SITE/newjail/1@1: held",
        "a snapshot: refused: SITE/jails/b@s: snapshot",
        "a child: refused: SITE/jails/a/below: child",
        "a child after it: refused: SITE/jails/a/below: child",
        "a clone: refused: SITE/jails/a: clone",
        "a good one and a bad one: refused: SITE/jails/a/below: child",
        "show jails/b@s: type=snapshot",
        "both: ok",
        "all of it: ok",
        "list: jails newjail",
        "show : ezz:epoch=4 local",
    ]);
}
