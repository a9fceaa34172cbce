//! The files that jail(8) reads: whatever a value contains, a reader of the real grammar finds that value and nothing
//! else.

#[allow(
    dead_code,
    missing_debug_implementations,
    missing_docs,
    reason = "a reader for tests"
)]
#[path = "../../../src/host/freebsd/conf/reader.rs"]
mod reader;

use std::path::Path;

use ezz::host::freebsd::conf::{Names, render};
use ezz::model::{Base, JailConfig, Kind, Param, Params, World};
use ezz::name::{DatasetName, GenerationId, JailName, TrackName};
use ezz::ports::{BaseMount, JailSpec};
use ezz::profile::Profile;

/// Checks data that is separated by RS: the host name, the path of the jail, that of its base, then parameters.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\u{1e}');
    let (hostname, root, base) = match (lines.next(), lines.next(), lines.next()) {
        (Some(hostname), Some(root), Some(base)) => (hostname, root, base),
        _ => return,
    };
    // A word of an fstab and a path of the host are never empty.
    if root.is_empty() || base.is_empty() {
        return;
    }
    let params: Vec<Param> = lines.filter_map(|line| line.parse().ok()).collect();
    let Ok(params) = Params::new(params) else {
        return;
    };
    let spec = spec(hostname, root, base, params);
    let names = Names {
        fstab: Path::new(base),
        console_log: Path::new(root),
    };
    let Ok(files) = render(&spec, names) else {
        assert!(text.contains('\0'), "only a NUL cannot be written");
        return;
    };
    let mut blocks = reader::read(&files.conf).expect("jail(8) can read it");
    assert_eq!(blocks.len(), 1, "one block");
    let block = blocks.remove(0);
    assert_eq!(block.name, b"web");
    let values = |name: &str| {
        let found: Vec<_> = block
            .parameters
            .iter()
            .filter(|(it, _)| it == name.as_bytes())
            .collect();
        assert!(found.len() <= 1, "{name} occurs twice");
        found.first().map(|(_, values)| values.clone())
    };
    assert_eq!(
        values("host.hostname"),
        Some(vec![hostname.as_bytes().to_vec()])
    );
    assert_eq!(values("path"), Some(vec![root.as_bytes().to_vec()]));
    for (name, expected) in spec.config.params.iter() {
        let found = values(name).unwrap_or_default();
        let expected: Vec<Vec<u8>> = expected.iter().map(|it| it.clone().into_bytes()).collect();
        assert!(found.ends_with(&expected), "{name}: {found:?}");
    }
    let mounts = reader::read_fstab(&files.fstab.expect("it is thin"));
    assert_eq!(mounts.len(), 1, "one mount");
    assert_eq!(mounts[0][0], base.as_bytes());
    assert_eq!(&mounts[0][2..], [b"nullfs".to_vec(), b"ro".to_vec()]);
}

fn spec(hostname: &str, root: &str, base: &str, params: Params) -> JailSpec {
    let profile = Profile::builtin()
        .iter()
        .find(|profile| profile.name == "freebsd")
        .expect("it is built in");
    let generation = GenerationId(7);
    let dataset = |name: &str| DatasetName::parse(name).expect("a name");
    JailSpec {
        site_id: "0f0e".to_owned(),
        name: JailName::parse("web").expect("a name"),
        dataset: dataset("tank/ezz/jails/web"),
        root: root.into(),
        base: Some(BaseMount {
            generation,
            dataset: dataset("tank/ezz/basejail/7"),
            path: base.into(),
        }),
        config: JailConfig {
            hostname: hostname.to_owned(),
            params,
            ..JailConfig::new(Kind::Thin, Base::Track(TrackName::main()), generation)
        },
        profile: std::borrow::Cow::Borrowed(profile),
        world: World {
            label: "14.3-RELEASE".to_owned(),
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
