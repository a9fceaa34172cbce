//! Jails: what they are configured to be, what they need, what the host keeps of them.

use super::unfinished::{self, Marked, Unfinished};
use super::{Examination, Facts, Site, one};
use crate::model::{Base, Inventory, Jail, JailConfig, JailState, Kind};
use crate::name::JailName;
use crate::plan::behind::{Behind, late};
use crate::plan::check::{self, Case, Check, Row};
use crate::plan::finding::{Severity, What};
use crate::plan::{JailStep, Observed, Plan, PlanError, Step, generation, lookup, steps};

/// A dataset of a jail, whatever its `ezz:jail` says.
struct Any<'a> {
    site: Site<'a>,
    jail: &'a Jail,
}

/// A jail whose creation is finished.
struct View<'a> {
    site: Site<'a>,
    jail: &'a Jail,
    config: &'a JailConfig,
}

impl Any<'_> {
    fn case(&self, what: impl Into<String>) -> Case {
        Case::new(format!("jail {}", self.jail.name), what)
    }
}

impl View<'_> {
    fn case(&self, what: impl Into<String>) -> Case {
        Case::new(format!("jail {}", self.jail.name), what)
    }

    fn inventory(&self) -> &Inventory {
        &self.site.observed.inventory
    }

    fn facts(&self) -> &Facts {
        self.site.facts
    }

    fn running(&self) -> bool {
        self.site.observed.state(&self.jail.name).running()
    }
}

impl Site<'_> {
    /// Whether the skeleton that a jail's own files are at exists; for a thick jail, the rules of its world.
    pub(super) fn has_skeleton(&self, config: &JailConfig) -> bool {
        let inventory = &self.observed.inventory;
        match config.kind {
            Kind::Thin => inventory.skeleton(config.skel).is_some(),
            Kind::Thick => inventory.rules(config.skel).is_some(),
        }
    }
}

/// The rows of all tables of this file.
pub(super) fn rows() -> Vec<Row> {
    [
        check::rows(&any()),
        check::rows(&finished()),
        check::rows(&host()),
    ]
    .concat()
}

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    let (any, merging, finished) = (any(), unfinished::merging(), finished());
    let mut unfinished = Vec::new();
    for jail in site.observed.inventory.jails.values() {
        examination.run(&any, &Any { site, jail })?;
        let Ok(config) = &jail.config else {
            continue;
        };
        if !config.todo.is_empty() {
            unfinished.push(Unfinished { site, jail, config });
            continue;
        }
        if let Some(merging_to) = &jail.merging {
            let marked = Marked {
                site,
                jail,
                merging: merging_to,
            };
            examination.run(&merging, &marked)?;
        }
        examination.run(&finished, &View { site, jail, config })?;
    }
    unfinished::examine(examination, &unfinished)?;
    examination.mend_together()?;
    examination.run(&host(), &site)
}

fn any<'a>() -> [Check<Any<'a>>; 3] {
    use Severity::{Broken, Debris};
    [
        Check::new(What::HostLeft, Debris, left)
            .cause("a jail that ended by itself, or a command that was killed"),
        Check::new(What::LeftDown, Broken, left_down)
            .cause("a converge or roll-out that was killed, or failed"),
        Check::new(What::JailInvalid, Broken, invalid)
            .hint("no command changes it; correct ezz:jail with zfs set, or destroy it"),
    ]
}

