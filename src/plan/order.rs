//! In which order jails are started and stopped.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::JailConfig;
use crate::name::JailName;

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
