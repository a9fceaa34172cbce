//! Computes the difference between a site and a fleet file.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Diff, Does, Field, New, Request, Seen, addresses, movement};
use crate::fleet::{At, Fleet, FleetError, Origin, Place, Wanted, Wish};
use crate::model::{Address, Base, Jail, JailConfig, Kind, Limits, Todo, in_units};
use crate::name::{DatasetName, JailName, TrackName};
use crate::plan::behind::behind;
use crate::plan::new::{self, Choice};
use crate::plan::{Observed, PlanError, delegated, listed, lookup, source, writable};

/// Compares a site with a file.
///
/// # Errors
/// [`PlanError::Fleet`]: a jail of another fleet, or one that cannot be changed as the file wants; a track, generation,
/// flavour, source or dependency that does not exist; an address that another jail has.
pub fn diff(observed: &Observed, request: &Request, seen: &Seen) -> Result<Diff, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let fleet = &request.fleet;
    let gone = gone(observed, request)?;
    let wanted: BTreeMap<&JailName, &Wanted> = fleet
        .jails
        .iter()
        .filter(|(_, wanted)| wanted.wish != Some(Wish::Absent))
        .collect();
    let mut addresses = addresses::assign(inventory, &wanted, &gone)?;
    let mut diff = Diff::default();
    for name in &gone {
        let does = vec![Does::Delete];
        let fields = Vec::new();
        diff.changes.insert(name.clone(), Change { does, fields });
    }
    for (name, wanted) in wanted {
        there(observed, fleet, &gone, wanted)?;
        datasets(observed, fleet, &gone, name, wanted)?;
        let addresses = addresses.remove(name).unwrap_or_default();
        let found = match inventory.jails.get(name) {
            None => None,
            Some(jail) => match &jail.config {
                Ok(config) => Some((jail, config)),
                Err(why) => {
                    let what = format!("{} is not a jail that ezz can use: {why}", jail.dataset);
                    return Err(FleetError::new(wanted.place, what).into());
                }
            },
        };
        match found {
            Some((jail, config)) if config.todo.is_empty() => {
                let as_it_is = (jail, config);
                existing(
                    observed, request, name, wanted, addresses, as_it_is, seen, &mut diff,
                )?;
            }
            found => {
                if found.is_some() {
                    diff.unfinished.push(name.clone());
                }
                new(observed, seen, request, name, wanted, addresses, &mut diff)?;
            }
        }
    }
    Ok(diff)
}

/// Returns the jails to delete.
fn gone(observed: &Observed, request: &Request) -> Result<BTreeSet<JailName>, PlanError> {
    let mut gone = BTreeSet::new();
    for (name, jail) in &observed.inventory.jails {
        let owner = jail.config.as_ref().ok().and_then(|it| it.fleet.as_ref());
        let own = owner == Some(&request.fleet.name);
        let wanted = request.fleet.jails.get(name);
        if let (Some(wanted), Some(owner), false) = (wanted, owner, own) {
            let what = format!("the jail {name} belongs to the fleet {owner}");
            return Err(FleetError::new(wanted.place, what).into());
        }
        let goes = match wanted {
            Some(wanted) => wanted.wish == Some(Wish::Absent),
            None => own && request.prune,
        };
        if goes {
            gone.insert(name.clone());
        }
    }
    Ok(gone)
}

/// Refuses dependencies and flavours that do not exist.
fn there(
    observed: &Observed,
    fleet: &Fleet,
    gone: &BTreeSet<JailName>,
    wanted: &Wanted,
) -> Result<(), FleetError> {
    for At { value, place } in wanted.depends.iter().flatten() {
        let absent = |jail: &Wanted| jail.wish == Some(Wish::Absent);
        let there = match fleet.jails.get(value) {
            Some(other) => !absent(other),
            None => observed.inventory.jails.contains_key(value) && !gone.contains(value),
        };
        if !there {
            let what = format!("the jail {value} is to be absent");
            return Err(FleetError::new(*place, what));
        }
    }
    for At { value, place } in &wanted.flavours {
        if !observed.flavours.contains(value) {
            let why = PlanError::NoFlavour(value.clone());
            return Err(FleetError::new(*place, why));
        }
    }
    Ok(())
}

