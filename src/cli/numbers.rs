//! The numbers of accounts while a world is staged: reads the ledgers of the site's sealed bases, and renumbers the
//! stage by them.
//!
//! A stage loses its `ezz:populated` before the first file is renumbered, and gets it back after the last one. If the
//! command is killed in between, the next one destroys the stage and makes it again.

use std::collections::{BTreeMap, BTreeSet};

use super::build::Stage;
use super::{CliError, Context, error, verify};
use crate::crash;
use crate::model::{Generation, Inventory, MAX_VALUE, Populated, property};
use crate::name::GenerationId;
use crate::plan::world as plan;
use crate::profile::{Numbering, Profile};
use crate::session::{Scope, Session};
use crate::text::first_few;
use crate::world::numbers::{self, Accounts, Assigned, Ledger, Limits, Renumbered};
use crate::world::{Context as Work, WorldError};

/// The number of accounts that a note names.
const SHOWN: usize = 5;

/// What the site knew when a world got its numbers.
#[derive(Debug)]
pub(super) struct Numbered {
    /// The profile of the world.
    profile: String,
    /// The generations whose ledgers were read.
    of: BTreeSet<GenerationId>,
    /// The world's own ledger.
    ledger: Ledger,
    /// The number of accounts whose numbers differ from those in the world.
    pub(super) count: usize,
}

/// Gives the accounts of a staged world the numbers that they have in the site, and writes the ledger.
///
/// # Errors
/// [`CliError`]. If this fails while it renumbers, the stage is no longer complete.
pub(super) fn settle(
    stage: &Stage,
    context: &Context<'_>,
    session: &Session,
    (profile, parent): (&Profile, Option<&Generation>),
    work: &Work<'_>,
) -> Result<Numbered, CliError> {
    let failed = |source| stage.failed(source);
    let inventory = session.inventory(&Scope::none())?;
    let mut all = ledgers_of(&inventory, &profile.name);
    // Bases that were sealed before ezz wrote ledgers may contradict each other: a track continues with those of its
    // own base.
    all.sort_by_key(|generation| (Some(generation.id) != parent.map(|it| it.id), generation.id));
    let mut known = Ledger::default();
    for generation in &all {
        known.extend(&ledger(context, session, generation)?);
    }
    for kept in kept(context, &inventory, &profile.name) {
        known.extend(&kept);
    }
    let world = Accounts::read(&stage.base).map_err(failed)?;
    let limits = Limits { ids: profile.ids };
    let found = match profile.accounts {
        Numbering::Continuous => numbers::assign(&world, &known, limits).map_err(failed)?,
        Numbering::AsGiven => numbers::changed(&world, &known, limits),
    };
    if !found.moves.is_empty() {
        let staged = inventory.generations.get(&stage.id);
        let populated = staged.and_then(|generation| generation.populated.as_ref());
        renumber(stage, session, populated, || {
            numbers::renumber(&stage.base, profile, &found.moves, work).map_err(failed)
        })?;
    }
    numbers::write(&stage.base, &found.ledger).map_err(failed)?;
    tell(context, &found);
    Ok(Numbered {
        profile: profile.name.clone(),
        of: all.iter().map(|generation| generation.id).collect(),
        count: found.renumbered.len(),
        ledger: found.ledger,
    })
}

/// Renumbers the files of a stage, which is not complete meanwhile.
fn renumber(
    stage: &Stage,
    session: &Session,
    populated: Option<&Populated>,
    work: impl FnOnce() -> Result<u64, CliError>,
) -> Result<(), CliError> {
    let mark = |populated: Option<&Populated>| {
        session.transact(&Scope::none(), |observed| {
            Ok(plan::populated(&observed.inventory, stage.id, populated)?)
        })
    };
    stage.complete.set(false);
    if populated.is_some() {
        mark(None)?;
    }
    crash::point();
    work()?;
    crash::point();
    if populated.is_some() {
        mark(populated)?;
    }
    stage.complete.set(true);
    Ok(())
}

impl Numbered {
    /// Whether a world of this profile was sealed since the ledgers were read.
    pub(super) fn is_late(&self, inventory: &Inventory) -> bool {
        let all = ledgers_of(inventory, &self.profile);
        all.iter()
            .any(|generation| !self.of.contains(&generation.id))
    }

