//! In which order jails are started and stopped, and which lanes of a plan wait for which.
//!
//! A jail starts after those that it depends on, and after those of a lower `order`; stops are the other way round. A
//! jail with a lower `order` than one that it depends on counts as if it had the order of that one.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::JailConfig;
use crate::name::JailName;
use crate::plan::{Lane, Plan, Step};

/// Jails in the order in which they are started: after those that they depend on, and else by their
/// `order`, then as they were named. Those that wait for each other come last.
pub fn start_order<'a>(
    names: &[JailName],
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> Vec<JailName> {
    let index: BTreeMap<&JailName, usize> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (name, at))
        .collect();
    let mut waits: BTreeMap<usize, usize> = BTreeMap::new();
    let mut after: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let order = |at: usize| config(&names[at]).map_or(0, |config| config.order);
    for (at, name) in names.iter().enumerate() {
        let depends = config(name).map_or(&[][..], |config| &config.depends);
        for on in depends.iter().filter_map(|on| index.get(on)) {
            *waits.entry(at).or_default() += 1;
            after.entry(*on).or_default().push(at);
        }
    }
    let mut ready: BTreeSet<(i32, usize)> = (0..names.len())
        .filter(|at| !waits.contains_key(at))
        .map(|at| (order(at), at))
        .collect();
    let mut sorted = Vec::with_capacity(names.len());
    while let Some((_, at)) = ready.pop_first() {
        sorted.push(names[at].clone());
        for next in after.remove(&at).unwrap_or_default() {
            let left = waits.entry(next).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                waits.remove(&next);
                ready.insert((order(next), next));
            }
        }
    }
    sorted.extend(waits.into_keys().map(|at| names[at].clone()));
    sorted
}

/// Jails in the order in which they are stopped: the other way round, but as they were named where
/// nothing says otherwise.
pub fn stop_order<'a>(
    names: &[JailName],
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> Vec<JailName> {
    let reversed: Vec<JailName> = names.iter().rev().cloned().collect();
    let mut sorted = start_order(&reversed, config);
    sorted.reverse();
    sorted
}

/// Those of the jails that depend on another of them, and those that another depends on.
pub fn linked<'a>(
    names: &BTreeSet<&JailName>,
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> BTreeSet<JailName> {
    let mut linked = BTreeSet::new();
    for name in names {
        let depends = config(name).map_or(&[][..], |config| &config.depends);
        for on in depends.iter().filter(|on| names.contains(on)) {
            linked.extend([(*name).clone(), on.clone()]);
        }
    }
    linked
}

/// Those of the jails that depend on one of `on`, directly or not.
pub fn dependents<'a>(
    names: &[JailName],
    on: &BTreeSet<JailName>,
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> BTreeSet<JailName> {
    let mut found = BTreeSet::new();
    for name in start_order(names, &config) {
        let depends = config(&name).map_or(&[][..], |config| &config.depends);
        let depends = depends
            .iter()
            .any(|it| on.contains(it) || found.contains(it));
        if depends && !on.contains(&name) {
            found.insert(name);
        }
    }
    found
}

/// The jails in groups, in the order of their starts: two that depend on each other, directly or not, are in one group.
pub fn groups<'a>(
    names: &[JailName],
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> Vec<Vec<JailName>> {
    fn first(group: &[usize], mut at: usize) -> usize {
        while group[at] != at {
            at = group[at];
        }
        at
    }
    let sorted = start_order(names, &config);
    let places: BTreeMap<&JailName, usize> = sorted.iter().zip(0..).collect();
    let mut group: Vec<usize> = (0..sorted.len()).collect();
    for (at, name) in sorted.iter().enumerate() {
        let depends = config(name).map_or(&[][..], |config| &config.depends);
        for on in depends.iter().filter_map(|on| places.get(on)) {
            let (one, other) = (first(&group, at), first(&group, *on));
            group[one.max(other)] = one.min(other);
        }
    }
    let mut groups: BTreeMap<usize, Vec<JailName>> = BTreeMap::new();
    for (at, name) in sorted.into_iter().enumerate() {
        groups.entry(first(&group, at)).or_default().push(name);
    }
    groups.into_values().collect()
}

/// Notes for each lane of a plan which lanes it waits for.
pub fn arrange<'a>(plan: &mut Plan, config: impl Fn(&JailName) -> Option<&'a JailConfig>) {
    for step in &mut plan.steps {
        if let Step::Lanes { lanes } = step {
            let waits = waits(lanes, &config);
            for (lane, (turn, after)) in lanes.iter_mut().zip(waits) {
                (lane.turn, lane.after) = (turn, after);
            }
        }
    }
}

/// The turn of each lane, and the lanes that it waits for.
fn waits<'a>(
    lanes: &[Lane],
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> Vec<(usize, Vec<usize>)> {
    let moves = Moves::of(lanes, config);
    let wait = |(at, lane): (usize, &Lane)| match (lane.starts(), lane.stops()) {
        (true, _) => moves.before_start(at, lane),
        (false, true) => moves.before_stop(lane),
        (false, false) => (0, Vec::new()),
    };
    lanes.iter().enumerate().map(wait).collect()
}