/// Refuses datasets of the site, and datasets that another jail has.
fn datasets(
    observed: &Observed,
    fleet: &Fleet,
    gone: &BTreeSet<JailName>,
    name: &JailName,
    wanted: &Wanted,
) -> Result<(), FleetError> {
    let nothing: &[DatasetName] = &[];
    for At { value, place } in wanted.datasets.iter().flatten() {
        // The datasets in the file replace those of its jails, and are compared below.
        let others = |other: &JailName| {
            let said = fleet
                .jails
                .get(other)
                .is_some_and(|it| it.datasets.is_some());
            (gone.contains(other) || said).then_some(nothing)
        };
        delegated::may_have(&observed.inventory, Some(name), value, others)
            .map_err(|why| FleetError::new(*place, why))?;
        for (owner, jail) in fleet.jails.iter().filter(|(owner, _)| *owner < name) {
            let theirs = jail.datasets.iter().flatten().map(|at| &at.value);
            if jail.wish != Some(Wish::Absent)
                && theirs.into_iter().any(|it| delegated::overlap(it, value))
            {
                let (dataset, owner) = (value.clone(), owner.clone());
                let why = PlanError::DatasetTaken { dataset, owner };
                return Err(FleetError::new(*place, why));
            }
        }
    }
    Ok(())
}

/// Applies what the file says about a jail to the configuration that the jail has or would have.
fn common(
    fleet: &Fleet,
    wanted: &Wanted,
    addresses: Vec<Address>,
    config: JailConfig,
) -> JailConfig {
    let values = |all: &[At<DatasetName>]| all.iter().map(|at| at.value.clone()).collect();
    let jails = |all: &[At<JailName>]| all.iter().map(|at| at.value.clone()).collect();
    let limits = wanted.limits.as_ref().map(|limits| Limits {
        // A file cannot contain limits that this version does not know.
        other: config.limits.other.clone(),
        ..limits.clone()
    });
    let health = match &wanted.health {
        None => config.health.clone(),
        Some(none) if none.is_empty() => None,
        Some(command) => Some(command.clone()),
    };
    JailConfig {
        hostname: wanted.hostname.clone().unwrap_or(config.hostname),
        addresses,
        network: wanted.network.unwrap_or(config.network),
        limits: limits.unwrap_or(config.limits),
        params: wanted.params.clone().unwrap_or(config.params),
        datasets: wanted.datasets.as_deref().map_or(config.datasets, values),
        health,
        fleet: Some(fleet.name.clone()),
        depends: wanted.depends.as_deref().map_or(config.depends, jails),
        order: wanted.order.unwrap_or(config.order),
        boot: wanted.boot.unwrap_or(config.boot),
        nested_userns: wanted.nested_userns.unwrap_or(config.nested_userns),
        labels: wanted.labels.clone().unwrap_or(config.labels),
        ..config
    }
}

