//! The contract of `Zfs` on a real pool, with which the simulator must agree (tests/contract).

use std::path::{Path, PathBuf};

use ezz::pool::SystemZfs;
use ezz::ports::Zfs;

use crate::contract_suite::{Bench, keeps};
use crate::support::*;

struct Real {
    pool: SystemZfs,
    directory: PathBuf,
    sync_clone: bool,
}

impl Bench for Real {
    fn zfs(&self) -> &dyn Zfs {
        &self.pool
    }

    fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    fn sync_clone(&self) -> bool {
        self.sync_clone
    }

    fn with_open_file(&self, _dataset: &str, at: &Path, act: &mut dyn FnMut()) {
        let file = std::fs::File::create(at.join("open")).expect("a file");
        act();
        drop(file);
        std::fs::remove_file(at.join("open")).expect("it is there");
    }

    fn snapshot(&self, name: &str) {
        sh(&format!("zfs snapshot '{name}'")).ok();
    }

    fn replicate(&self, from: &str, snapshot: &str, to: &str) {
        sh(&format!(
            "zfs snapshot -r '{from}@{snapshot}' && zfs send -R '{from}@{snapshot}' | zfs receive -u '{to}'"
        ))
        .ok();
    }
}

#[test]
fn a_real_pool_keeps_the_contract() {
    let sync_clone = sh("zfs --version").ok().stdout.contains("2.4");
    keeps(&|name| {
        Box::new(Real {
            pool: SystemZfs::new(),
            directory: PathBuf::from(format!("/srv/{name}")),
            sync_clone,
        })
    });
}
