//! Which disk the Debian machine of vagrant/ uses for its pool: this needs a guest with disks, and `bare` has none.

use std::fs::File;
use std::path::Path;

use super::harness::{Work, lab};
use crate::support::{Ended, sh};

fn disk_of(work: &Work, disks: &[&Path]) -> Ended {
    let mut args = vec!["run", "--pool", "none"];
    for disk in disks {
        args.extend(["--disk", disk.to_str().expect("a plain path")]);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vagrant/machines/debian.sh");
    args.extend(["--", "/bin/bash", script, "disk"]);
    lab(&work.out(), &args)
}

#[test]
fn the_disk_for_the_pool_is_the_one_that_is_empty() {
    let work = Work::new("machine");
    let [empty, used, other] = ["empty", "used", "other"].map(|name| work.0.join(name));
    for disk in [&empty, &used, &other] {
        let made = File::create(disk).expect("a disk can be made");
        made.set_len(64 << 20).expect("of that size");
    }
    sh(&format!("mkswap {}", used.display())).ok();
    let found = disk_of(&work, &[&used, &empty]).ok();
    assert_eq!(found.stdout, "/dev/ubdb\n");
    let none = disk_of(&work, &[&used]).exits(2);
    assert!(none.stderr.contains("there are 0: none"), "{none:#?}");
    let two = disk_of(&work, &[&empty, &used, &other]).exits(2);
    assert!(
        two.stderr.contains("there are 2: /dev/ubda /dev/ubdc"),
        "{two:#?}"
    );
}
