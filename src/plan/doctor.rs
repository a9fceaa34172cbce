//! What is wrong with a site, and the plan that mends what is derived or debris and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::model::{Base, Generation, HOLD_TAG, Half, Inventory, Jail, JailConfig, Kind};
use crate::name::{GenerationId, JailName, SnapshotName, TrackName};
use crate::plan::{
    Epoch, MountAs, Observed, Plan, PlanError, Step, create, delete, run, site, world,
};

/// What doctor looked at beyond an observation.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Staged generations that nobody is building.
    pub abandoned: Vec<GenerationId>,
    /// Tags of the holds on sealed snapshots; none = there is no such snapshot.
    pub holds: BTreeMap<SnapshotName, Option<Vec<String>>>,
    /// Where the link of each track points now.
    pub links: BTreeMap<TrackName, Option<PathBuf>>,
    /// Derived files that are missing or differ.
    pub drift: BTreeMap<JailName, Vec<PathBuf>>,
    /// Jails that have derived files.
    pub derived: Vec<JailName>,
    /// Datasets below jails that carry an `ezz:jail`.
    pub deep: Vec<String>,
    /// Permission bits and owner of the site directory.
    pub directory: Option<(u32, u32)>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; nothing is broken.
    Info,
    /// Left over or derived: `--repair` mends it.
    Debris,
    /// A promise is broken.
    Broken,
}

/// One thing that doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Whether `--repair` mends it.
    pub repairable: bool,
}

/// Findings and the plan that mends those that can be.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// Sorted as they are to be read: site, tracks, generations, jails, host.
    pub findings: Vec<Finding>,
    /// What `--repair` does.
    pub plan: Plan,
}

impl Diagnosis {
    fn add(&mut self, severity: Severity, object: impl ToString, what: impl Into<String>) {
        self.findings.push(Finding {
            severity,
            object: object.to_string(),
            what: what.into(),
            repairable: false,
        });
    }

    fn mend(
        &mut self,
        object: impl ToString,
        what: impl Into<String>,
        steps: impl IntoIterator<Item = Step>,
    ) {
        self.findings.push(Finding {
            severity: Severity::Debris,
            object: object.to_string(),
            what: what.into(),
            repairable: true,
        });
        for step in steps {
            if !self.plan.steps.contains(&step) {
                self.plan.push(step);
            }
        }
    }
}

/// Compares what is with what should be. With `derived_only` the plan restores only what is
/// derived, as at boot: mounts, links and derived files.
///
/// # Errors
/// [`PlanError`] if the remaking of an unfinished jail cannot be planned.
pub fn diagnose(
    observed: &Observed,
    facts: &Facts,
    derived_only: bool,
) -> Result<Diagnosis, PlanError> {
    let inventory = &observed.inventory;
    let mut found = Diagnosis::default();
    check_site(inventory, facts, &mut found);
    check_tracks(inventory, facts, &mut found);
    for generation in inventory.generations.values() {
        check_generation(inventory, generation, facts, derived_only, &mut found);
    }
    check_jails(observed, facts, derived_only, &mut found)?;
    for stranger in &inventory.strangers {
        found.add(Severity::Info, &stranger.dataset, stranger.why.clone());
    }
    for dataset in &facts.deep {
        found.add(
            Severity::Info,
            dataset,
            "its ezz:jail is ignored: only direct children of the site's jails count",
        );
    }
    if inventory.site.replica {
        found.plan = Plan::default();
        for finding in &mut found.findings {
            finding.repairable = false;
        }
    }
    Ok(found)
}

