//! What jails will run into on their host, as far as it keeps none of them from being: an address that
//! the host has not, or that is somebody's already; services that listen there; what the host lacks.
//! Told as warnings when jails are made, configured or started, and by doctor. Must not be here: a look at
//! anything, and a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use crate::model::{
    Address, Bound, Inventory, JailConfig, Listener, Network, Owner, Surroundings, decode,
    hostname, property,
};
use crate::name::JailName;
use crate::plan::finding::{Finding, Severity, What};
use crate::plan::{Commit, JailStep, Observed, Plan};
use crate::text::first_few;

/// How many of a list are shown.
const SHOWN: usize = 5;

/// A jail that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a JailName,
    /// What it is to be, or is.
    pub config: &'a JailConfig,
    /// Whether it runs: then the host has its addresses for its sake.
    pub runs: bool,
}

/// The jails that a plan makes, configures anew or starts, as they are after it.
pub fn concerned(plan: &Plan, inventory: &Inventory) -> BTreeMap<JailName, JailConfig> {
    let mut jails = BTreeMap::new();
    let layout = &inventory.site.layout;
    let mut put = |name: JailName, text: &str| {
        if let Ok(config) = decode(name.as_str(), property::JAIL, text) {
            jails.insert(name, config);
        }
    };
    for commit in plan.programs() {
        match commit {
            Commit::Create { jails, .. } => {
                for jail in jails {
                    put(jail.name.clone(), &jail.config);
                }
            }
            Commit::Set { sets, .. } => {
                for set in sets.iter().filter(|set| set.property == property::JAIL) {
                    let below = set.dataset.strip_prefix(layout.jails.as_str());
                    let name = below.and_then(|below| below.strip_prefix('/'));
                    let name = name.and_then(|name| JailName::parse(name).ok());
                    if let (Some(name), Some(text)) = (name, &set.value) {
                        put(name, text);
                    }
                }
            }
            _ => {}
        }
    }
    for (name, step) in plan.lane_steps() {
        if let (JailStep::Start { spec, .. }, false) = (step, jails.contains_key(name)) {
            jails.insert(name.clone(), spec.config.clone());
        }
    }
    jails
}

/// What a command tells of the jails that its plan is about.
pub fn notes(
    observed: &Observed,
    jails: &BTreeMap<JailName, JailConfig>,
    around: &Surroundings,
) -> Vec<String> {
    let subjects: Vec<Subject<'_>> = jails
        .iter()
        .map(|(name, config)| Subject {
            name,
            config,
            runs: observed.state(name).running(),
        })
        .collect();
    let findings = cautions(&subjects, &observed.inventory, around);
    let shown = findings.iter().map(|finding| {
        let hint = finding.hint.as_deref();
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}: {}{hint}", finding.object, finding.what)
    });
    let boot = around.boot.iter();
    let boot = boot.map(|lack| format!("this host: {} ({})", lack.what, lack.hint));
    shown.chain(boot).collect()
}

