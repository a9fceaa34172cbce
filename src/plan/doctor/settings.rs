//! Native properties: what protects the host, and what ezz sets when it makes a dataset.
//!
//! Inherited or not, a value counts, with two exceptions; what hint is given depends on where it
//! was set. zfs shows the flags of the mount, and ezz mounts without devices and
//! set-user-ID programs: what zfs itself would do is seen only of what is not mounted, or was
//! mounted by it. Nothing here is mended: a property is an order of somebody's, and never debris.

use std::path::{Path, PathBuf};

use super::{Dataset, Examination, one};
use crate::model::Inventory;
use crate::plan::PlanError;
use crate::plan::check::{Case, Check};
use crate::plan::finding::{Severity, What};

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

/// For every dataset of the site.
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

/// A parent is never mounted, so only what its children inherit counts.
const PARENT: &[Rule] = &[odd(
    "canmount",
    "off",
    "it would be mounted over the site directory",
)];

/// A dataset with its properties and the rules for them.
pub(super) struct View<'a> {
    name: &'a str,
    settings: &'a Dataset,
    rules: &'static [Rule],
    /// Where zfs itself should mount it.
    mountpoint: Option<PathBuf>,
}

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    let checks = checks();
    for (name, settings) in &site.facts.datasets {
        let (rules, mountpoint) = rules(&site.observed.inventory, name);
        let view = View {
            name,
            settings,
            rules,
            mountpoint,
        };
        examination.run(&checks, &view)?;
    }
    Ok(())
}

pub(super) fn checks<'a>() -> [Check<View<'a>>; 3] {
    use Severity::{Broken, Info};
    [
        Check::new(What::PropertyDangerous, Broken, |it: &View<'_>| {
            it.differing(Broken)
        }),
        Check::new(What::PropertyChanged, Info, |it: &View<'_>| {
            it.differing(Info)
        }),
        Check::new(What::PropertyDangerous, Broken, mountpoint_changed),
    ]
}

/// The rules for a dataset beside those for all, and where it is mounted.
fn rules(inventory: &Inventory, name: &str) -> (&'static [Rule], Option<PathBuf>) {
    let at = &inventory.site.directory;
    let below = name.strip_prefix(inventory.site.layout.site.as_str());
    let below = below.unwrap_or_default().trim_start_matches('/');
    let parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        ["basejail" | "newjail" | "jails"] => (PARENT, None),
        ["basejail", number] if is_sealed(inventory, number) => {
            (BASE, Some(at.join("basejail").join(number)))
        }
        ["newjail", number] if is_sealed(inventory, number) => {
            (SKELETON, Some(at.join("newjail").join(number)))
        }
        ["jails", jail] if inventory.jails.keys().any(|name| name.as_str() == jail) => {
            (JAIL, Some(at.join(jail)))
        }
        _ => (&[], None),
    }
}

fn is_sealed(inventory: &Inventory, number: &str) -> bool {
    crate::name::GenerationId::from_component(number)
        .is_some_and(|id| inventory.sealed(id).is_some())
}

impl View<'_> {
    /// Properties that break a rule of this severity.
    fn differing(&self, severity: Severity) -> Vec<Case> {
        let rules = ALL.iter().chain(self.rules);
        let rules = rules.filter(|rule| rule.severity == severity);
        rules.filter_map(|rule| self.broken(rule)).collect()
    }

    fn broken(&self, rule: &Rule) -> Option<Case> {
        let (property, wanted, name) = (rule.property, rule.wanted, self.name);
        let setting = self.settings.get(property)?;
        // How all of a pool is synced is its owner's choice; set-user-ID is off by the jail's mount.
        let chosen = match property {
            "sync" => !setting.own || setting.value != "disabled",
            "setuid" => !setting.own,
            _ => false,
        };
        // `-` is the value on an OpenZFS that has no such property.
        if setting.value == wanted || setting.value == "-" || chosen {
            return None;
        }
        let what = format!(
            "{property} is {}, not {wanted}: {}",
            setting.value, rule.why
        );
        let set = format!("`zfs set {property}={wanted} {name}`");
        Some(Case::new(name, what).hint(match setting.own {
            true => format!("`zfs inherit {property} {name}`, or {set}"),
            false => format!("{set}, or where it is inherited from"),
        }))
    }
}

fn mountpoint_changed(view: &View<'_>) -> Vec<Case> {
    let setting = view.settings.get("mountpoint");
    let both = view.mountpoint.as_ref().zip(setting);
    let changed = both.filter(|(wanted, setting)| *wanted != Path::new(&setting.value));
    one(changed.map(|(wanted, setting)| {
        let what = format!(
            "mountpoint is {}, not {}: other users may reach it outside of the site directory",
            setting.value,
            wanted.display()
        );
        let name = view.name;
        Case::new(name, what).hint(format!("`zfs inherit mountpoint {name}`"))
    }))
}
