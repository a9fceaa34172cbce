//! A database of a jail, and worlds that have one of the same name: PostgreSQL as Debian packages it.

use std::collections::BTreeMap;
use std::fs;

use crate::real::*;
use crate::support::*;

const CLUSTER: &str = "var/lib/postgresql/15/main";
const SECOND: &str = "var/lib/postgresql/15/second";

/// A world whose cluster is another one, with a database more; and what stands for a second one.
const ANOTHER: &str = "
pg_dropcluster 15 main
pg_createcluster 15 main -- --no-sync
echo 'CREATE DATABASE shop' | su postgres -c '/usr/lib/postgresql/15/bin/postgres --single \\
    -c config_file=/etc/postgresql/15/main/postgresql.conf template1'
cp -a /var/lib/postgresql/15/main/global /var/lib/postgresql/15/second";

fn data(jail: &str) -> BTreeMap<String, String> {
    files_below(&at(jail, CLUSTER))
}

#[track_caller]
fn server(jail: &str, does: &str) {
    inside(jail, &format!("pg_ctlcluster 15 main {does}")).ok();
}

/// Asks the server of a jail.
#[track_caller]
fn query(jail: &str, words: &str) -> String {
    let psql = ["psql", "-qAtc", words];
    let told = ezz(&[&["exec", "-u", "postgres", jail, "--"][..], &psql].concat()).ok();
    told.stdout.trim_end().to_owned()
}

const NUMBER: &str = "SELECT system_identifier FROM pg_control_system()";

#[test]
fn a_cluster_survives_a_world_with_another() {
    init();
    ezz(&["-q", "install", &archive("postgresql")]).ok();
    ezz(&["create", "--network", "none", "db", "without", "--start"]).ok();
    server("db", "start");
    query(
        "db",
        "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n",
    );
    let number = query("db", NUMBER);
    server("db", "stop");
    inside("without", &format!("rm -r /{CLUSTER}")).ok();
    let before = data("db");
    assert!(before.len() > 900, "{}", before.len());

    ezz(&["update", "--run", "/bin/sh", "-ec", ANOTHER]).ok();
    let new = files_below(&base(2, CLUSTER));
    assert!(!new.contains_key("postmaster.pid"));
    assert_ne!(new["global/pg_control"], before["global/pg_control"]);
    let told = ezz(&["converge", "--json"]).ok().json();
    for jail in ["db", "without"] {
        let mut merges = told.iter().filter(|it| it["jail"] == *jail);
        let merge = merges.find(|it| it["did"] == "merged");
        let left = merge.expect("it was merged")["left"].to_string();
        assert!(left.contains(&format!("{CLUSTER:?}")), "{jail}: {left}");
    }
    assert_eq!(difference(&before, &data("db")), [""; 0]);
    // A jail that has removed its cluster gets no part of another, and all of one that is new.
    assert!(!fs::exists(at("without", CLUSTER)).expect("looked"));
    let second = [base(2, SECOND), at("without", SECOND)].map(|root| files_below(&root));
    assert!(second[0].contains_key("pg_control"));
    assert_eq!(difference(&second[0], &second[1]), [""; 0]);

    server("db", "start");
    assert_eq!(query("db", "SELECT sum(n) FROM t"), "500500");
    assert_eq!(query("db", NUMBER), number);
    query("db", "INSERT INTO t VALUES (500)");
    server("db", "stop");
    let before = data("db");
    ezz(&["rollback", "--restart"]).ok();
    assert_eq!(difference(&before, &data("db")), [""; 0]);
    assert!(!fs::exists(at("without", SECOND)).expect("looked"));
    server("db", "start");
    assert_eq!(query("db", "SELECT sum(n) FROM t"), "501000");
    whole();
}