fn check_site(inventory: &Inventory, facts: &Facts, found: &mut Diagnosis) {
    let site = &inventory.site;
    let name = &site.layout.site;
    if site.replica {
        found.add(
            Severity::Info,
            name,
            "a replica: `ezz doctor --adopt` makes it a site of its own",
        );
    }
    if site.format != crate::model::FORMAT {
        found.add(
            Severity::Broken,
            name,
            format!("its format {} is not known", site.format),
        );
    }
    if !site.mounted {
        let step = Step::Mount {
            dataset: name.clone(),
            at: site.directory.clone(),
            how: MountAs::Site,
        };
        found.mend(name, "it is not mounted", [step]);
    }
    if let Some((mode, owner)) = facts.directory {
        if mode != 0o700 || owner != 0 {
            let step = Step::Mount {
                dataset: name.clone(),
                at: site.directory.clone(),
                how: MountAs::Site,
            };
            let what = format!(
                "mode {mode:04o} and owner {owner}, not 0700 and 0: users of the host may reach files of jails"
            );
            found.mend(site.directory.display(), what, [step]);
        }
    }
}

fn check_tracks(inventory: &Inventory, facts: &Facts, found: &mut Diagnosis) {
    for (name, track) in &inventory.tracks {
        for id in [track.current, track.previous].into_iter().flatten() {
            if inventory.sealed(id).is_none() {
                found.add(
                    Severity::Broken,
                    format!("track {name}"),
                    format!("it names generation {id}, which is not there or not sealed"),
                );
            }
        }
        let Some(current) = track.current else {
            continue;
        };
        let target = PathBuf::from(format!("../{current}"));
        if facts.links.get(name).and_then(Option::as_ref) != Some(&target) {
            let step = Step::Link {
                track: name.clone(),
                generation: current,
            };
            found.mend(
                format!("track {name}"),
                "its link does not point to its generation",
                [step],
            );
        }
    }
}

fn check_generation(
    inventory: &Inventory,
    generation: &Generation,
    facts: &Facts,
    derived_only: bool,
    found: &mut Diagnosis,
) {
    let name = format!("generation {}", generation.display());
    if !generation.sealed() {
        let suspicious = generation
            .base
            .as_ref()
            .is_some_and(|half| half.snapshot.is_some());
        if suspicious {
            found.add(
                Severity::Broken,
                name,
                "it has its snapshot and no seal on it",
            );
        } else if !facts.abandoned.contains(&generation.id) {
            found.add(Severity::Info, name, "it is being built");
        } else if derived_only {
            found.add(Severity::Debris, name, "it was never sealed");
        } else {
            found.mend(
                name,
                "it was never sealed, and nobody is building it",
                world::reap(generation).steps,
            );
        }
        return;
    }
    if generation.world.is_none() {
        found.add(
            Severity::Broken,
            &name,
            "its ezz:world is missing or not valid",
        );
    }
    if generation.skeleton.is_none() {
        found.add(Severity::Broken, &name, "its skeleton is missing");
    }
    if let Some(base) = &generation.base {
        check_base(&name, base, found);
    }
    for snapshot in site::holds(&inventory.site.layout, generation.id) {
        match facts.holds.get(&snapshot) {
            None => {}
            Some(None) => found.add(Severity::Broken, &snapshot, "the snapshot is missing"),
            Some(Some(tags)) if tags.iter().any(|tag| tag == HOLD_TAG) => {
                let foreign: Vec<&String> = tags.iter().filter(|tag| *tag != HOLD_TAG).collect();
                if !foreign.is_empty() {
                    let what = format!("holds that ezz did not make: {foreign:?}");
                    found.add(Severity::Info, &snapshot, what);
                }
            }
            Some(Some(_)) if derived_only => {
                found.add(Severity::Debris, &snapshot, "ezz's hold is missing");
            }
            Some(Some(_)) => {
                let step = Step::Hold {
                    snapshots: vec![snapshot.clone()],
                };
                found.mend(&snapshot, "ezz's hold is missing", [step]);
            }
        }
    }
}

fn check_base(name: &str, base: &Half, found: &mut Diagnosis) {
    if base.written > 0 {
        found.add(
            Severity::Broken,
            name,
            format!(
                "{} bytes were written to its base after the seal: `ezz worlds verify` tells what",
                base.written
            ),
        );
    }
    if !base.mounted {
        let step = Step::Mount {
            dataset: base.dataset.clone(),
            at: base.mountpoint.clone(),
            how: MountAs::Base,
        };
        found.mend(name, "its base is not mounted", [step]);
    }
}

