//! What users can do about a plan that was refused.

use super::{PlanError, SpecError};
use crate::hint::Hint;
use crate::model::Os;
use crate::name::JailName;

impl Hint for PlanError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            PlanError::Replica(_) => {
                "`ezz doctor --adopt` checks it and makes it a site of its own"
            }
            PlanError::Format { .. } => "use a newer ezz",
            PlanError::ReadOnly(site) => {
                return Some(format!(
                    "`zpool export {0} && zpool import {0}` imports it writable; `zfs get readonly {site}` shows whether the property makes it read-only",
                    site.pool()
                ));
            }
            PlanError::JailExists(name) => {
                return Some(format!(
                    "`ezz show {name}` shows it, `ezz delete {name}` removes it"
                ));
            }
            PlanError::NoJail(_) => "`ezz list` shows the jails",
            PlanError::NotMounted(_) => "`ezz doctor --repair` mounts the missing datasets",
            PlanError::Interrupted(name) => {
                return Some(format!(
                    "`ezz create {name}` creates it again, `ezz delete {name}` removes it"
                ));
            }
            PlanError::Fleet(_) => "`ezz help apply` describes fleet files",
            PlanError::NoFlavour(name) => {
                return Some(format!(
                    "a flavour is the directory flavours/{name} of the site: the files that new jails get"
                ));
            }
            PlanError::Twice(_) => "name it once",
            PlanError::OnlyOne(_) => "create the jails one by one, or omit the option",
            PlanError::NoWorld(_) => match Os::THIS {
                Os::FreeBsd => "install a world first: `ezz install 14.3-RELEASE`",
                Os::Linux => {
                    "install a world first: `mmdebstrap --variant=minbase trixie debian-13.tar`, then `ezz install debian-13.tar`"
                }
            },
            PlanError::NoTrack(name) => {
                return Some(format!(
                    "`ezz track list` shows the tracks; `ezz install` or `ezz track create {name}` makes one"
                ));
            }
            PlanError::TrackFollowed { jails, .. } => {
                let jail = jails.first().map_or("JAIL", JailName::as_str);
                return Some(format!(
                    "`ezz merge {jail} --follow TRACK` moves a stopped jail to another track"
                ));
            }
            PlanError::EmptyTrack(_) => "`ezz install` installs a world",
            PlanError::Stranger { .. } => {
                "`ezz doctor` shows what it is; use another name, or move it away with `zfs rename`"
            }
            PlanError::NotEmpty { dataset, .. } => {
                return Some(format!(
                    "`ezz init {dataset}/ezz` makes a site of its own in it"
                ));
            }
            PlanError::Directory { .. } => "move it away, or choose another name",
            PlanError::Spec(inner) => return inner.hint(),
            PlanError::NotSealed(_) => "`ezz world list` shows the generations",
            PlanError::OtherSystem { .. } => {
                "install a world of this host's system, and name its track or generation"
            }
            PlanError::Merging(name) => {
                return Some(format!("`ezz merge {name}` undoes it and starts over"));
            }
            PlanError::MergeRunning(name) => {
                return Some(format!("`ezz stop {name}`, then `ezz merge {name}`"));
            }
            PlanError::Elsewhere { dataset, .. } => {
                return Some(format!("`zfs inherit mountpoint {dataset}`"));
            }
            PlanError::MergedBefore { first, count, .. } => {
                return Some(match count {
                    1 => format!(
                        "it contains half-merged files. If you do not need it: `zfs destroy {first}`"
                    ),
                    _ => format!(
                        "they contain half-merged files. If you do not need them: `zfs destroy {first}`, and so on"
                    ),
                });
            }
            PlanError::NoMerge { .. } => "`ezz world list` shows the generations",
            PlanError::RolloutUnderWay(name) => {
                return Some(format!(
                    "`ezz update --track {name} --continue` resumes it, --abort rolls it back"
                ));
            }
            PlanError::NoRollout(_) => "`ezz track list` shows the roll-outs that are under way",
            PlanError::BadRollout { .. } => {
                "`zfs get all` of the site's basejail shows it; was it edited by hand?"
            }
            PlanError::Canary { .. } => "name running thin jails that follow the track",
            PlanError::InUse { jail, .. } => return Some(format!("`ezz stop {jail}`")),
            PlanError::TrackMoved { track, made, .. } => {
                return Some(format!(
                    "run the update again; `ezz update --track {track} --swap {made}` uses the new generation anyway"
                ));
            }
            PlanError::NoPrevious(name) => {
                return Some(format!(
                    "`ezz rollback --track {name} --to GENERATION` goes to one that you name; `ezz world list` shows them"
                ));
            }
            PlanError::Rejected {
                track, generation, ..
            } => {
                return Some(format!(
                    "`ezz rollback --track {track} --to {generation}` swaps to it anyway"
                ));
            }
            PlanError::Replaced {
                track, generation, ..
            } => {
                return Some(format!(
                    "`ezz rollback --track {track} --to {generation}` swaps to it anyway; `ezz world verify {generation}` compares it with its seal"
                ));
            }
            PlanError::Space { .. } => "free space in the pool, or create fewer jails at once",
            PlanError::Foreign { .. } => "--foreign-snapshots destroys them, too",
            PlanError::Dependents { dataset, list } => {
                // A jail that was promoted with zfs(8) has become the origin of its own skeleton.
                let site = dataset.as_str().rsplitn(3, '/').nth(2).unwrap_or_default();
                let halves = [format!("{site}/newjail/"), format!("{site}/basejail/")];
                // Later generations may also be clones of the jail; the snapshot is that of the first generation.
                let number = |clone: &String| {
                    let number = halves.iter().find_map(|half| clone.strip_prefix(half))?;
                    number.parse::<u32>().ok()
                };
                let numbered = list
                    .iter()
                    .filter_map(|clone| Some((number(clone)?, clone)));
                if let Some((_, half)) = numbered.min() {
                    return Some(format!(
                        "`zfs promote {half}` reverts the promotion of the jail"
                    ));
                }
                // Clones that are jails of the same site can be deleted together with it.
                let jails = dataset.parent().map(|jails| format!("{jails}/"));
                let jail = |clone: &String| {
                    let name = clone.strip_prefix(jails.as_deref()?)?;
                    (!name.contains('/')).then(|| name.to_owned())
                };
                let others: Option<Vec<String>> = list.iter().map(jail).collect();
                return Some(match others {
                    Some(others) => format!(
                        "`ezz delete {} {}` deletes them together",
                        dataset.leaf(),
                        others.join(" ")
                    ),
                    None => "`zfs list -o name,origin` shows them; destroy or promote them first"
                        .to_owned(),
                });
            }
            PlanError::Held { .. } => {
                "`zfs holds` shows the tag, `zfs release TAG SNAPSHOT` releases it"
            }
            PlanError::AddressTaken { .. } => "choose another address",
            PlanError::SiteDataset { .. } => "give a dataset outside of the site",
            PlanError::DatasetTaken { .. } => {
                "`ezz show` lists the datasets of a jail; give another"
            }
            PlanError::UnknownLimits { .. } => {
                "a newer ezz can start it; `ezz show` lists its limits"
            }
            PlanError::PoolTooSmall { .. } => "give a larger network, or create fewer jails",
            PlanError::NotAtomic { .. } => {
                "without --atomic, ezz creates them in transactions of a thousand"
            }
            PlanError::JailsExist(_) => "`ezz list` shows them; omit them",
            PlanError::JailIsTrack(_) | PlanError::JailIsWord(_) | PlanError::TrackIsJail(_) => {
                "choose another name"
            }
            PlanError::TrackExists(_) => "`ezz track list` shows it",
            PlanError::Generation(_) | PlanError::NoGeneration(_) => {
                "`ezz world list` shows the generations"
            }
            PlanError::GenerationKept { generation, .. } => {
                return Some(format!(
                    "`ezz world show {generation}` shows what uses it; `ezz world prune --dry-run` shows which can be destroyed"
                ));
            }
            PlanError::Name(inner) => return inner.hint(),
            PlanError::Model(_) => return None,
        };
        Some(text.to_owned())
    }
}

impl Hint for SpecError {
    fn hint(&self) -> Option<String> {
        match self {
            SpecError::NoBase { jail, .. } => Some(format!(
                "`ezz world list` shows the generations, and `ezz merge {jail} --follow TRACK` moves {jail} to another"
            )),
            SpecError::Profile { .. } => Some("a newer ezz may know it".to_owned()),
            SpecError::Name(inner) => inner.hint(),
        }
    }
}