/// The lanes of a step that stop or start jails.
#[derive(Default)]
struct Moves<'a> {
    /// By jail, the lane that starts it.
    starts: BTreeMap<&'a JailName, usize>,
    /// By jail, the lane that stops it and does nothing else.
    stops: BTreeMap<&'a JailName, usize>,
    /// By jail, those of the jails that it depends on. There are no circles in it.
    depends: BTreeMap<&'a JailName, Vec<&'a JailName>>,
    /// By jail, those of the jails that depend on it.
    needed_by: BTreeMap<&'a JailName, Vec<&'a JailName>>,
    /// By jail, its turn among the starts.
    turns: BTreeMap<&'a JailName, usize>,
    /// By jail, the first turn of all that it is linked with, directly or not.
    first_turns: BTreeMap<&'a JailName, usize>,
    /// How many turns the starts have, and how many the stops have that come before them.
    start_turns: usize,
    stop_turns: usize,
}

impl<'a> Moves<'a> {
    fn of<'c>(lanes: &'a [Lane], config: impl Fn(&JailName) -> Option<&'c JailConfig>) -> Self {
        let mut moves = Moves::default();
        let mut names: BTreeMap<&JailName, &'a JailName> = BTreeMap::new();
        let mut listed = Vec::new();
        for (at, lane) in lanes.iter().enumerate() {
            let jail = &lane.jail;
            match (lane.starts(), lane.stops()) {
                (true, _) => moves.starts.insert(jail, at),
                (false, true) => moves.stops.insert(jail, at),
                (false, false) => continue,
            };
            if names.insert(jail, jail).is_none() {
                listed.push(jail.clone());
            }
        }
        let mut orders: BTreeMap<&'a JailName, i32> = BTreeMap::new();
        for name in start_order(&listed, &config) {
            let Some((jail, config)) = names.get(&name).copied().zip(config(&name)) else {
                continue;
            };
            // Those that come later wait for this one: they are in a circle.
            let on = config.depends.iter().filter_map(|on| names.get(on));
            let on: Vec<&JailName> = on.copied().filter(|on| orders.contains_key(on)).collect();
            let least = on.iter().filter_map(|on| orders.get(on)).max();
            let order = least.map_or(config.order, |least| config.order.max(*least));
            orders.insert(jail, order);
            for on in &on {
                moves.needed_by.entry(on).or_default().push(jail);
            }
            moves.depends.insert(jail, on);
        }
        let all: BTreeSet<i32> = orders.values().copied().collect();
        let turn: BTreeMap<i32, usize> = all.into_iter().zip(0..).collect();
        moves.start_turns = turn.len();
        let of = |(jail, order): (&'a JailName, i32)| (jail, turn[&order]);
        moves.turns = orders.into_iter().map(of).collect();
        let alone = |jail: &&JailName| !moves.starts.contains_key(*jail);
        if moves.stops.keys().any(alone) {
            moves.stop_turns = moves.start_turns;
        }
        let stopped: Vec<&'a JailName> = moves.stops.keys().copied().collect();
        for jail in stopped {
            if !moves.first_turns.contains_key(jail) {
                let linked = moves.linked(jail);
                let first = linked.iter().map(|jail| moves.turn(jail)).min();
                let first = first.unwrap_or_default();
                let of = linked.into_iter().map(|jail| (jail, first));
                moves.first_turns.extend(of);
            }
        }
        moves
    }

    fn turn(&self, jail: &JailName) -> usize {
        self.turns.get(jail).copied().unwrap_or_default()
    }

    /// A start comes after its jail's own stop and after the starts of those that the jail depends on.
    fn before_start(&self, at: usize, lane: &Lane) -> (usize, Vec<usize>) {
        let own = self.stops.get(&lane.jail);
        let on = self.depends.get(&lane.jail).into_iter().flatten();
        let on = on.filter_map(|on| self.starts.get(on));
        let after = own.into_iter().chain(on).copied();
        let after = after.filter(|other| *other != at).collect();
        (self.stop_turns + self.turn(&lane.jail), after)
    }

    /// A stop comes after the stops of those that depend on the jail.
    fn before_stop(&self, lane: &Lane) -> (usize, Vec<usize>) {
        let jail = &lane.jail;
        let needed_by = self.needed_by.get(jail).into_iter().flatten();
        let after = needed_by.filter_map(|by| self.stops.get(by)).copied();
        let turn = match self.starts.contains_key(jail) {
            // It is started again in this step, with those that it is linked with.
            true => self.stop_turns + self.first_turns.get(jail).copied().unwrap_or_default(),
            false => self.start_turns.saturating_sub(self.turn(jail) + 1),
        };
        (turn, after.collect())
    }

    /// A jail and all that it is linked with, directly or not.
    fn linked(&self, jail: &'a JailName) -> BTreeSet<&'a JailName> {
        let mut seen = BTreeSet::from([jail]);
        let mut left = vec![jail];
        while let Some(next) = left.pop() {
            let near = [self.depends.get(next), self.needed_by.get(next)];
            for other in near.into_iter().flatten().flatten() {
                if seen.insert(other) {
                    left.push(other);
                }
            }
        }
        seen
    }
}
