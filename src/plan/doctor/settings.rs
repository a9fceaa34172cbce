//! Native properties: what protects the host, and what ezz sets when it makes a dataset.
//!
//! Inherited or not, a value counts, with two exceptions; what hint is given depends on where it
//! was set. Of what is mounted zfs shows the flags of the mount, and ezz mounts without devices and
//! set-user-ID programs: what zfs itself would do is seen only of what is not mounted, or was
//! mounted by it. Nothing here is mended: a property is an order of somebody's, and never debris.

use super::{Dataset, Diagnosis, Facts, Finding, Severity, What};
use crate::model::Inventory;

/// A rule: property, what it must be, why.
struct Rule {
    property: &'static str,
    wanted: &'static str,
    severity: Severity,
    why: &'static str,
}

const fn dangerous(property: &'static str, wanted: &'static str, why: &'static str) -> Rule {
    Rule {
        property,
        wanted,
        severity: Severity::Broken,
        why,
    }
}

const fn odd(property: &'static str, wanted: &'static str, why: &'static str) -> Rule {
    Rule {
        property,
        wanted,
        severity: Severity::Info,
        why,
    }
}

/// Of every dataset of the site.
const ALL: &[Rule] = &[
    dangerous(
        "devices",
        "off",
        "after a mount by zfs, root of a jail could create device nodes of the host",
    ),
    dangerous(
        "sharenfs",
        "off",
        "users other than root can reach files of jails",
    ),
    dangerous(
        "sharesmb",
        "off",
        "users other than root can reach files of jails",
    ),
];

const BASE: &[Rule] = &[
    dangerous("readonly", "on", "a sealed generation must never change"),
    odd("canmount", "on", "it is not mounted at boot without ezz"),
    odd(
        "sync",
        "standard",
        "this was meant only for building the generation",
    ),
];

const SKELETON: &[Rule] = &[
    odd("canmount", "noauto", "it would be mounted at boot"),
    odd(
        "sync",
        "standard",
        "this was meant only for building the generation",
    ),
];

const JAIL: &[Rule] = &[
    odd("canmount", "on", "it is not mounted at boot without ezz"),
    odd("readonly", "off", "the jail cannot write its own files"),
    odd(
        "exec",
        "on",
        "after a mount by zfs, no program of the jail could run",
    ),
    odd(
        "setuid",
        "on",
        "after a mount by zfs, su and similar programs would not work in the jail",
    ),
];

pub(super) fn check(inventory: &Inventory, facts: &Facts, found: &mut Diagnosis) {
    let layout = &inventory.site.layout;
    for (name, settings) in &facts.datasets {
        let at = &inventory.site.directory;
        let below = name
            .strip_prefix(layout.site.as_str())
            .unwrap_or_default()
            .trim_start_matches('/');
        let parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
        for rule in ALL {
            judge(name, settings, rule, found);
        }
        // Where zfs itself would mount it. Of the parents, which are never mounted, only what
        // their children inherit counts.
        let (rules, mountpoint) = match parts[..] {
            [] => (&[][..], None),
            ["basejail" | "newjail" | "jails"] => {
                parent(name, settings, found);
                continue;
            }
            ["basejail", number] if sealed(inventory, number) => {
                (BASE, Some(at.join("basejail").join(number)))
            }
            ["newjail", number] if sealed(inventory, number) => {
                (SKELETON, Some(at.join("newjail").join(number)))
            }
            ["jails", jail] if inventory.jails.keys().any(|name| name.as_str() == jail) => {
                (JAIL, Some(at.join(jail)))
            }
            _ => continue,
        };
        for rule in rules {
            judge(name, settings, rule, found);
        }
        let value = settings.get("mountpoint").map(|found| found.value.as_str());
        let Some((wanted, value)) = mountpoint.zip(value) else {
            continue;
        };
        if wanted != std::path::Path::new(value) {
            let what = format!(
                "mountpoint is {value}, not {}: other users may reach it outside of the site directory",
                wanted.display()
            );
            let hint = format!("`zfs inherit mountpoint {name}`");
            found.add(
                Finding::new(What::PropertyDangerous, Severity::Broken, name, what).hint(hint),
            );
        }
    }
}

fn sealed(inventory: &Inventory, number: &str) -> bool {
    crate::name::GenerationId::from_component(number)
        .is_some_and(|id| inventory.sealed(id).is_some())
}

fn parent(name: &str, settings: &Dataset, found: &mut Diagnosis) {
    let rule = odd(
        "canmount",
        "off",
        "it would be mounted over the site directory",
    );
    judge(name, settings, &rule, found);
}

fn judge(name: &str, settings: &Dataset, rule: &Rule, found: &mut Diagnosis) {
    let Some(setting) = settings.get(rule.property) else {
        return;
    };
    // How all of a pool is synced is its owner's choice; set-user-ID is off by the jail's mount.
    let chosen = match rule.property {
        "sync" => !setting.own || setting.value != "disabled",
        "setuid" => !setting.own,
        _ => false,
    };
    // `-` is what an OpenZFS says that has no such property.
    if setting.value == rule.wanted || setting.value == "-" || chosen {
        return;
    }
    let property = rule.property;
    let what = format!(
        "{property} is {}, not {}: {}",
        setting.value, rule.wanted, rule.why
    );
    let hint = if setting.own {
        format!(
            "`zfs inherit {property} {name}`, or `zfs set {property}={} {name}`",
            rule.wanted
        )
    } else {
        format!(
            "`zfs set {property}={} {name}`, or where it is inherited from",
            rule.wanted
        )
    };
    let kind = match rule.severity {
        Severity::Broken => What::PropertyDangerous,
        Severity::Info | Severity::Debris => What::PropertyChanged,
    };
    found.add(Finding::new(kind, rule.severity, name, what).hint(hint));
}