    /// Reads the ledgers that were sealed meanwhile.
    ///
    /// # Errors
    /// [`WorldError::Meanwhile`]: one of them has another number for an account of this world.
    pub(super) fn compare(
        &mut self,
        stage: &Stage,
        context: &Context<'_>,
        session: &Session,
    ) -> Result<(), CliError> {
        let inventory = session.inventory(&Scope::none())?;
        for generation in ledgers_of(&inventory, &self.profile) {
            if !self.of.contains(&generation.id) {
                let other = ledger(context, session, generation)?;
                if let Some((kind, name)) = self.ledger.differs(&other) {
                    let generation = generation.display();
                    return Err(stage.failed(WorldError::Meanwhile {
                        generation,
                        kind,
                        name,
                    }));
                }
                self.of.insert(generation.id);
            }
        }
        Ok(())
    }
}

/// Returns the generations of a profile whose bases exist, sorted by number.
fn ledgers_of<'a>(inventory: &'a Inventory, profile: &str) -> Vec<&'a Generation> {
    let counts = |generation: &&Generation| {
        let world = generation.world.as_ref();
        generation.sealed() && world.is_some_and(|world| world.profile == profile)
    };
    inventory.generations.values().filter(counts).collect()
}

/// What is kept of the ledgers of pruned generations.
fn kept(context: &Context<'_>, inventory: &Inventory, profile: &str) -> Vec<Ledger> {
    let prefix = format!("{}{profile}:", property::ACCOUNTS);
    let of_profile = |(name, _): &(&String, &String)| name.starts_with(&prefix);
    let parsed = |(name, words): (&String, &String)| match Ledger::parse_words(words) {
        Ok(ledger) => Some(ledger),
        Err(source) => {
            let why = error::one_line(&source);
            context
                .report
                .warning(format!("{name} of the site is not used: {why}"));
            None
        }
    };
    inventory
        .accounts
        .iter()
        .filter(of_profile)
        .filter_map(parsed)
        .collect()
}

/// What only the ledgers of generations know whose bases go: properties of the site, by their names. A ledger that
/// cannot be read, of a damaged base, knows nothing.
pub(super) fn only_in(
    context: &Context<'_>,
    session: &Session,
    inventory: &Inventory,
    go: &BTreeSet<GenerationId>,
) -> BTreeMap<String, String> {
    let read = |generation: &Generation| {
        let found = ledger(context, session, generation);
        found.unwrap_or_else(|error| {
            let (what, why) = (generation.display(), error::one_line(&error));
            let text = format!("the accounts of {what} are not compared: {why}");
            context.report.warning(text);
            Ledger::default()
        })
    };
    let mut properties = BTreeMap::new();
    let worlds = inventory.generations.values();
    let worlds = worlds.filter(|it| go.contains(&it.id) && it.sealed());
    let profiles = worlds.filter_map(|it| Some(it.world.as_ref()?.profile.as_str()));
    for profile in profiles.collect::<BTreeSet<_>>() {
        let (mut known, mut lost) = (Ledger::default(), Ledger::default());
        for generation in ledgers_of(inventory, profile) {
            let side = match go.contains(&generation.id) {
                true => &mut lost,
                false => &mut known,
            };
            side.extend(&read(generation));
        }
        for kept in kept(context, inventory, profile) {
            known.extend(&kept);
        }
        let name = |number: usize| format!("{}{profile}:{number}", property::ACCOUNTS);
        let free = (1..).filter(|number| !inventory.accounts.contains_key(&name(*number)));
        let words = lost.words_without(&known, MAX_VALUE);
        properties.extend(free.zip(words).map(|(number, words)| (name(number), words)));
    }
    properties
}

fn ledger(
    context: &Context<'_>,
    session: &Session,
    generation: &Generation,
) -> Result<Ledger, CliError> {
    verify::with_base(context, session, generation, |at| {
        numbers::of_base(at).map_err(|source| CliError::Verify {
            generation: generation.display(),
            source,
        })
    })
}

fn tell(context: &Context<'_>, found: &Assigned) {
    for warning in &found.warnings {
        context.report.warning(warning);
    }
    let all = &found.renumbered;
    if all.is_empty() {
        return;
    }
    let shown =
        |it: &Renumbered| format!("{} {} ({} becomes {})", it.kind, it.name, it.from, it.to);
    context.report.note(format!(
        "accounts get the numbers that this site has for them: {}",
        first_few(all.iter().map(shown), SHOWN, ", ")
    ));
}
