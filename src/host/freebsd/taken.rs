//! Finds names of jails that something else on the host has. The kernel and /etc/jail.conf.d identify jails only by
//! their names, regardless of the site.

use std::collections::BTreeMap;

use super::{FreeBsd, conf, files};
use crate::model::Taken;
use crate::name::JailName;
use crate::ports::HostError;

impl FreeBsd {
    /// Returns those of the names that a file, a running jail or /etc/jail.conf already has.
    pub(super) fn names_taken(
        &self,
        names: &[&JailName],
    ) -> Result<BTreeMap<JailName, Taken>, HostError> {
        let mut all = BTreeMap::new();
        for &name in names {
            let taken = match self.file_taken(name)? {
                Some(taken) => Some(taken),
                None => self.jail_taken(name)?,
            };
            all.extend(taken.map(|taken| (name.clone(), taken)));
        }
        Ok(all)
    }

    /// Returns whether a file for a jail exists that is not of this site.
    pub(super) fn file_taken(&self, name: &JailName) -> Result<Option<Taken>, HostError> {
        let mut theirs: Vec<String> = Vec::new();
        let mut by = None;
        for path in [
            self.conf_file(name),
            self.alone_file(name),
            self.fstab_file(name),
        ] {
            let Some(text) = files::read(&path)? else {
                continue;
            };
            let shown = path.display().to_string();
            let Some(site) = conf::owner(&text) else {
                return Ok(Some(Taken {
                    by: format!("ezz did not make {shown}"),
                    hint: format!("choose another name, or move {shown} away"),
                }));
            };
            if site != self.site_id {
                let first = || format!("{shown} belongs to the site with the id {site}");
                by.get_or_insert_with(first);
                theirs.push(shown);
            }
        }
        Ok(by.map(|by| Taken {
            by,
            hint: format!(
                "`zfs get -s local ezz:id` lists the sites of this host: if that site is one of them, \
                 choose another name; if not, `rm {}` frees the name",
                theirs.join(" ")
            ),
        }))
    }

    fn jail_taken(&self, name: &JailName) -> Result<Option<Taken>, HostError> {
        if let Some(root) = self.look()?.stranger(name) {
            return Ok(Some(Taken {
                by: format!(
                    "a jail of that name runs in {} and does not belong to this site",
                    root.display()
                ),
                hint: format!("choose another name, or end that jail: `jail -r {name}`"),
            }));
        }
        // rc.d/jail reads this file instead of the jail's file in jail.conf.d (parse_options).
        let own = format!("jail.{name}.conf");
        let own = self.places.main_conf.with_file_name(own);
        if own.exists() {
            let own = own.display();
            return Ok(Some(Taken {
                by: format!("rc.d/jail starts a jail of that name by {own}"),
                hint: format!("choose another name, or move {own} away"),
            }));
        }
        let main = self.places.main_conf.display();
        Ok(self.defined_by_hand(name).then(|| Taken {
            by: format!("{main} defines a jail of that name"),
            hint: format!("choose another name, or remove that jail from {main}"),
        }))
    }
}