fn finished<'a>() -> [Check<View<'a>>; 15] {
    use Severity::{Broken, Debris, Info};
    [
        Check::new(What::GenerationMissing, Broken, skeleton_missing)
            .hint("its next merge will fail"),
        Check::new(What::GenerationMissing, Broken, base_missing)
            .hint("it cannot start: set another base in its ezz:jail, or delete it"),
        Check::new(What::WorldForeign, Broken, world_foreign)
            .hint("it can start on a host of that system if you move the pool there"),
        Check::new(What::LimitsUnknown, Broken, limits_unknown)
            .cause("a newer ezz")
            .hint("a newer ezz can start it; ezz keeps its limits"),
        Check::new(What::OwnDatasetLacking, Broken, datasets_lacking),
        Check::new(What::NotMounted, Debris, not_mounted),
        Check::new(What::OriginMissing, Info, origin_missing),
        Check::new(What::RolledBack, Broken, rolled_back)
            .cause("a rollback with zfs(8) to a snapshot from before a merge"),
        Check::new(What::Behind, Info, behind),
        Check::new(What::Held, Info, held),
        Check::new(What::LimitsMissing, Info, limits_missing),
        Check::new(What::ParametersDiffer, Info, parameters_differ),
        Check::new(What::NameTaken, Broken, name_taken),
        Check::new(What::DerivedWrong, Info, derived_of_running),
        Check::new(What::DerivedWrong, Debris, derived_wrong),
    ]
}

fn host<'a>() -> [Check<Site<'a>>; 2] {
    use Severity::{Broken, Debris};
    [
        Check::new(What::RunsWithoutDataset, Broken, runs_without_dataset)
            .cause("the dataset was destroyed or renamed with zfs"),
        Check::new(What::HostLeft, Debris, derived_left)
            .cause("an interrupted delete, or a zfs destroy by hand"),
    ]
}

/// Cleared away before anything else of that jail is done.
fn left(any: &Any<'_>) -> Vec<Case> {
    let name = &any.jail.name;
    one(any.site.facts.left.contains(name).then(|| {
        let stop = steps::stop(&any.site.observed.inventory, name);
        any.case("it is not running, but mounts or files of its last run are left")
            .steps([Step::lane(name.clone(), stop)])
    }))
}

/// Whether a jail is to run is for its owner to decide: it is reported, and not started.
fn left_down(any: &Any<'_>) -> Vec<Case> {
    let name = &any.jail.name;
    let stopped = matches!(any.site.observed.state(name), JailState::Stopped { .. });
    one((stopped && any.site.facts.moving.contains(name)).then(|| {
        any.case("it is stopped: it was not started again on another basejail")
            .hint(format!(
                "`ezz converge {name}` starts it, `ezz stop {name}` leaves it stopped"
            ))
    }))
}

fn invalid(any: &Any<'_>) -> Vec<Case> {
    let why = any.jail.config.as_ref().err();
    one(why.map(|why| any.case(why.clone())))
}

fn skeleton_missing(view: &View<'_>) -> Vec<Case> {
    let missing = !view.site.has_skeleton(view.config);
    one(missing.then(|| {
        let skel = view.config.skel;
        view.case(format!(
            "the generation {skel} that it was merged to does not exist"
        ))
    }))
}

fn base_missing(view: &View<'_>) -> Vec<Case> {
    let (inventory, config) = (view.inventory(), view.config);
    one(match &config.base {
        Base::Pin(id) => {
            let missing = inventory.sealed(*id).is_none();
            missing.then(|| view.case(format!("it is pinned to {id}, which does not exist")))
        }
        // A track that names what does not exist is a finding of the track.
        base if config.kind == Kind::Thin => {
            let error = lookup::generation_of_base(inventory, base).err();
            error.map(|error| view.case(error.to_string()))
        }
        _ => None,
    })
}

/// On another system its world does not run.
fn world_foreign(view: &View<'_>) -> Vec<Case> {
    let (inventory, config) = (view.inventory(), view.config);
    // The generation that it is merged to before it starts.
    let starts_on = match config.kind {
        Kind::Thin => lookup::target(inventory, config).map_or(config.skel, |(target, _)| target),
        Kind::Thick => config.skel,
    };
    let generation = inventory.sealed(starts_on);
    let native = generation.map(|it| generation::ensure_native(it, view.site.observed.os));
    let foreign = native.and_then(Result::err);
    one(foreign.map(|error| view.case(format!("it cannot start: {error}"))))
}

