//! Conflicts of jails with their host that keep no jail from being created: an address that the host does not have,
//! or that something else has; services that listen there; what the host lacks. The table of them is shared by
//! doctor and by the warnings of the commands that create, configure or start jails. Must not be here: a look
//! at anything, and a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use crate::model::{
    Address, Bound, HostConditions, Inventory, JailConfig, Listener, Network, Owner, decode,
    hostname, property,
};
use crate::name::JailName;
use crate::plan::check::{Case, Check, findings};
use crate::plan::finding::{Severity, What};
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

/// Warnings about the jails that a plan creates, configures or starts.
pub fn notes(
    observed: &Observed,
    jails: &BTreeMap<JailName, JailConfig>,
    around: &HostConditions,
) -> Vec<String> {
    let subjects: Vec<Subject<'_>> = jails
        .iter()
        .map(|(name, config)| Subject {
            name,
            config,
            runs: observed.state(name).running(),
        })
        .collect();
    let view = View::new(&subjects, &observed.inventory, around);
    let findings = findings(&checks(), &view);
    let shown = findings.iter().map(|finding| {
        let hint = finding.hint.as_deref();
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}: {}{hint}", finding.object, finding.what)
    });
    let boot = around.boot.iter();
    let boot = boot.map(|lack| format!("this host: {} ({})", lack.what, lack.hint));
    shown.chain(boot).collect()
}

/// What the checks look at: jails on their host.
#[derive(Debug)]
pub struct View<'a> {
    subjects: &'a [Subject<'a>],
    inventory: &'a Inventory,
    around: &'a HostConditions,
}

impl<'a> View<'a> {
    /// These jails on a host.
    pub fn new(
        subjects: &'a [Subject<'a>],
        inventory: &'a Inventory,
        around: &'a HostConditions,
    ) -> Self {
        View {
            subjects,
            inventory,
            around,
        }
    }
}

/// The table. Each check has few words for many jails.
pub fn checks<'a>() -> [Check<View<'a>>; 12] {
    const INFO: Severity = Severity::Info;
    [
        Check::new(What::AddressMissing, INFO, addresses_missing),
        Check::new(What::InterfaceMissing, INFO, interfaces_missing)
            .hint("`ifconfig -l` lists them"),
        Check::new(What::AddressOfHost, INFO, addresses_lost)
            .hint("give the address without its interface"),
        Check::new(What::AddressOfHost, INFO, addresses_of_host),
        Check::new(What::AddressShared, INFO, addresses_shared),
        Check::new(What::ServiceListens, INFO, services_everywhere)
            .hint("let them listen on addresses of their own"),
        Check::new(What::ServiceListens, INFO, services_on_addresses),
        Check::new(What::HostnameShared, INFO, hostnames_of_host),
        Check::new(What::HostnameBad, INFO, hostnames_bad),
        Check::new(What::HostnameShared, INFO, hostnames_shared),
        Check::new(What::HostLacks, INFO, host_lacks),
        Check::new(What::LookFailed, INFO, looks_failed),
    ]
}

/// How an address of a jail conflicts with the addresses and interfaces of the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conflict<'a> {
    /// No interface has it.
    Missing,
    /// It names an interface that does not exist.
    Interface(&'a str),
    /// The host has it, and jail(8) would remove it when the jail stops.
    Lost,
    /// The host has it, and the jail has a network of its own.
    OfHost,
}

impl<'a> View<'a> {
    fn conflicts(&self) -> impl Iterator<Item = (Conflict<'a>, &'a Subject<'a>, &'a Address)> {
        let around = self.around;
        self.subjects.iter().flat_map(move |subject| {
            let addresses = subject.config.addresses.iter();
            addresses.filter_map(move |address| {
                let conflict = conflict(around, subject, address)?;
                Some((conflict, subject, address))
            })
        })
    }

    /// The jails and addresses with one kind of conflict.
    fn group(&self, wanted: Conflict<'a>) -> Option<Group<'a>> {
        let mut group = Group::default();
        let alike = self
            .conflicts()
            .filter(|(conflict, ..)| *conflict == wanted);
        alike.for_each(|(_, subject, address)| group.add(subject, address));
        group.first.is_some().then_some(group)
    }
}

fn conflict<'a>(
    around: &HostConditions,
    subject: &Subject<'a>,
    address: &'a Address,
) -> Option<Conflict<'a>> {
    let network = subject.config.network;
    if network == Network::None {
        return None;
    }
    let there = around.addresses.as_ref();
    let there = there.map(|here| here.contains_key(&address.ip));
    let named = address.interface.as_deref().filter(|_| around.assigns);
    if let (Some(name), Some(known)) = (named, &around.interfaces) {
        if !known.contains(name) {
            return Some(Conflict::Interface(name));
        }
    }
    match (network, named, there) {
        (Network::Host, None, Some(false)) => Some(Conflict::Missing),
        (Network::Host, Some(_), Some(true)) if !subject.runs => Some(Conflict::Lost),
        (Network::Vnet, _, Some(true)) => Some(Conflict::OfHost),
        _ => None,
    }
}

