//! Names of releases, architectures and sets.

use super::*;

#[test]
fn releases_have_no_patch_level_on_mirrors() {
    for (text, name) in [
        ("14.3-RELEASE", Some("14.3-RELEASE")),
        ("14.3-RELEASE-p12", Some("14.3-RELEASE")),
        ("15.0-BETA2", Some("15.0-BETA2")),
        ("15.0-RC1", Some("15.0-RC1")),
        ("15.0-STABLE", None),
        ("15.0-BETA", None),
        ("15-RELEASE", None),
        ("14.3-RELEASE-p", None),
        ("../14.3-RELEASE", None),
        ("debian-12.tar.zst", None),
        ("", None),
    ] {
        let parsed = Version::parse(text).map(|version| version.to_string());
        assert_eq!(parsed.as_deref(), name, "{text:?}");
    }
}

#[test]
fn architectures_have_two_names_and_sets_no_path() {
    assert_eq!(Arch::parse("arm64"), Arch::parse("aarch64"));
    assert!(Arch::parse("vax").is_err());
    assert_eq!(SetName::parse("lib32").expect("a set").file(), "lib32.txz");
    for bad in ["", "../base", "base.txz", "Base", "a/b"] {
        assert!(SetName::parse(bad).is_err(), "{bad:?}");
    }
}
