//! Translates a commit into the channel program that carries it out, and its arguments. `zfs/CONTRACT.md` documents the
//! arguments. This module must not decide or look up anything.

use std::collections::BTreeMap;

use ezz_zfs::program::{Args, Program};

use crate::name::DatasetName;
use crate::plan::{Commit, Expect, NewJail, Set};

/// Returns the program and the arguments of a commit on a site.
pub(super) fn program(site: &DatasetName, commit: &Commit) -> (Program, Args) {
    let args = match commit.epoch() {
        Some(epoch) => Args::at_epoch(site.as_str(), epoch),
        None => Args::new(site.as_str()),
    };
    // Each pattern names every field, so that none can be forgotten.
    match commit {
        Commit::Init { id } => (Program::Init, args.text("id", id)),
        Commit::Stage { epoch: _, seq } => (Program::Stage, args.text("seq", seq.to_string())),
        Commit::Seal {
            epoch: _,
            generation,
            world,
            sealed,
            track,
        } => {
            let mut args = args
                .text("number", generation.to_string())
                .text("world", world)
                .text("sealed", sealed);
            if let Some(set) = track {
                args = args
                    .text("track", &set.property)
                    .text("x", expected(set))
                    .text("v", value(set));
            }
            (Program::Seal, args)
        }
        Commit::Create {
            epoch: _,
            jails,
            intents,
            snapshot,
        } => {
            let mut args = clones(with_intents(args, intents), jails);
            if let Some(snapshot) = snapshot {
                args = args.text("snap", snapshot.to_string());
            }
            (Program::Create, args)
        }
        Commit::Set {
            epoch: _,
            sets,
            sealed,
            adopt,
        } => {
            let args = args
                .bool("adopt", *adopt)
                .texts("sealed", sealed.iter().map(ToString::to_string))
                .texts("ds", sets.iter().map(|set| &set.dataset))
                .texts("p", sets.iter().map(|set| &set.property))
                .texts("x", sets.iter().map(expected))
                .texts("v", sets.iter().map(value));
            (Program::Commit, args)
        }
        Commit::Destroy {
            epoch: _,
            doomed,
            intents,
        } => {
            let args = with_intents(args, intents)
                .texts("ds", doomed.iter().map(|doomed| &doomed.name))
                .guids("guids", doomed.iter().map(|doomed| doomed.guid));
            (Program::Destroy, args)
        }
        Commit::Prune {
            epoch: _,
            dataset,
            guid,
            heir,
        } => {
            let mut args = args.text("ds", dataset.as_str()).guid("guid", *guid);
            if let Some(heir) = heir {
                args = args.text("heir", heir.as_str());
            }
            (Program::Prune, args)
        }
    }
}

fn with_intents(args: Args, intents: &BTreeMap<String, String>) -> Args {
    args.texts("ip", intents.keys())
        .texts("iv", intents.values())
}

/// Adds the columns of new jails to the arguments. Each origin is sent once, because a thousand jails have few origins.
fn clones(args: Args, jails: &[NewJail]) -> Args {
    let mut origins = Vec::new();
    let mut origin_of = Vec::with_capacity(jails.len());
    for jail in jails {
        let known = origins.iter().position(|origin| *origin == &jail.origin);
        origin_of.push(known.unwrap_or_else(|| {
            origins.push(&jail.origin);
            origins.len() - 1
        }));
    }
    args.texts("origins", origins.iter().map(ToString::to_string))
        .texts("names", jails.iter().map(|jail| jail.name.as_str()))
        .texts("jails", jails.iter().map(|jail| &jail.config))
        .positions("o", origin_of)
}

fn expected(set: &Set) -> String {
    match &set.expect {
        Expect::Any => "*".to_owned(),
        Expect::Absent => "-".to_owned(),
        Expect::Value(value) => format!("={value}"),
    }
}

fn value(set: &Set) -> String {
    match &set.value {
        None => "-".to_owned(),
        Some(value) => format!("={value}"),
    }
}

#[cfg(test)]
mod tests {
    use ezz_zfs::Value;

    use super::*;
    use crate::name::JailName;

    fn site() -> DatasetName {
        DatasetName::parse("tank/ezz").expect("a dataset")
    }

    fn texts(values: &[&str]) -> Value {
        Value::StrArray(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn origins_are_sent_once() {
        let jail = |name: &str, origin: &str| NewJail {
            name: JailName::parse(name).expect("a name"),
            origin: site().at(origin).expect("a snapshot"),
            config: "{}".to_owned(),
        };
        let commit = Commit::Create {
            epoch: 7,
            jails: vec![jail("a", "1"), jail("b", "2"), jail("c", "1")],
            intents: BTreeMap::new(),
            snapshot: None,
        };
        let (program, args) = program(&site(), &commit);
        assert_eq!(program, Program::Create);
        let origins = texts(&["tank/ezz@1", "tank/ezz@2"]);
        assert_eq!(args.get("origins"), Some(&origins));
        assert_eq!(args.get("o"), Some(&Value::IntArray(vec![1, 2, 1])));
        assert_eq!(args.get("epoch"), Some(&Value::Str("7".to_owned())));
    }

    #[test]
    fn what_is_expected_and_what_is_set_cannot_be_mistaken_for_a_value() {
        let set = |expect, value: Option<&str>| Set {
            dataset: "tank/ezz".to_owned(),
            property: "x:y".to_owned(),
            expect,
            value: value.map(str::to_owned),
        };
        let commit = Commit::set(
            7,
            vec![
                set(Expect::Any, Some("-")),
                set(Expect::Absent, None),
                set(Expect::Value("-".to_owned()), Some("")),
            ],
        );
        let (_, args) = program(&site(), &commit);
        assert_eq!(args.get("x"), Some(&texts(&["*", "-", "=-"])));
        assert_eq!(args.get("v"), Some(&texts(&["=-", "-", "="])));
    }
}