fn limits_unknown(view: &View<'_>) -> Vec<Case> {
    let unknown = view.config.limits.unknown();
    one((!unknown.is_empty()).then(|| {
        let list = unknown.join(", ");
        view.case(format!(
            "it cannot start: this ezz does not know its limits {list}"
        ))
    }))
}

/// Without them the jail does not start.
fn datasets_lacking(view: &View<'_>) -> Vec<Case> {
    let lacking = &view.facts().lacking;
    let lacks = view.config.datasets.iter().filter_map(|it| lacking.get(it));
    lacks
        .map(|lack| {
            view.case(format!("it cannot start: this host lacks {}", lack.what))
                .hint(&*lack.hint)
        })
        .collect()
}

fn not_mounted(view: &View<'_>) -> Vec<Case> {
    let jail = view.jail;
    let at = view.inventory().site.directory.join(jail.name.as_str());
    one((!jail.mounted).then(|| {
        let case = view.case("it is not mounted");
        // A mount elsewhere would follow a property that was changed, which is a finding of its own.
        match jail.mountpoint == at {
            true => case.steps([Step::mount_jail(jail)]),
            false => case,
        }
    }))
}

fn origin_missing(view: &View<'_>) -> Vec<Case> {
    // One that was promoted over its generation is reported there.
    let halves = view.inventory().generations.values();
    let mut halves = halves.flat_map(|it| [&it.base, &it.skeleton].into_iter().flatten());
    let name = Some(view.jail.name.as_str());
    let promoted = halves.any(|half| view.inventory().promoted(half) == name);
    let missing = view.jail.origin.is_none() && !promoted;
    one(missing.then(|| view.case("it is not a clone: it was promoted or received")))
}

/// It does not start: its configuration names a merge that its files have lost.
fn rolled_back(view: &View<'_>) -> Vec<Case> {
    let name = &view.jail.name;
    one(view.facts().rolled_back.get(name).map(|files| {
        let what = format!(
            "its files were rolled back to generation {files}, which does not match its configuration: it cannot start"
        );
        view.case(what)
            .hint(format!("`ezz merge {name}` merges them again"))
    }))
}

/// The target that a jail is not at.
fn lateness(view: &View<'_>) -> Option<Behind> {
    let (observed, jail) = (view.site.observed, view.jail);
    if view.facts().rolled_back.contains_key(&jail.name) {
        return None;
    }
    // What is mounted in a jail that runs may not be known.
    let unknown =
        |late: &Behind| view.running() && late.runs.is_none() && late.files == late.target;
    // A target that does not exist is a finding of its own.
    let exists = |late: &Behind| observed.inventory.sealed(late.target).is_some();
    late(observed, jail).filter(|it| !unknown(it) && exists(it))
}

fn behind(view: &View<'_>) -> Vec<Case> {
    let (observed, name) = (view.site.observed, &view.jail.name);
    one(lateness(view).map(|late| {
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
            Some(runs) => view
                .case(format!(
                    "it runs on {runs}, but generation {target} is due: {files}"
                ))
                .hint(format!("`ezz converge {name}` at a convenient time")),
            None => view
                .case(format!(
                    "{files}: ezz merges them to generation {target} when it starts"
                ))
                .hint(format!("`ezz merge {name}` does it now")),
        }
    }))
}

/// A conflict keeps it from its track.
fn held(view: &View<'_>) -> Vec<Case> {
    let rolled_back = view.facts().rolled_back.contains_key(&view.jail.name);
    let held = view.config.held().filter(|_| !rolled_back);
    one(held.filter(|_| lateness(view).is_none()).map(|held| {
        let (name, track) = (&view.jail.name, &held.track);
        let what = format!(
            "its own files could not be merged to generation {} of the track {track}: it is pinned to {} until the track has another generation",
            held.of, view.config.skel
        );
        view.case(what).hint(format!(
            "`ezz merge {name} --follow {track} --dry-run` shows why, while it is stopped"
        ))
    }))
}

