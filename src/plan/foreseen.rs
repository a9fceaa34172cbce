//! What a site is after a commit that went well, as far as the steps after it need it: a program does
//! exactly what it says, or nothing, so it need not be read again to know the jails that it has made.

use crate::model::{Inventory, Jail, JailConfig, decode, property};
use crate::name::JailName;
use crate::plan::Commit;

/// The inventory with the jails that a commit has made or configured anew; none if the commit has changed
/// something else that matters: then it has to be read. What only the kernel knows of a new jail (its
/// guid and sizes) is 0 in it.
pub fn after(mut after: Inventory, commit: &Commit) -> Option<Inventory> {
    after.site.epoch += 1;
    let jails = after.site.layout.jails.clone();
    match commit {
        Commit::Create { jails: new, .. } => {
            for jail in new {
                let origin = Some(jail.origin.to_string());
                put(&mut after, &jail.name, origin, &jail.config)?;
            }
        }
        Commit::Set { sets, .. } => {
            for set in sets {
                let below = set.dataset.strip_prefix(jails.as_str())?;
                if set.property.starts_with(property::INTENT) && below.is_empty() {
                    continue;
                }
                let name = JailName::parse(below.strip_prefix('/')?).ok()?;
                let value = set
                    .value
                    .as_ref()
                    .filter(|_| set.property == property::JAIL)?;
                put(&mut after, &name, None, value)?;
            }
        }
        _ => return None,
    }
    Some(after)
}

fn put(after: &mut Inventory, name: &JailName, origin: Option<String>, text: &str) -> Option<()> {
    let dataset = after.site.layout.jail(name).ok()?;
    let config: JailConfig = decode(dataset.as_str(), property::JAIL, text).ok()?;
    let mountpoint = after.site.directory.join(name.as_str());
    let new = || Jail {
        name: name.clone(),
        dataset,
        guid: 0,
        config: Err(String::new()),
        merging: None,
        origin,
        mountpoint,
        mounted: false,
        flags: None,
        used: 0,
        referenced: 0,
        quota: 0,
    };
    let jail = after.jails.entry(name.clone()).or_insert_with(new);
    jail.config = Ok(config);
    Some(())
}