fn addresses_missing(view: &View<'_>) -> Vec<Case> {
    let Some(group) = view.group(Conflict::Missing) else {
        return Vec::new();
    };
    let around = view.around;
    let first = group.first.map(|first| {
        let ip = first.ip;
        if around.assigns {
            return format!("give it as 'INTERFACE|{ip}/PREFIX', and jail(8) adds it at the start");
        }
        let known = around.addresses.iter().flatten();
        let other = known.filter(|(ip, _)| !ip.is_loopback());
        let other = other.filter_map(|(_, interface)| interface.as_deref());
        let dev = first.interface.as_deref().or_else(|| other.min());
        let (prefix, dev) = (first.prefix, dev.unwrap_or("INTERFACE"));
        format!("`ip address add {ip}/{prefix} dev {dev}`")
    });
    let case = group.case(format!("no interface of this host has {}", few(&group.ips)));
    vec![case.hint(first.unwrap_or_default())]
}

fn interfaces_missing(view: &View<'_>) -> Vec<Case> {
    let mut interfaces: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for (conflict, subject, address) in view.conflicts() {
        if let Conflict::Interface(name) = conflict {
            interfaces.entry(name).or_default().add(subject, address);
        }
    }
    let interfaces = interfaces.into_iter();
    interfaces
        .map(|(name, group)| group.case(format!("this host has no interface {name}")))
        .collect()
}

fn addresses_lost(view: &View<'_>) -> Vec<Case> {
    let case = |group: Group<'_>| {
        let ips = few(&group.ips);
        group.case(format!(
            "this host already has {ips}, and loses it when the jail stops: jail(8) removes the addresses that it adds"
        ))
    };
    view.group(Conflict::Lost).map(case).into_iter().collect()
}

fn addresses_of_host(view: &View<'_>) -> Vec<Case> {
    let case = |group: Group<'_>| group.case(format!("this host itself has {}", few(&group.ips)));
    view.group(Conflict::OfHost).map(case).into_iter().collect()
}

/// Addresses that several have.
fn addresses_shared(view: &View<'_>) -> Vec<Case> {
    let mut owners: BTreeMap<IpAddr, BTreeSet<Owner>> = BTreeMap::new();
    for subject in view.subjects {
        for address in assigned(subject.config) {
            let owner = Owner::Jail(subject.name.clone());
            owners.entry(address.ip).or_default().insert(owner);
        }
    }
    if owners.is_empty() {
        return Vec::new();
    }
    let looked_at: BTreeSet<&JailName> = view.subjects.iter().map(|it| it.name).collect();
    for (name, jail) in &view.inventory.jails {
        let (false, Ok(config)) = (looked_at.contains(name), &jail.config) else {
            continue;
        };
        for address in assigned(config) {
            if let Some(owners) = owners.get_mut(&address.ip) {
                owners.insert(Owner::Jail(name.clone()));
            }
        }
    }
    for (ip, owner) in &view.around.taken {
        if let Some(owners) = owners.get_mut(ip) {
            owners.insert(owner.clone());
        }
    }
    let shared = owners.iter().filter(|(_, owners)| owners.len() > 1);
    shared
        .map(|(ip, owners)| {
            let what = format!("several have this address: {}", few(owners));
            Case::new(format!("address {ip}"), what)
        })
        .collect()
}

/// The services that listen where jails would, with the jail and the address that they would take.
fn listening<'a>(
    view: &View<'a>,
) -> impl Iterator<Item = (&'a Listener, &'a Subject<'a>, &'a Address)> {
    let around = view.around;
    let on_host = |subject: &&Subject<'_>| subject.config.network == Network::Host;
    let subjects = view.subjects.iter().filter(on_host);
    let pairs = subjects.flat_map(|subject| {
        let addresses = subject.config.addresses.iter();
        addresses.map(move |address| (subject, address))
    });
    pairs.flat_map(move |(subject, address)| {
        let listeners = around.listeners.iter();
        let conflicting = listeners.filter(move |it| {
            let own = it.by.as_ref().is_some_and(|owner| owner.is(subject.name));
            !own && it.bound.covers(address.ip)
        });
        conflicting.map(move |listener| (listener, subject, address))
    })
}

