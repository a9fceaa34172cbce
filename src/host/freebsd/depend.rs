//! The order in which rc.d/jail starts the jails: `depend` of jail.conf(5).
//!
//! jail(8) fails a jail whose `depend` names a jail that its configuration lacks, and all jails that depend on each
//! other in a circle (usr.sbin/jail/state.c, dep_setup). So a file has `depend` only where rc.d/jail reads all jails as
//! one configuration, it names only jails whose files exist, and it never forms a circle. ezz itself starts each jail
//! alone and in its own order, by a second file without `depend`. That file also has what /etc/jail.conf says of all
//! jails (`globals`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::checks::{includes, variable};
use super::{FreeBsd, Wanted, conf, files};
use crate::model::Changed;
use crate::name::JailName;
use crate::ports::{HostError, JailSpec};

/// The beginning of the line.
const DEPEND: &str = "    depend = ";

/// The extension of the second file, which no glob for `*.conf` matches.
const ALONE: &str = "alone";

/// A file of a jail, changed for a stop with another timeout than it contains.
#[derive(Debug)]
pub(super) struct Timed {
    /// The path of the file that jail(8) reads.
    pub(super) path: PathBuf,
    /// What to restore after the stop: a text, or no file. The outer value is none if nothing was changed.
    before: Option<Option<Vec<u8>>>,
}

impl FreeBsd {
    /// Returns the path of the second file. ezz starts and stops a jail by it if the first file has a `depend`, or
    /// lacks something that /etc/jail.conf says of all jails.
    pub(super) fn alone_file(&self, name: &JailName) -> PathBuf {
        self.places.conf.join(format!("{name}.{ALONE}"))
    }

    /// Returns the path of the file by which ezz starts and stops a jail.
    pub(super) fn used_file(&self, name: &JailName) -> Result<PathBuf, HostError> {
        let alone = self.alone_file(name);
        Ok(match files::is_of(&alone, &self.site_id)? {
            true => alone,
            false => self.conf_file(name),
        })
    }

    /// Returns the path of the file by which ezz stops a jail. If a second file is needed now and does not exist, this
    /// writes it, because service(8) may have started the jail with the settings in it.
    pub(super) fn file_to_stop(&self, name: &JailName) -> Result<PathBuf, HostError> {
        let used = self.used_file(name)?;
        let text = files::read(&used)?.unwrap_or_default();
        let framed = match used == self.conf_file(name) && conf::owner(&text) == Some(&self.site_id)
        {
            true => self.framed(name, &without(&text)),
            false => None,
        };
        let Some(framed) = framed else {
            return Ok(used);
        };
        let alone = self.alone_file(name);
        let _ = files::put(&alone, &self.site_id, &framed)?;
        Ok(alone)
    }

    /// Returns a file by which ezz stops a jail with another timeout, because jail(8) reads the timeout only from the
    /// file.
    pub(super) fn timed(
        &self,
        name: &JailName,
        conf: &Path,
        timeout: Option<u32>,
    ) -> Result<Timed, HostError> {
        let mut timed = Timed {
            path: conf.to_owned(),
            before: None,
        };
        let Some(seconds) = timeout else {
            return Ok(timed);
        };
        let text = files::read(conf)?.unwrap_or_default();
        let own = self.alone_file(name);
        let changed = conf::with_stop_timeout(&String::from_utf8_lossy(&text), seconds);
        let _ = files::put(&own, &self.site_id, changed.as_bytes())?;
        timed.before = Some((conf == own).then_some(text));
        timed.path = own;
        Ok(timed)
    }

    /// Restores the file after the stop.
    pub(super) fn untimed(&self, timed: Timed) -> Result<(), HostError> {
        let _ = match timed.before {
            None => Changed::Already,
            Some(None) => files::remove(&timed.path, &self.site_id)?,
            Some(Some(text)) => files::put(&timed.path, &self.site_id, &text)?,
        };
        Ok(())
    }

    /// Returns the two files of a jail in the order in which they are written, from the text without dependencies.
    pub(super) fn with_dependencies(
        &self,
        spec: &JailSpec,
        text: Vec<u8>,
    ) -> Result<[Wanted; 2], HostError> {
        let (conf, alone) = (self.conf_file(&spec.name), self.alone_file(&spec.name));
        if !spec.config.boot {
            // No glob matches the second file, so rc.d/jail does not start the jail, but ezz can.
            return Ok([(alone, Some(text)), (conf, None)]);
        }
        let on = self.dependencies(spec)?;
        let framed = self.framed(&spec.name, &text);
        Ok(match (on.is_empty(), framed) {
            (true, None) => [(conf, Some(text)), (alone, None)],
            (true, Some(framed)) => [(alone, Some(framed)), (conf, Some(text))],
            (false, framed) => {
                let with = depending(&text, &on);
                [(alone, Some(framed.unwrap_or(text))), (conf, Some(with))]
            }
        })
    }

