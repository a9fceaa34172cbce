//! Helpers for the tests of this module.

use std::path::PathBuf;

use ezz_zfs::Mounted;

use super::jls::Seen;
use crate::model::{Base, JailConfig, Kind, World};
use crate::name::{DatasetName, GenerationId, JailName, TrackName};
use crate::ports::{BaseMount, JailSpec};
use crate::profile::Profile;

/// Returns a thin jail that follows `main`.
pub fn spec(name: &str) -> JailSpec {
    let dataset = |text: &str| DatasetName::parse(text).expect("a dataset");
    let generation = GenerationId(7);
    JailSpec {
        site_id: "0f0e".to_owned(),
        name: JailName::parse(name).expect("a name"),
        dataset: dataset(&format!("tank/ezz/jails/{name}")),
        root: PathBuf::from("/usr/jails").join(name),
        base: Some(BaseMount {
            generation,
            dataset: dataset("tank/ezz/basejail/7"),
            path: "/usr/jails/basejail/7".into(),
        }),
        config: JailConfig {
            hostname: format!("{name}.example.org"),
            ..JailConfig::new(Kind::Thin, Base::Track(TrackName::main()), generation)
        },
        profile: std::borrow::Cow::Borrowed(
            Profile::builtin()
                .iter()
                .find(|profile| profile.name == "freebsd")
                .expect("it is built in"),
        ),
        world: World {
            label: "14.3-RELEASE-p2".to_owned(),
            profile: "freebsd".to_owned(),
            os: "freebsd".to_owned(),
            arch: "amd64".to_owned(),
            source: None,
            parent: None,
            allowed: Vec::new(),
            other: serde_json::Map::new(),
        },
    }
}

/// Returns a jail as jls prints it.
pub fn jail(jid: u32, name: &str, path: &str, dying: bool) -> Seen {
    Seen {
        jid,
        name: name.to_owned(),
        path: path.into(),
        dying,
    }
}

/// Returns a mount as the kernel reports it.
pub fn mount(source: &str, target: &str, fstype: &str) -> Mounted {
    Mounted {
        source: source.to_owned(),
        root: "/".into(),
        target: target.into(),
        fstype: fstype.to_owned(),
        read_only: fstype == "nullfs",
        nosuid: false,
        nodev: true,
        noexec: false,
        noatime: false,
    }
}