fn check_jails(
    observed: &Observed,
    facts: &Facts,
    derived_only: bool,
    found: &mut Diagnosis,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let mut unfinished: Vec<(&Jail, &JailConfig)> = Vec::new();
    for (name, jail) in &inventory.jails {
        let object = format!("jail {name}");
        let config = match &jail.config {
            Ok(config) => config,
            Err(why) => {
                found.add(Severity::Broken, object, why.clone());
                continue;
            }
        };
        if !config.todo.is_empty() {
            unfinished.push((jail, config));
            continue;
        }
        check_jail(observed, jail, config, &object, found);
        if let Some(paths) = facts.drift.get(name).filter(|paths| !paths.is_empty()) {
            let list: Vec<String> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let what = format!("derived files are missing or differ: {}", list.join(", "));
            if observed.state(name).running() {
                found.add(Severity::Info, &object, what + " (restored after it stops)");
            } else {
                found.mend(&object, what, [Step::Derive { jail: name.clone() }]);
            }
        }
    }
    check_unfinished(inventory, &unfinished, derived_only, found)?;
    for name in &facts.derived {
        if !inventory.jails.contains_key(name) {
            let what = "the host keeps files of a jail that is not there";
            if observed.state(name).running() {
                found.add(
                    Severity::Broken,
                    format!("jail {name}"),
                    "it runs, and has no dataset",
                );
            } else {
                found.mend(
                    format!("jail {name}"),
                    what,
                    [Step::Forget { jail: name.clone() }],
                );
            }
        }
    }
    Ok(())
}

/// All of them in one program, as they were to be made: one after the other takes minutes.
fn check_unfinished(
    inventory: &Inventory,
    unfinished: &[(&Jail, &JailConfig)],
    derived_only: bool,
    found: &mut Diagnosis,
) -> Result<(), PlanError> {
    let mut again: Vec<(&Jail, (JailName, JailConfig))> = Vec::new();
    for (jail, config) in unfinished {
        let object = format!("jail {}", jail.name);
        if inventory.sealed(config.skel).is_none() {
            let what = format!(
                "it was never finished, and generation {} is not there",
                config.skel
            );
            found.add(Severity::Broken, object, what);
        } else if derived_only {
            found.add(Severity::Debris, object, "it was never finished");
        } else {
            found.mend(object, "it was never finished: it is made again", []);
            again.push((jail, (jail.name.clone(), (*config).clone())));
        }
    }
    let mut epoch = Epoch::of(inventory);
    for chunk in again.chunks(create::MOST_IN_ONE) {
        let (jails, made): (Vec<&Jail>, Vec<_>) = chunk.iter().cloned().unzip();
        delete::destroy(&mut found.plan, inventory, &mut epoch, &jails);
        create::make(&mut found.plan, inventory, &mut epoch, &made)?;
    }
    Ok(())
}

fn check_jail(
    observed: &Observed,
    jail: &Jail,
    config: &JailConfig,
    object: &str,
    found: &mut Diagnosis,
) {
    let inventory = &observed.inventory;
    if inventory.sealed(config.skel).is_none() {
        found.add(
            Severity::Broken,
            object,
            format!(
                "the generation {} that it was merged to is not there",
                config.skel
            ),
        );
    }
    if let Base::Pin(id) = &config.base {
        if inventory.sealed(*id).is_none() {
            found.add(
                Severity::Broken,
                object,
                format!("it is pinned to {id}, which is not there"),
            );
        }
    } else if config.kind == Kind::Thin {
        if let Err(error) = run::due(inventory, config) {
            found.add(Severity::Broken, object, error.to_string());
        }
    }
    if !jail.mounted {
        let step = Step::Mount {
            dataset: jail.dataset.clone(),
            at: jail.mountpoint.clone(),
            how: MountAs::Jail,
        };
        found.mend(object, "it is not mounted", [step]);
    }
    if jail.origin.is_none() {
        found.add(
            Severity::Info,
            object,
            "it is a clone of nothing: it was promoted or received",
        );
    }
}
