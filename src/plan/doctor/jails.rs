//! Jails: what they are configured to be, what they need, what the host keeps of them.

use super::{Diagnosis, Facts, Finding, Severity, What};
use crate::model::{Base, Inventory, Jail, JailConfig, JailState, Kind};
use crate::name::{GenerationId, JailName};
use crate::plan::behind::{Behind, late};
use crate::plan::steps::MOST_IN_ONE;
use crate::plan::ways::Snapshots;
use crate::plan::{
    Epoch, JailStep, Observed, Plan, PlanError, Step, generation, intent, lookup, steps, undo,
};

pub(super) fn check(
    observed: &Observed,
    facts: &Facts,
    derived_only: bool,
    found: &mut Diagnosis,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let mut epoch = Epoch::of(inventory);
    let mut unfinished: Vec<(&Jail, &JailConfig)> = Vec::new();
    for (name, jail) in &inventory.jails {
        let object = format!("jail {name}");
        left(inventory, name, facts, &object, found);
        left_down(observed, name, facts, &object, found);
        let config = match &jail.config {
            Ok(config) => config,
            Err(why) => {
                found.add(
                    Finding::new(What::JailInvalid, Severity::Broken, object, why.clone()).hint(
                        "no command changes it; correct ezz:jail with zfs set, or destroy it",
                    ),
                );
                continue;
            }
        };
        if !config.todo.is_empty() {
            unfinished.push((jail, config));
            continue;
        }
        let interrupted = facts.interrupted.get(name);
        merging(
            inventory,
            jail,
            interrupted,
            derived_only,
            &mut epoch,
            found,
        )?;
        needs(inventory, config, &object, found);
        foreign_world(observed, config, &object, found);
        limits(config, &object, found);
        datasets(config, facts, &object, found);
        mounted(inventory, jail, &object, found);
        match facts.rolled_back.get(name) {
            Some(files) => rolled_back(name, *files, &object, found),
            None => behind(observed, jail, config, &object, found),
        }
        unlimited(observed, name, facts, &object, found);
        differing(observed, name, facts, &object, found);
        taken(jail, facts, &object, found);
        derived(observed, name, facts, &object, found);
    }
    uncommitted(inventory, derived_only, &mut epoch, found);
    unfinished_jails(observed, &unfinished, derived_only, &mut epoch, found)?;
    host(observed, facts, found);
    Ok(())
}

