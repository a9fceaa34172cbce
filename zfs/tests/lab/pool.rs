//! A pool on a sparse file for one test, and functions that read it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use ezz_zfs::program::Reply;
use ezz_zfs::{NvMap, Zfs};

use crate::call;

/// Counts pools, so that each has its own name: tests of one process may run at the same time.
static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Pool {
    pub name: String,
    pub zfs: Zfs,
    file: PathBuf,
}

/// Runs a command that must succeed, and returns its output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns a local user property of a dataset, if it is set.
pub fn local(dataset: &str, property: &str) -> Option<String> {
    let line = run(
        "zfs",
        &["get", "-Hp", "-o", "source,value", property, dataset],
    );
    let (source, value) = line.trim_end_matches('\n').split_once('\t').unwrap();
    (source == "local").then(|| value.to_owned())
}

/// Returns a property of a dataset and its children, by name; one process reads all of them.
pub fn column(parent: &str, property: &str, sources: &str) -> BTreeMap<String, String> {
    let columns = ["-o", "name,value", property, parent];
    let rows = run(
        "zfs",
        &[&["get", "-Hp", "-d", "1", "-s", sources][..], &columns[..]].concat(),
    );
    let row = |row: &str| {
        row.split_once('\t')
            .map(|(name, value)| (name.into(), value.into()))
    };
    rows.lines().filter_map(row).collect()
}

pub fn guid(dataset: &str) -> u64 {
    run("zfs", &["get", "-Hp", "-o", "value", "guid", dataset])
        .trim()
        .parse()
        .unwrap()
}

impl Pool {
    /// Creates a pool of 4 GiB on a sparse file: programs reserve far more space than they write.
    pub fn new() -> Pool {
        Pool::of_size("4G")
    }

    pub fn of_size(size: &str) -> Pool {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("p{}-{count}", std::process::id());
        let file = std::env::temp_dir().join(format!("{name}.img"));
        let path = file.to_str().unwrap();
        run("truncate", &["-s", size, path]);
        run(
            "zpool",
            &["create", "-m", "none", "-O", "canmount=off", &name, path],
        );
        Pool {
            zfs: Zfs::open().unwrap(),
            name,
            file,
        }
    }

    /// Returns the name of a dataset of the pool.
    pub fn ds(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    pub fn create(&self, name: &str) {
        self.zfs.create(&self.ds(name), &NvMap::new()).unwrap();
    }

    /// Creates the datasets of a site at POOL/ezz; its epoch is 1.
    pub fn site(&self) -> String {
        let site = self.ds("ezz");
        run("zfs", &["create", "-o", "canmount=off", &site]);
        let base = format!("{site}/basejail");
        run(
            "zfs",
            &["create", "-o", "canmount=off", "-o", "readonly=on", &base],
        );
        self.create("ezz/newjail");
        self.create("ezz/jails");
        assert_eq!(
            call::init(&site, "0c5f").run(&self.zfs).unwrap(),
            Reply::Ok {
                epoch: 1,
                number: None
            }
        );
        site
    }

    /// Creates a site with the staged generation 1; its epoch is 2.
    pub fn staged(&self) -> String {
        let site = self.site();
        assert_eq!(
            call::stage(&site, 1, 0).run(&self.zfs).unwrap(),
            Reply::Ok {
                epoch: 2,
                number: Some(1)
            }
        );
        run(
            "zfs",
            &[
                "create",
                "-u",
                "-o",
                "readonly=off",
                &format!("{site}/basejail/1"),
            ],
        );
        self.create("ezz/newjail/1");
        site
    }

    /// Creates a site with the sealed generation 1; its epoch is 3.
    pub fn sealed(&self) -> String {
        let site = self.staged();
        assert_eq!(
            call::seal(&site, 2).run(&self.zfs).unwrap(),
            Reply::Ok {
                epoch: 3,
                number: None
            }
        );
        site
    }

    /// Returns everything that a program could change: datasets, origins, and every property that is set.
    pub fn state(&self) -> String {
        let list = run(
            "zfs",
            &[
                "list",
                "-Hp",
                "-t",
                "all",
                "-o",
                "name,guid,origin",
                "-r",
                &self.name,
            ],
        );
        let types = "filesystem,snapshot";
        let set = ["get", "-Hpr", "-t", types, "-s", "local,received"];
        let columns = ["-o", "name,property,value,source", "all", &self.name];
        list + &run("zfs", &[&set[..], &columns[..]].concat())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A failed test may leave mounts; they end with the guest.
        let _ = Command::new("zpool").args(["destroy", &self.name]).output();
        let _ = std::fs::remove_file(&self.file);
    }
}