fn limits_missing(view: &View<'_>) -> Vec<Case> {
    let name = &view.jail.name;
    let missing = view.running() && view.facts().without_limits.contains(name);
    one(missing.then(|| {
        view.case("its cgroups have no limits: an older ezz started it")
            .hint(format!("`ezz restart {name}` at a convenient time"))
    }))
}

/// Only another start makes them the same.
fn parameters_differ(view: &View<'_>) -> Vec<Case> {
    let name = &view.jail.name;
    let differing = view.facts().differing.get(name);
    one(differing.filter(|_| view.running()).map(|list| {
        let list = list.join(", ");
        view.case(format!(
            "its running parameters differ from its configuration: {list}"
        ))
        .hint(format!("`ezz restart {name}` at a convenient time"))
    }))
}

/// It cannot start, and no file of it can be made.
fn name_taken(view: &View<'_>) -> Vec<Case> {
    one(view.facts().taken.get(&view.jail.name).map(|taken| {
        view.case(format!("its name is in use on this host: {}", taken.by))
            .hint(taken.hint_for(&view.jail.dataset))
    }))
}

/// What is wrong with its derived files.
fn drift(view: &View<'_>) -> Option<String> {
    let name = &view.jail.name;
    let paths = view.facts().drift.get(name).filter(|it| !it.is_empty())?;
    if view.facts().taken.contains_key(name) {
        return None;
    }
    let list: Vec<String> = paths.iter().map(|it| it.display().to_string()).collect();
    let list = list.join(", ");
    Some(format!("derived files are missing or differ: {list}"))
}

/// Whether a repair has to wait until the jail stops.
fn uses_derived(view: &View<'_>) -> bool {
    view.running() && !view.facts().left.contains(&view.jail.name)
}

fn derived_of_running(view: &View<'_>) -> Vec<Case> {
    let drift = drift(view).filter(|_| uses_derived(view));
    one(drift.map(|what| view.case(what + " (restored after it stops)")))
}

fn derived_wrong(view: &View<'_>) -> Vec<Case> {
    let drift = drift(view).filter(|_| !uses_derived(view));
    one(drift.map(|what| {
        let (inventory, name) = (view.inventory(), &view.jail.name);
        let mut derive = Plan::default();
        if let Ok(config) = lookup::config(inventory, name) {
            steps::derive(&mut derive, inventory, name, config);
        }
        view.case(what).steps(derive.steps)
    }))
}

fn is_known(observed: &Observed, name: &JailName) -> bool {
    observed.inventory.jails.contains_key(name)
}

fn runs_without_dataset(at: &Site<'_>) -> Vec<Case> {
    let states = at.observed.states.iter();
    let unknown = states.filter(|(name, state)| state.running() && !is_known(at.observed, name));
    unknown
        .map(|(name, _)| {
            Case::new(format!("jail {name}"), "it is running, but has no dataset")
                .hint(ending(name, at.facts.freebsd))
        })
        .collect()
}

/// How an administrator ends a jail that ezz does not know any more.
fn ending(name: &JailName, freebsd: bool) -> String {
    if freebsd {
        format!("`jail -R {name}` ends it; `ezz doctor --repair` then clears what it leaves")
    } else {
        format!("`ezz stop` does not know it; its processes are in the cgroups below ezz/…/{name}")
    }
}

fn derived_left(at: &Site<'_>) -> Vec<Case> {
    let left = at
        .facts
        .derived
        .iter()
        .filter(|name| !is_known(at.observed, name) && !at.observed.state(name).running());
    left.map(|name| {
        let what = "the host keeps files of a jail that does not exist";
        let forget = JailStep::Forget { jail: name.clone() };
        Case::new(format!("jail {name}"), what).steps([Step::lane(name.clone(), forget)])
    })
    .collect()
}