    /// Returns the jails that the `depend` of a jail's file may name.
    fn dependencies(&self, spec: &JailSpec) -> Result<Vec<JailName>, HostError> {
        let mut on = Vec::new();
        if spec.config.depends.is_empty() || !self.reads_all() {
            return Ok(on);
        }
        for name in &spec.config.depends {
            let there = files::is_of(&self.conf_file(name), &self.site_id)?;
            if there && !on.contains(name) && !self.leads_to(name, &spec.name)? {
                on.push(name.clone());
            }
        }
        Ok(on)
    }

    /// Reports whether a jail is another one, or depends on it according to the existing files.
    fn leads_to(&self, from: &JailName, to: &JailName) -> Result<bool, HostError> {
        let mut seen: BTreeSet<JailName> = BTreeSet::new();
        let mut left = vec![from.clone()];
        while let Some(name) = left.pop() {
            if name == *to {
                return Ok(true);
            }
            let text = files::read(&self.conf_file(&name))?.unwrap_or_default();
            if seen.insert(name) {
                left.extend(depends(&text));
            }
        }
        Ok(false)
    }

    /// Reports whether rc.d/jail reads the jails as one configuration. That is so if jail.conf includes them, and no
    /// jail_list names single jails, whose files some releases use alone.
    fn reads_all(&self) -> bool {
        *self.reads_all.get_or_init(|| {
            let main = files::read(&self.places.main_conf).ok().flatten();
            let main = String::from_utf8_lossy(&main.unwrap_or_default()).into_owned();
            includes(&main, &self.places.conf)
                && variable(self.system.as_ref(), "jail", "jail_list")
                    .is_ok_and(|list| list.is_empty())
        })
    }

    /// Removes a jail whose files are being removed from the dependencies of the other jails, which would otherwise not
    /// start at boot.
    pub(super) fn release(&self, name: &JailName) -> Result<(), HostError> {
        if self.dependents.get().is_none() {
            let _ = self.dependents.set(self.all_dependents()?);
        }
        let others = self.dependents.get().and_then(|all| all.get(name));
        for other in others.into_iter().flatten() {
            let (conf, alone) = (self.conf_file(other), self.alone_file(other));
            let with = files::read(&conf)?.unwrap_or_default();
            let Some(used) = files::read(&alone)? else {
                continue;
            };
            let text = without(&with);
            let mut on = depends(&with);
            on.retain(|it| it != name);
            if on.is_empty() {
                let _ = files::put(&conf, &self.site_id, &text)?;
                // The second file stays if it has more than the first.
                if used == text {
                    let _ = files::remove(&alone, &self.site_id)?;
                }
            } else {
                let _ = files::put(&conf, &self.site_id, &depending(&text, &on))?;
            }
        }
        Ok(())
    }

    /// Returns the dependents of each jail, according to the files. They are read once for a command.
    fn all_dependents(&self) -> Result<BTreeMap<JailName, BTreeSet<JailName>>, HostError> {
        let mut all: BTreeMap<JailName, BTreeSet<JailName>> = BTreeMap::new();
        for entry in fs::read_dir(&self.places.conf)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let name = stem.and_then(|stem| JailName::parse(stem).ok());
            let (true, Some(name)) = (path.extension().is_some_and(|it| it == ALONE), name) else {
                continue;
            };
            if files::is_of(&path, &self.site_id)? {
                let text = files::read(&self.conf_file(&name))?.unwrap_or_default();
                for on in depends(&text) {
                    all.entry(on).or_default().insert(name.clone());
                }
            }
        }
        Ok(all)
    }
}

/// Returns the text of a file with its dependencies, at the end of the block. Names of jails need no escapes.
fn depending(text: &[u8], on: &[JailName]) -> Vec<u8> {
    let names: Vec<String> = on.iter().map(|name| format!("'{name}'")).collect();
    let mut with = text.strip_suffix(b"}\n").unwrap_or(text).to_vec();
    with.extend(format!("{DEPEND}{};\n}}\n", names.join(", ")).bytes());
    with
}

/// Returns the text of a file without its dependencies.
fn without(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let kept = lines.filter(|line| !line.starts_with(DEPEND.as_bytes()));
    kept.flatten().copied().collect()
}