/// The mark of a merge: with it a jail does not start.
fn merging(
    inventory: &Inventory,
    jail: &Jail,
    interrupted: Option<&Snapshots>,
    derived_only: bool,
    epoch: &mut Epoch,
    found: &mut Diagnosis,
) -> Result<(), PlanError> {
    let Some(merging) = &jail.merging else {
        return Ok(());
    };
    let object = format!("jail {}", jail.name);
    let way = format!("from generation {} to {}", merging.from, merging.to);
    let Some(snapshots) = interrupted else {
        let what = format!("its files are being merged {way}: it cannot start until then");
        found.add(Finding::new(What::Merging, Severity::Info, object, what));
        return Ok(());
    };
    let what = format!("the merge of its files {way} was interrupted: it cannot start");
    let finding = |severity, what: String| {
        Finding::new(What::Merging, severity, &object, what)
            .made_by("a merge that was killed, or a power failure during it")
    };
    if derived_only {
        found.add(finding(Severity::Debris, what));
        return Ok(());
    }
    let mut back = Plan::default();
    match undo::undo(&mut back, epoch, inventory, jail, snapshots) {
        Ok(()) => found.mend(finding(Severity::Debris, what), back.steps),
        Err(PlanError::MergedBefore { first, count, .. }) => {
            let why = format!(
                "; it cannot be undone, since that would destroy {count} newer snapshots, such as {first}"
            );
            let hint = "destroy them with zfs if you do not need their half-merged files; then `ezz doctor --repair`";
            found.add(finding(Severity::Broken, what + &why).hint(hint));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What commands that were killed between intent and commit left.
fn uncommitted(
    inventory: &Inventory,
    derived_only: bool,
    epoch: &mut Epoch,
    found: &mut Diagnosis,
) {
    let finding = |object: String, what: String| {
        Finding::new(What::Uncommitted, Severity::Debris, object, what)
            .made_by("a create or delete that was killed")
    };
    let mut tell = |finding: Finding| match derived_only {
        true => found.add(finding),
        false => found.mend(finding, []),
    };
    let mut kept = Vec::new();
    for (name, debris) in &inventory.debris {
        let object = format!("jail {name}");
        let what = if debris.deleted {
            "its deletion was interrupted, and it is not a jail"
        } else {
            "its creation was interrupted, and it is not a jail"
        };
        if debris.below.is_empty() {
            tell(finding(object, what.to_owned()));
        } else {
            let list = debris.below.join(", ");
            let what =
                format!("{what}; it stays because of objects that ezz did not create: {list}");
            let hint = format!("`ezz delete {name} --foreign-snapshots`");
            kept.push(finding(object, what).hint(hint));
        }
    }
    for name in inventory.intents.keys() {
        let mut debris = inventory.debris.values();
        if debris.all(|debris| debris.intent != *name) {
            let what = format!("{name} is left over from an interrupted command");
            tell(finding(inventory.site.layout.jails.to_string(), what));
        }
    }
    kept.into_iter().for_each(|finding| found.add(finding));
    if !derived_only {
        intent::clear(&mut found.plan, inventory, epoch);
    }
}

/// Finished in place, not made again: of a jail that was destroyed for that, a kill would leave nothing.
fn unfinished_jails(
    observed: &Observed,
    unfinished: &[(&Jail, &JailConfig)],
    derived_only: bool,
    epoch: &mut Epoch,
    found: &mut Diagnosis,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let mut finished: Vec<(JailName, JailConfig)> = Vec::new();
    for (jail, config) in unfinished {
        let finding = |severity, what: String| {
            let object = format!("jail {}", jail.name);
            Finding::new(What::Unfinished, severity, object, what)
                .made_by("a create that was killed")
        };
        if !merged_to(inventory, config) {
            let what = format!(
                "it was never finished, and generation {} does not exist",
                config.skel
            );
            let hint = format!("`ezz delete {}`", jail.name);
            found.add(finding(Severity::Broken, what).hint(hint));
        } else if derived_only {
            found.add(finding(
                Severity::Debris,
                "it was never finished".to_owned(),
            ));
        } else {
            let what = "it was never finished".to_owned();
            found.mend(finding(Severity::Debris, what), []);
            finished.push((jail.name.clone(), (*config).clone()));
        }
    }
    for chunk in finished.chunks(MOST_IN_ONE) {
        steps::finish_new(&mut found.plan, inventory, epoch, chunk)?;
    }
    Ok(())
}

/// Whether what a jail was made from or merged to is there.
fn merged_to(inventory: &Inventory, config: &JailConfig) -> bool {
    match config.kind {
        Kind::Thin => inventory.skeleton(config.skel).is_some(),
        Kind::Thick => inventory.rules(config.skel).is_some(),
    }
}

/// Generations and tracks that it names.
fn needs(inventory: &Inventory, config: &JailConfig, object: &str, found: &mut Diagnosis) {
    let mut missing = |what: String, hint: &str| {
        found.add(Finding::new(What::GenerationMissing, Severity::Broken, object, what).hint(hint));
    };
    if !merged_to(inventory, config) {
        let what = format!(
            "the generation {} that it was merged to does not exist",
            config.skel
        );
        missing(what, "its next merge will fail");
    }
    let start = "it cannot start: set another base in its ezz:jail, or delete it";
    if let Base::Pin(id) = &config.base {
        if inventory.sealed(*id).is_none() {
            missing(format!("it is pinned to {id}, which does not exist"), start);
        }
    } else if config.kind == Kind::Thin {
        // A track that names what is not there is a finding of the track.
        if let Err(error) = lookup::generation_of_base(inventory, &config.base) {
            missing(error.to_string(), start);
        }
    }
}

/// On another system its world does not run.
fn foreign_world(observed: &Observed, config: &JailConfig, object: &str, found: &mut Diagnosis) {
    let inventory = &observed.inventory;
    // What it is brought to before it starts.
    let starts_on = match config.kind {
        Kind::Thin => lookup::target(inventory, config).map_or(config.skel, |(target, _)| target),
        Kind::Thick => config.skel,
    };
    let generation = inventory.sealed(starts_on);
    let foreign = generation.map(|generation| generation::ensure_native(generation, observed.os));
    if let Some(Err(error)) = foreign {
        let what = format!("it cannot start: {error}");
        found.add(
            Finding::new(What::WorldForeign, Severity::Broken, object, what)
                .hint("it can start on a host of that system if you move the pool there"),
        );
    }
}

/// Without them the jail does not start.
fn datasets(config: &JailConfig, facts: &Facts, object: &str, found: &mut Diagnosis) {
    let lacking = config.datasets.iter();
    for lack in lacking.filter_map(|it| facts.lacking.get(it)) {
        let what = format!("it cannot start: this host lacks {}", lack.what);
        let finding = Finding::new(What::OwnDatasetLacking, Severity::Broken, object, what);
        found.add(finding.hint(&*lack.hint));
    }
}

fn limits(config: &JailConfig, object: &str, found: &mut Diagnosis) {
    let unknown = config.limits.unknown();
    if !unknown.is_empty() {
        let list = unknown.join(", ");
        let what = format!("it cannot start: this ezz does not know its limits {list}");
        found.add(
            Finding::new(What::LimitsUnknown, Severity::Broken, object, what)
                .made_by("a newer ezz")
                .hint("a newer ezz can start it; ezz keeps its limits"),
        );
    }
}

fn mounted(inventory: &Inventory, jail: &Jail, object: &str, found: &mut Diagnosis) {
    if !jail.mounted {
        let finding = Finding::new(
            What::NotMounted,
            Severity::Debris,
            object,
            "it is not mounted",
        );
        let at = inventory.site.directory.join(jail.name.as_str());
        if jail.mountpoint == at {
            let step = Step::mount_jail(jail);
            found.mend(finding, [step]);
        } else {
            // To mount it there would be to do what somebody's property says; that is a finding.
            found.add(finding);
        }
    }
    // One that was promoted over its generation is told there.
    let halves = inventory.generations.values();
    let mut halves = halves.flat_map(|it| [&it.base, &it.skeleton].into_iter().flatten());
    let promoted = halves.any(|half| inventory.promoted(half) == Some(jail.name.as_str()));
    if jail.origin.is_none() && !promoted {
        let what = "it is not a clone: it was promoted or received";
        found.add(Finding::new(
            What::OriginMissing,
            Severity::Info,
            object,
            what,
        ));
    }
}

/// It does not start: its configuration speaks of a merge that its files have lost.
fn rolled_back(name: &JailName, files: GenerationId, object: &str, found: &mut Diagnosis) {
    let what = format!(
        "its files were rolled back to generation {files}, which does not match its configuration: it cannot start"
    );
    found.add(
        Finding::new(What::RolledBack, Severity::Broken, object, what)
            .made_by("a rollback with zfs(8) to a snapshot from before a merge")
            .hint(format!("`ezz merge {name}` merges them again")),
    );
}

/// It is not at its target, or a conflict keeps it from its track.
fn behind(
    observed: &Observed,
    jail: &Jail,
    config: &JailConfig,
    object: &str,
    found: &mut Diagnosis,
) {
    let name = &jail.name;
    let mut add = |kind, what: String, hint: String| {
        found.add(Finding::new(kind, Severity::Info, object, what).hint(hint));
    };
    // What is mounted in a jail that runs may not be known.
    let unknown = |late: &Behind| {
        let up = observed.state(name).running();
        up && late.runs.is_none() && late.files == late.target
    };
    // A target that is not there is a finding of its own.
    let there = |late: &Behind| observed.inventory.sealed(late.target).is_some();
    if let Some(late) = late(observed, jail).filter(|it| !unknown(it) && there(it)) {
        let (files, target) = (late.files, late.target);
        let runs = match observed.state(name) {
            JailState::Running { base, .. } => base,
            JailState::Stopped { .. } | JailState::Starting | JailState::Dying => None,
        };
        let gone = match observed.inventory.sealed(files) {
            Some(_) => "",
            None => ", whose base does not exist",
        };
        let files = format!("its own files are at generation {files}{gone}");
        match runs {
            Some(runs) => add(
                What::Behind,
                format!("it runs on {runs}, but generation {target} is due: {files}"),
                format!("`ezz converge {name}` at a convenient time"),
            ),
            None => add(
                What::Behind,
                format!("{files}: ezz merges them to generation {target} when it starts"),
                format!("`ezz merge {name}` does it now"),
            ),
        }
    } else if let Some(held) = config.held() {
        let (track, of, at) = (&held.track, held.of, config.skel);
        add(
            What::Held,
            format!(
                "its own files could not be merged to generation {of} of the track {track}: it is pinned to {at} until the track has another generation"
            ),
            format!("`ezz merge {name} --follow {track} --dry-run` shows why, while it is stopped"),
        );
    }
}

fn unlimited(
    observed: &Observed,
    name: &JailName,
    facts: &Facts,
    object: &str,
    found: &mut Diagnosis,
) {
    if observed.state(name).running() && facts.without_limits.contains(name) {
        let what = "its cgroups have no limits: an older ezz started it";
        let hint = format!("`ezz restart {name}` at a convenient time");
        found.add(Finding::new(What::LimitsMissing, Severity::Info, object, what).hint(hint));
    }
}

/// Whoever has started it, or has changed what: only another start makes them the same.
fn differing(
    observed: &Observed,
    name: &JailName,
    facts: &Facts,
    object: &str,
    found: &mut Diagnosis,
) {
    if let (true, Some(list)) = (observed.state(name).running(), facts.differing.get(name)) {
        let what = format!(
            "its running parameters differ from its configuration: {}",
            list.join(", ")
        );
        let hint = format!("`ezz restart {name}` at a convenient time");
        found.add(Finding::new(What::ParametersDiffer, Severity::Info, object, what).hint(hint));
    }
}

/// It cannot start, and no file of it can be made.
fn taken(jail: &Jail, facts: &Facts, object: &str, found: &mut Diagnosis) {
    if let Some(taken) = facts.taken.get(&jail.name) {
        let what = format!("its name is in use on this host: {}", taken.by);
        let finding = Finding::new(What::NameTaken, Severity::Broken, object, what);
        found.add(finding.hint(taken.hint_for(&jail.dataset)));
    }
}

/// Cleared away before anything else of that jail is done.
fn left(
    inventory: &Inventory,
    name: &JailName,
    facts: &Facts,
    object: &str,
    found: &mut Diagnosis,
) {
    if facts.left.contains(name) {
        let what = "it is not running, but mounts or files of its last run are left";
        let finding = Finding::new(What::HostLeft, Severity::Debris, object, what)
            .made_by("a jail that ended by itself, or a command that was killed");
        let stop = steps::stop(inventory, name);
        found.mend(finding, [Step::lane(name.clone(), stop)]);
    }
}

/// Whether a jail is to run is its owner's to say: it is named, and not started.
fn left_down(
    observed: &Observed,
    name: &JailName,
    facts: &Facts,
    object: &str,
    found: &mut Diagnosis,
) {
    if facts.moving.contains(name) && matches!(observed.state(name), JailState::Stopped { .. }) {
        let what = "it is stopped: it was not started again on another basejail";
        let hint = format!("`ezz converge {name}` starts it, `ezz stop {name}` leaves it stopped");
        found.add(
            Finding::new(What::LeftDown, Severity::Broken, object, what)
                .made_by("a converge or roll-out that was killed, or failed")
                .hint(hint),
        );
    }
}

fn derived(
    observed: &Observed,
    name: &JailName,
    facts: &Facts,
    object: &str,
    found: &mut Diagnosis,
) {
    let Some(paths) = facts.drift.get(name).filter(|paths| !paths.is_empty()) else {
        return;
    };
    if facts.taken.contains_key(name) {
        return;
    }
    let list: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let what = format!("derived files are missing or differ: {}", list.join(", "));
    if observed.state(name).running() && !facts.left.contains(name) {
        let what = what + " (restored after it stops)";
        found.add(Finding::new(
            What::DerivedWrong,
            Severity::Info,
            object,
            what,
        ));
    } else {
        let finding = Finding::new(What::DerivedWrong, Severity::Debris, object, what);
        let mut derive = Plan::default();
        if let Ok(config) = lookup::config(&observed.inventory, name) {
            steps::derive(&mut derive, &observed.inventory, name, config);
        }
        found.mend(finding, derive.steps);
    }
}

/// How an administrator ends a jail that ezz does not know any more.
fn ends(name: &JailName, freebsd: bool) -> String {
    if freebsd {
        format!("`jail -R {name}` ends it; `ezz doctor --repair` then clears what it leaves")
    } else {
        format!("`ezz stop` does not know it; its processes are in the cgroups below ezz/…/{name}")
    }
}

/// What the host has of jails that are not there.
fn host(observed: &Observed, facts: &Facts, found: &mut Diagnosis) {
    let known = |name: &JailName| observed.inventory.jails.contains_key(name);
    for (name, state) in &observed.states {
        if state.running() && !known(name) {
            let hint = ends(name, facts.freebsd);
            found.add(
                Finding::new(
                    What::RunsWithoutDataset,
                    Severity::Broken,
                    format!("jail {name}"),
                    "it is running, but has no dataset",
                )
                .made_by("the dataset was destroyed or renamed with zfs")
                .hint(hint),
            );
        }
    }
    for name in &facts.derived {
        if !known(name) && !observed.state(name).running() {
            let finding = Finding::new(
                What::HostLeft,
                Severity::Debris,
                format!("jail {name}"),
                "the host keeps files of a jail that does not exist",
            )
            .made_by("an interrupted delete, or a zfs destroy by hand");
            let forget = JailStep::Forget { jail: name.clone() };
            found.mend(finding, [Step::lane(name.clone(), forget)]);
        }
    }
}