fn new(
    observed: &Observed,
    seen: &Seen,
    request: &Request,
    name: &JailName,
    wanted: &Wanted,
    addresses: Vec<Address>,
    diff: &mut Diff,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let defaults = request.defaults;
    let at = |place| move |why: PlanError| FleetError::new(place, why);
    new::no_track(inventory, name).map_err(at(wanted.place))?;
    if !inventory.jails.contains_key(name) {
        new::free(observed, name).map_err(at(wanted.place))?;
    }
    let mut source = None;
    let kind = wanted.kind.unwrap_or(Kind::Thin);
    let made = match &wanted.origin {
        Some(Origin::Jail(jail)) => {
            source = Some(jail.value.clone());
            let itself = std::slice::from_ref(name);
            source::template(inventory, &jail.value, itself).map_err(at(jail.place))?
        }
        origin => {
            let (base, skel) = base(observed, origin.as_ref())?;
            JailConfig::new(kind, base, skel)
        }
    };
    // Also for a clone, values that the file does not have are those of `create`.
    let blank = JailConfig::new(made.kind, made.base.clone(), made.skel);
    let config = JailConfig {
        kind: made.kind,
        base: made.base,
        skel: made.skel,
        todo: made.todo,
        flavours: made.flavours,
        limits: Limits {
            other: made.limits.other,
            ..defaults.limits()
        },
        other: made.other,
        hostname: name.to_string(),
        ..blank
    };
    let mut config = common(&request.fleet, wanted, addresses, config);
    for At { value, place } in &wanted.flavours {
        new::with_flavour(observed, &mut config, value).map_err(at(*place))?;
    }
    let quota = wanted.quota.or(defaults.quota);
    let quota = quota.filter(|quota| *quota > 0);
    config.todo.extend(quota.map(Todo::Quota));
    let mut does = vec![Does::Create];
    does.extend(movement(observed, seen, name, wanted.wish).filter(|does| *does == Does::Start));
    let nothing = JailConfig::new(config.kind, Base::Pin(config.skel), config.skel);
    let mut fields = fields(&nothing, &config);
    // The action `create` already implies these fields.
    fields.retain(|field| field.field != "fleet" && field.to != name.as_str());
    if let Some(source) = &source {
        fields.insert(0, field("clone", String::new(), source.to_string()));
    }
    fields.extend(quota.map(|quota| field("quota", String::new(), in_units(quota))));
    diff.changes.insert(name.clone(), Change { does, fields });
    diff.new.push(New {
        name: name.clone(),
        config,
        source,
    });
    Ok(())
}

/// Returns the basejail that a jail of this origin runs on, and the generation that it would be made from.
fn base(
    observed: &Observed,
    origin: Option<&Origin>,
) -> Result<(Base, crate::name::GenerationId), FleetError> {
    let (choice, place) = match origin {
        Some(Origin::Track(track)) => (Choice::Track(track.value.clone()), track.place),
        Some(Origin::Pin(pin)) => (Choice::Pin(pin.value.clone()), pin.place),
        Some(Origin::Jail(jail)) => {
            let why = PlanError::NoJail(jail.value.clone());
            return Err(FleetError::new(jail.place, why));
        }
        None => {
            let place = Place { line: 1, column: 1 };
            (Choice::Track(TrackName::main()), place)
        }
    };
    new::choose(observed, &choice).map_err(|why| FleetError::new(place, why))
}

#[expect(
    clippy::too_many_arguments,
    reason = "a jail as it is, and as it is to be"
)]
fn existing(
    observed: &Observed,
    request: &Request,
    name: &JailName,
    wanted: &Wanted,
    addresses: Vec<Address>,
    (jail, found): (&Jail, &JailConfig),
    seen: &Seen,
    diff: &mut Diff,
) -> Result<(), PlanError> {
    let mut config = common(&request.fleet, wanted, addresses, found.clone());
    if wanted.kind.is_some_and(|kind| kind != found.kind) {
        let is = match found.kind {
            Kind::Thin => "thin, and cannot become thick",
            Kind::Thick => "thick, and cannot become thin",
        };
        let what = format!("the jail {name} is {is}: delete it first");
        return Err(FleetError::new(wanted.place, what).into());
    }
    match &wanted.origin {
        // The source matters only when the jail is created.
        Some(Origin::Jail(_)) | None => {}
        Some(origin @ (Origin::Track(_) | Origin::Pin(_))) => {
            let (base, _) = base(observed, Some(origin))?;
            // A jail that a conflict keeps from its track still follows it.
            let same = match &base {
                Base::Track(track) => found.follows() == Some(track),
                // The pin of a conflict is not a pin that the user asked for.
                Base::Pin(_) => base == found.base && found.held().is_none(),
            };
            if !same {
                may_move(observed, name, wanted, found, &base)?;
                config = config.rebased(base);
            }
        }
    }
    let flavours: Vec<_> = wanted.flavours.iter().map(|at| &at.value).collect();
    if !flavours.is_empty() && flavours != found.flavours.iter().collect::<Vec<_>>() {
        diff.notes.push(format!(
            "{name} was created with other flavours and keeps them: only new jails get flavours"
        ));
    }
    let mut fields = fields(found, &config);
    if let Some(quota) = wanted.quota.filter(|quota| *quota != jail.quota) {
        let shown = |bytes: u64| match bytes {
            0 => String::new(),
            bytes => in_units(bytes),
        };
        fields.push(field("quota", shown(jail.quota), shown(quota)));
        diff.quotas.insert(name.clone(), quota);
    }
    let mut does = Vec::new();
    if !fields.is_empty() {
        does.push(Does::Change);
    }
    let moves = movement(observed, seen, name, wanted.wish);
    let inside = INSIDE;
    // A jail that is pinned to the generation it runs on needs no restart for that.
    let as_wanted = Jail {
        config: Ok(config.clone()),
        ..jail.clone()
    };
    let needs = seen.old.contains(name)
        || behind(observed, &as_wanted).is_some()
        || fields.iter().any(|field| inside.contains(&field.field));
    let stays = moves.is_none() && observed.state(name).running();
    if needs && stays && request.restart {
        does.push(Does::Restart);
    } else if needs && stays {
        diff.notes.push(format!(
            "{name} still runs with its old configuration: `ezz restart {name}` at a convenient time, or --restart"
        ));
    }
    does.extend(moves);
    if config != *found {
        let both = (found.clone(), config);
        diff.configured.insert(name.clone(), both);
    }
    if !does.is_empty() {
        diff.changes.insert(name.clone(), Change { does, fields });
    }
    Ok(())
}