/// Returns the dependencies in the text of a file.
fn depends(text: &[u8]) -> Vec<JailName> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.strip_prefix(DEPEND));
    let words = line.into_iter().flat_map(|line| line.split('\''));
    words
        .filter_map(|word| JailName::parse(word).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::conf::reader;
    use super::super::testing::spec;
    use super::super::{Places, Wanted};
    use super::*;
    use crate::model::Changed;
    use crate::ports::Host;

    fn host(directory: &Path, reads_all: bool) -> FreeBsd {
        let places = Places {
            conf: directory.join("jail.conf.d"),
            main_conf: directory.join("jail.conf"),
            log: directory.join("log"),
            ..Places::default()
        };
        let system = std::sync::Arc::new(super::super::system::ThisSystem);
        let host = FreeBsd::on("0f0e", Path::new("/usr/jails"), places, system);
        host.reads_all.set(reads_all).expect("not yet asked");
        host
    }

    fn after(name: &str, on: &[&str]) -> JailSpec {
        let mut spec = spec(name);
        let names = on.iter().map(|name| JailName::parse(name).expect("a name"));
        spec.config.depends = names.collect();
        spec
    }

    fn derive(host: &FreeBsd, spec: &JailSpec) {
        assert_eq!(host.write(spec).expect("ours"), Changed::Done);
        assert_eq!(
            host.config_drift(spec).expect("readable"),
            Vec::<PathBuf>::new()
        );
    }

    /// Returns the dependencies of a file, read by the grammar of jail.conf(5).
    fn said(path: &Path) -> Option<Vec<String>> {
        let text = fs::read(path).expect("it is there");
        let mut blocks = reader::read(&text).expect("jail(8) could read it");
        let block = blocks.pop().expect("a jail");
        let mut found = block.parameters.into_iter();
        let (_, values) = found.find(|(name, _)| name == b"depend")?;
        let text = |value| String::from_utf8(value).expect("text");
        Some(values.into_iter().map(text).collect())
    }

    #[test]
    fn dependencies_are_for_rc_and_ezz_has_a_file_without_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = host(directory.path(), true);
        let web = after("web", &["db", "gone", "db"]);
        // No file may name a jail without a file.
        derive(&host, &web);
        assert_eq!(said(&host.conf_file(&web.name)), None);
        assert_eq!(
            host.used_file(&web.name).expect("readable"),
            host.conf_file(&web.name)
        );
        derive(&host, &after("db", &[]));
        assert_eq!(host.config_drift(&web).expect("readable").len(), 2);
        derive(&host, &web);
        assert_eq!(
            said(&host.conf_file(&web.name)),
            Some(vec!["db".to_owned()])
        );
        let alone = host.alone_file(&web.name);
        assert_eq!(host.used_file(&web.name).expect("readable"), alone);
        assert_eq!(said(&alone), None);
        assert!(!alone.to_str().expect("text").ends_with(".conf"));

        // A dependency is removed with its jail, and with the jail that it names.
        let more = after("app", &["db", "web"]);
        derive(&host, &more);
        host.release(&spec("db").name).expect("released");
        assert_eq!(said(&host.conf_file(&web.name)), None);
        assert!(!alone.exists());
        assert_eq!(
            said(&host.conf_file(&more.name)),
            Some(vec!["web".to_owned()])
        );
        let plain = after("app", &[]);
        derive(&host, &plain);
        assert!(!host.alone_file(&more.name).exists());
    }

    /// rc.d/jail does not find the file, and still starts the jails that come after it.
    #[test]
    fn one_that_does_not_start_at_boot_has_a_file_for_ezz_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = host(directory.path(), true);
        let mut db = after("db", &[]);
        derive(&host, &db);
        let web = after("web", &["db"]);
        derive(&host, &web);
        db.config.boot = false;
        derive(&host, &db);
        let (conf, alone) = (host.conf_file(&db.name), host.alone_file(&db.name));
        assert!(!conf.exists());
        assert_eq!(said(&alone), None);
        assert_eq!(host.used_file(&db.name).expect("readable"), alone);
        assert_eq!(said(&host.conf_file(&web.name)), None);
        assert_eq!(
            host.config_drift(&web).expect("readable"),
            Vec::<PathBuf>::new()
        );
        db.config.boot = true;
        derive(&host, &db);
        assert!(conf.exists() && !alone.exists());
    }

    #[test]
    fn a_circle_is_left_open() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = host(directory.path(), true);
        derive(&host, &after("a", &["b", "a"]));
        derive(&host, &after("b", &["c"]));
        derive(&host, &after("c", &["a"]));
        derive(&host, &after("a", &["b"]));
        let names = ["a", "b", "c"].map(|name| spec(name).name);
        // The file that was written last would have closed the circle.
        assert_eq!(said(&host.conf_file(&names[2])), Some(vec!["a".to_owned()]));
        assert_eq!(said(&host.conf_file(&names[0])), Some(vec!["b".to_owned()]));
        assert_eq!(said(&host.conf_file(&names[1])), None);
        assert_eq!(
            host.config_drift(&after("b", &["c"])).expect("readable"),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn where_rc_reads_single_files_they_have_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = host(directory.path(), false);
        derive(&host, &after("db", &[]));
        let web = after("web", &["db"]);
        derive(&host, &web);
        assert_eq!(said(&host.conf_file(&web.name)), None);
        let wanted: [Wanted; 2] = host
            .with_dependencies(&web, b"x {\n}\n".to_vec())
            .expect("made");
        assert_eq!(wanted[1].1, None);
    }
}
