//! `ezz world tree`: shows which generation was made from which.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::cli::{CliError, Context};
use crate::model::Inventory;
use crate::name::GenerationId;
use crate::plan::lookup;
use crate::report::{Exit, Kind as Json, bytes};
use crate::session::{Scope, Session};

/// Show the lineage of the generations, and how much each one changed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz world tree\n\nJSON: a `lineage` for each generation")]
pub struct Tree {}

#[derive(Debug, Serialize)]
struct Line<'a> {
    generation: GenerationId,
    label: Option<&'a str>,
    parent: Option<GenerationId>,
    tracks: Vec<String>,
    delta: u64,
}

impl Tree {
    pub(super) fn run(&self, context: &Context<'_>, session: &Session) -> Result<Exit, CliError> {
        let inventory = session.inventory(&Scope::none())?;
        let mut children: BTreeMap<Option<GenerationId>, Vec<GenerationId>> = BTreeMap::new();
        for generation in inventory.generations.values() {
            let parent = generation.world.as_ref().and_then(|world| world.parent);
            // A parent that no longer exists has no line.
            let parent = parent.filter(|id| inventory.generations.contains_key(id));
            children.entry(parent).or_default().push(generation.id);
        }
        let roots = children.get(&None).cloned().unwrap_or_default();
        for id in roots {
            draw(context, &inventory, &children, id, "", "");
        }
        Ok(Exit::Done)
    }
}

fn draw(
    context: &Context<'_>,
    inventory: &Inventory,
    children: &BTreeMap<Option<GenerationId>, Vec<GenerationId>>,
    id: GenerationId,
    own: &str,
    below: &str,
) {
    let generation = &inventory.generations[&id];
    let tracks = lookup::tracks_at(inventory, id);
    let tracks: Vec<String> = tracks.map(ToString::to_string).collect();
    let delta = generation.base.as_ref().map_or(0, |half| half.used);
    context.report.object(
        Json::Lineage,
        &Line {
            generation: id,
            label: generation.world.as_ref().map(|world| world.label.as_str()),
            parent: generation.world.as_ref().and_then(|world| world.parent),
            tracks: tracks.clone(),
            delta,
        },
    );
    let mut words = format!("{own}{}  {}", generation.display(), bytes(delta));
    if !tracks.is_empty() {
        words += &format!("  [{}]", tracks.join(", "));
    }
    if let Some(rejected) = &generation.rejected {
        words += &format!("  rejected: {}", rejected.why);
    }
    context.report.line(words);
    let list = children.get(&Some(id)).map_or(&[][..], Vec::as_slice);
    for (index, child) in list.iter().enumerate() {
        let (branch, rest) = if index + 1 == list.len() {
            ("`-- ", "    ")
        } else {
            ("|-- ", "|   ")
        };
        let (own, next) = (format!("{below}{branch}"), format!("{below}{rest}"));
        draw(context, inventory, children, *child, &own, &next);
    }
}