/// Refuses another base for a thick jail, and a base that does not exist.
fn may_move(
    observed: &Observed,
    name: &JailName,
    wanted: &Wanted,
    found: &JailConfig,
    base: &Base,
) -> Result<(), PlanError> {
    if found.kind == Kind::Thick {
        let what = format!("the jail {name} is thick, and keeps its base");
        return Err(FleetError::new(wanted.place, what).into());
    }
    lookup::generation_of_base(&observed.inventory, base)?;
    Ok(())
}

fn field(field: &'static str, from: String, to: String) -> Field {
    Field { field, from, to }
}

/// The fields that a running jail keeps as they were at its start.
const INSIDE: [&str; 7] = [
    "hostname",
    "addresses",
    "network",
    "limits",
    "params",
    "datasets",
    "nested_userns",
];

/// Returns the differences between two configurations.
fn fields(from: &JailConfig, to: &JailConfig) -> Vec<Field> {
    let base = |config: &JailConfig| match (&config.base, config.held()) {
        (Base::Track(track), _) => format!("track {track}"),
        (Base::Pin(id), None) => format!("generation {id}"),
        (Base::Pin(id), Some(held)) => format!("track {}, held at generation {id}", held.track),
    };
    let fleet = |config: &JailConfig| config.fleet.as_ref().map(ToString::to_string);
    type Shown<'a> = &'a dyn Fn(&JailConfig) -> String;
    let all: [(&'static str, Shown<'_>); 15] = [
        ("base", &base),
        ("hostname", &|config| config.hostname.clone()),
        ("addresses", &|config| listed(&config.addresses)),
        ("network", &|config| config.network.to_string()),
        ("limits", &|config| config.limits.to_string()),
        ("params", &|config| config.params.to_string()),
        ("datasets", &|config| listed(&config.datasets)),
        ("health", &|config| {
            config.health.clone().unwrap_or_default()
        }),
        ("labels", &|config| config.labels.texts().join(" ")),
        ("flavours", &|config| listed(&config.flavours)),
        ("depends", &|config| listed(&config.depends)),
        ("order", &|config| config.order.to_string()),
        ("boot", &|config| on_or_off(config.boot)),
        ("nested_userns", &|config| on_or_off(config.nested_userns)),
        ("fleet", &|config| fleet(config).unwrap_or_default()),
    ];
    let changed = all.into_iter().filter_map(|(name, shown)| {
        let (from, to) = (shown(from), shown(to));
        (from != to).then(|| field(name, from, to))
    });
    changed.collect()
}

fn on_or_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}