fn services_everywhere(view: &View<'_>) -> Vec<Case> {
    let mut group: Group<'_> = Group::default();
    let mut services: BTreeSet<&Listener> = BTreeSet::new();
    for (listener, subject, address) in listening(view) {
        if matches!(listener.bound, Bound::All { .. }) {
            group.add(subject, address);
            services.insert(listener);
        }
    }
    if services.is_empty() {
        return Vec::new();
    }
    let services = few(&services);
    vec![group.case(format!(
        "services listen on every address of this host, including those of the jails: {services}"
    ))]
}

fn services_on_addresses(view: &View<'_>) -> Vec<Case> {
    let mut at: BTreeMap<IpAddr, (Group<'_>, BTreeSet<&Listener>)> = BTreeMap::new();
    for (listener, subject, address) in listening(view) {
        if let Bound::One(ip) = listener.bound {
            let (group, services) = at.entry(ip).or_default();
            group.add(subject, address);
            services.insert(listener);
        }
    }
    let at = at.into_iter();
    at.map(|(ip, (group, services))| {
        group.case(format!("services listen on {ip}: {}", few(&services)))
    })
    .collect()
}

fn hostnames_bad(view: &View<'_>) -> Vec<Case> {
    // Without a host name the host has not been looked at.
    let looked_at = view
        .subjects
        .iter()
        .filter(|_| view.around.hostname.is_some());
    looked_at
        .filter_map(|subject| {
            let expected = hostname(&subject.config.hostname).err()?;
            let what = format!("this host cannot set its host name: {expected}");
            Some(Case::new(format!("jail {}", subject.name), what))
        })
        .collect()
}

fn hostnames_of_host(view: &View<'_>) -> Vec<Case> {
    let own = view.around.hostname.as_ref();
    let alike = view.subjects.iter().filter(|subject| {
        let theirs = &subject.config.hostname;
        hostname(theirs).is_ok() && own == Some(theirs)
    });
    alike
        .map(|subject| {
            let theirs = &subject.config.hostname;
            let what = format!("its host name {theirs} is also that of this host");
            Case::new(format!("jail {}", subject.name), what)
        })
        .collect()
}

fn hostnames_shared(view: &View<'_>) -> Vec<Case> {
    if view.around.hostname.is_none() {
        return Vec::new();
    }
    let mut names: BTreeMap<&str, BTreeSet<&JailName>> = BTreeMap::new();
    for subject in view.subjects {
        let jails = names.entry(&subject.config.hostname).or_default();
        jails.insert(subject.name);
    }
    for (name, jail) in &view.inventory.jails {
        let theirs = jail.config.as_ref().map(|config| config.hostname.as_str());
        if let Some(others) = theirs.ok().and_then(|theirs| names.get_mut(theirs)) {
            others.insert(name);
        }
    }
    let shared = names.iter().filter(|(_, jails)| jails.len() > 1);
    shared
        .map(|(hostname, jails)| {
            let what = format!("they all have the host name {hostname}");
            Case::new(format!("jails {}", few(jails)), what)
        })
        .collect()
}

fn host_lacks(view: &View<'_>) -> Vec<Case> {
    let lacks = view.around.lacks.iter();
    lacks
        .map(|lack| Case::new("this host", &*lack.what).hint(&*lack.hint))
        .collect()
}

fn looks_failed(view: &View<'_>) -> Vec<Case> {
    let unread = view.around.unread.iter();
    unread.map(|what| Case::new("this host", what)).collect()
}

/// Addresses that a jail has somewhere.
fn assigned(config: &JailConfig) -> &[Address] {
    match config.network {
        Network::None => &[],
        Network::Host | Network::Vnet => &config.addresses,
    }
}

/// Jails with one finding for all of them, and the addresses that it is about.
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

    fn case(&self, what: String) -> Case {
        let plural = if self.jails.len() > 1 { "s" } else { "" };
        Case::new(format!("jail{plural} {}", few(&self.jails)), what)
    }
}

/// Lists a few items. Items that look alike, such as a service on both families, are listed once.
fn few<T: Display>(items: &BTreeSet<T>) -> String {
    let mut all: Vec<String> = items.iter().map(T::to_string).collect();
    all.dedup();
    first_few(all, SHOWN, ", ")
}