/// What there is to be told of jails, few words for many of them.
pub fn cautions(
    subjects: &[Subject<'_>],
    inventory: &Inventory,
    around: &Surroundings,
) -> Vec<Finding> {
    let mut found = Vec::new();
    addresses(subjects, around, &mut found);
    shared(subjects, inventory, around, &mut found);
    listening(subjects, around, &mut found);
    hostnames(subjects, inventory, around, &mut found);
    for lack in &around.lacks {
        let finding = Finding::new(What::HostLacks, Severity::Info, "this host", &*lack.what);
        found.push(finding.hint(&*lack.hint));
    }
    for what in &around.unread {
        found.push(Finding::new(
            What::LookFailed,
            Severity::Info,
            "this host",
            what,
        ));
    }
    found
}

/// Addresses and interfaces that the host has not, or has for itself.
fn addresses(subjects: &[Subject<'_>], around: &Surroundings, found: &mut Vec<Finding>) {
    let mut missing: Group<'_> = Group::default();
    let mut interfaces: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    let mut taken_away: Group<'_> = Group::default();
    let mut own: Group<'_> = Group::default();
    for subject in subjects {
        let network = subject.config.network;
        for address in &subject.config.addresses {
            if network == Network::None {
                continue;
            }
            let there = around.addresses.as_ref();
            let there = there.map(|here| here.contains_key(&address.ip));
            let named = address.interface.as_deref().filter(|_| around.assigns);
            if let (Some(name), Some(known)) = (named, &around.interfaces) {
                if !known.contains(name) {
                    interfaces.entry(name).or_default().add(subject, address);
                    continue;
                }
            }
            match (network, named, there) {
                (Network::Host, None, Some(false)) => missing.add(subject, address),
                (Network::Host, Some(_), Some(true)) if !subject.runs => {
                    taken_away.add(subject, address);
                }
                (Network::Vnet, _, Some(true)) => own.add(subject, address),
                _ => {}
            }
        }
    }
    if let Some(first) = missing.first {
        let what = format!("no interface of this host has {}", few(&missing.ips));
        let hint = if around.assigns {
            let ip = first.ip;
            format!("give it as 'INTERFACE|{ip}/PREFIX', and jail(8) adds it at the start")
        } else {
            let known = around.addresses.iter().flatten();
            let other = known.filter(|(ip, _)| !ip.is_loopback());
            let other = other.filter_map(|(_, interface)| interface.as_deref());
            let dev = first.interface.as_deref().or_else(|| other.min());
            format!(
                "`ip address add {}/{} dev {}`",
                first.ip,
                first.prefix,
                dev.unwrap_or("INTERFACE")
            )
        };
        found.push(missing.finding(What::AddressMissing, what).hint(hint));
    }
    for (name, group) in interfaces {
        let what = format!("this host has no interface {name}");
        let finding = group.finding(What::InterfaceMissing, what);
        found.push(finding.hint("`ifconfig -l` lists them"));
    }
    if taken_away.first.is_some() {
        let ips = few(&taken_away.ips);
        let what = format!(
            "this host already has {ips}, and loses it when the jail stops: jail(8) removes the addresses that it adds"
        );
        let finding = taken_away.finding(What::AddressOfHost, what);
        found.push(finding.hint("give the address without its interface"));
    }
    if own.first.is_some() {
        let what = format!("this host itself has {}", few(&own.ips));
        found.push(own.finding(What::AddressOfHost, what));
    }
}

/// Addresses that several have.
fn shared(
    subjects: &[Subject<'_>],
    inventory: &Inventory,
    around: &Surroundings,
    found: &mut Vec<Finding>,
) {
    let mut owners: BTreeMap<IpAddr, BTreeSet<Owner>> = BTreeMap::new();
    for subject in subjects {
        for address in assigned(subject.config) {
            let owner = Owner::Jail(subject.name.clone());
            owners.entry(address.ip).or_default().insert(owner);
        }
    }
    if owners.is_empty() {
        return;
    }
    let looked_at: BTreeSet<&JailName> = subjects.iter().map(|subject| subject.name).collect();
    for (name, jail) in &inventory.jails {
        let (false, Ok(config)) = (looked_at.contains(name), &jail.config) else {
            continue;
        };
        for address in assigned(config) {
            if let Some(owners) = owners.get_mut(&address.ip) {
                owners.insert(Owner::Jail(name.clone()));
            }
        }
    }
    for (ip, owner) in &around.taken {
        if let Some(owners) = owners.get_mut(ip) {
            owners.insert(owner.clone());
        }
    }
    for (ip, owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
        let what = format!("several have this address: {}", few(owners));
        let object = format!("address {ip}");
        found.push(Finding::new(
            What::AddressShared,
            Severity::Info,
            object,
            what,
        ));
    }
}

/// What listens where the jails would.
fn listening(subjects: &[Subject<'_>], around: &Surroundings, found: &mut Vec<Finding>) {
    let mut everywhere: Group<'_> = Group::default();
    let mut services: BTreeSet<&Listener> = BTreeSet::new();
    let mut at: BTreeMap<IpAddr, (Group<'_>, BTreeSet<&Listener>)> = BTreeMap::new();
    for subject in subjects {
        if subject.config.network != Network::Host {
            continue;
        }
        for address in &subject.config.addresses {
            let mine = |it: &&Listener| !it.by.as_ref().is_some_and(|owner| owner.is(subject.name));
            let here = around.listeners.iter().filter(mine);
            for listener in here.filter(|it| it.bound.covers(address.ip)) {
                match listener.bound {
                    Bound::All { .. } => {
                        everywhere.add(subject, address);
                        services.insert(listener);
                    }
                    Bound::One(ip) => {
                        let (group, services) = at.entry(ip).or_default();
                        group.add(subject, address);
                        services.insert(listener);
                    }
                }
            }
        }
    }
    if everywhere.first.is_some() {
        let services = few(&services);
        let what = format!(
            "services listen on every address of this host, including those of the jails: {services}"
        );
        let finding = everywhere.finding(What::ServiceListens, what);
        found.push(finding.hint("let them listen on addresses of their own"));
    }
    for (ip, (group, services)) in at {
        let what = format!("services listen on {ip}: {}", few(&services));
        found.push(group.finding(What::ServiceListens, what));
    }
}

fn hostnames(
    subjects: &[Subject<'_>],
    inventory: &Inventory,
    around: &Surroundings,
    found: &mut Vec<Finding>,
) {
    let Some(own) = &around.hostname else {
        return;
    };
    let mut names: BTreeMap<&str, BTreeSet<&JailName>> = BTreeMap::new();
    for subject in subjects {
        let theirs = subject.config.hostname.as_str();
        let object = format!("jail {}", subject.name);
        if let Err(expected) = hostname(theirs) {
            let what = format!("this host cannot set its host name: {expected}");
            found.push(Finding::new(
                What::HostnameBad,
                Severity::Info,
                object,
                what,
            ));
        } else if own == theirs {
            let what = format!("its host name {theirs} is also that of this host");
            found.push(Finding::new(
                What::HostnameShared,
                Severity::Info,
                object,
                what,
            ));
        }
        names.entry(theirs).or_default().insert(subject.name);
    }
    for (name, jail) in &inventory.jails {
        let theirs = jail.config.as_ref().map(|config| config.hostname.as_str());
        if let Some(others) = theirs.ok().and_then(|theirs| names.get_mut(theirs)) {
            others.insert(name);
        }
    }
    for (hostname, jails) in names.iter().filter(|(_, jails)| jails.len() > 1) {
        let what = format!("they all have the host name {hostname}");
        let object = format!("jails {}", few(jails));
        found.push(Finding::new(
            What::HostnameShared,
            Severity::Info,
            object,
            what,
        ));
    }
}

/// Addresses that a jail has somewhere.
fn assigned(config: &JailConfig) -> &[Address] {
    match config.network {
        Network::None => &[],
        Network::Host | Network::Vnet => &config.addresses,
    }
}

/// Jails of which the same is to be told, and the addresses that it is about.
#[derive(Default)]
struct Group<'a> {
    jails: BTreeSet<&'a JailName>,
    ips: BTreeSet<IpAddr>,
    first: Option<&'a Address>,
}

impl<'a> Group<'a> {
    fn add(&mut self, subject: &Subject<'a>, address: &'a Address) {
        self.jails.insert(subject.name);
        self.ips.insert(address.ip);
        self.first.get_or_insert(address);
    }

    fn finding(&self, kind: What, what: String) -> Finding {
        let plural = if self.jails.len() > 1 { "s" } else { "" };
        let object = format!("jail{plural} {}", few(&self.jails));
        Finding::new(kind, Severity::Info, object, what)
    }
}

/// What is shown alike, such as a service on both families, is shown once.
fn few<T: Display>(items: &BTreeSet<T>) -> String {
    let mut all: Vec<String> = items.iter().map(T::to_string).collect();
    all.dedup();
    first_few(all, SHOWN, ", ")
}
