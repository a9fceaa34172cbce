//! The contract of `Zfs` on the simulated pool. The lab runs the same cases on a real one.

use std::path::{Path, PathBuf};

use ezz::ports::Zfs;

use crate::contract_suite::{Bench, keeps};
use crate::sim::SimMachine;
use crate::sim::zfs::SimZfs;

#[derive(Debug)]
struct Simulated {
    machine: SimMachine,
    zfs: SimZfs,
}

impl Bench for Simulated {
    fn zfs(&self) -> &dyn Zfs {
        &self.zfs
    }

    fn directory(&self) -> PathBuf {
        self.machine.directory()
    }

    fn sync_clone(&self) -> bool {
        self.machine.state().pool.sync_clone
    }

    fn with_open_file(&self, dataset: &str, _at: &Path, act: &mut dyn FnMut()) {
        self.machine.state().open.insert(dataset.to_owned());
        act();
        self.machine.state().open.remove(dataset);
    }

    fn snapshot(&self, name: &str) {
        let done = self.machine.state().pool.snapshot(name);
        done.expect("a snapshot");
    }

    fn replicate(&self, from: &str, _snapshot: &str, to: &str) {
        self.machine.state().pool.replicate(from, to);
    }
}

#[test]
fn the_simulator_keeps_the_contract() {
    for sync_clone in [true, false] {
        keeps(&|_| {
            let machine = SimMachine::bare(sync_clone);
            let zfs = SimZfs {
                state: machine.state.clone(),
            };
            Box::new(Simulated { machine, zfs })
        });
    }
}
