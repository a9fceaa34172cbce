//! Tests of the derived files in a temporary directory. Tests that need a kernel are elsewhere.

use super::testing::spec;
use super::*;
use crate::ports::Place;

fn host(directory: &Path, site_id: &str) -> FreeBsd {
    let places = Places {
        conf: directory.join("jail.conf.d"),
        main_conf: directory.join("jail.conf"),
        log: directory.join("log"),
        patience: Duration::from_secs(1),
        ..Places::default()
    };
    FreeBsd::on(
        site_id,
        Path::new("/usr/jails"),
        places,
        Arc::new(ThisSystem),
    )
}

#[test]
fn derived_files_are_made_found_and_repaired() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = host(directory.path(), "0f0e");
    let spec = spec("web");
    assert!(host.derived().expect("no directory yet").is_empty());
    assert_eq!(host.config_drift(&spec).expect("it can be read").len(), 2);
    assert_eq!(host.write_config(&spec).expect("it is new"), Changed::Done);
    assert_eq!(
        host.write_config(&spec).expect("it is there"),
        Changed::Already
    );
    assert!(host.config_drift(&spec).expect("it can be read").is_empty());
    assert_eq!(
        host.derived().expect("a directory"),
        std::slice::from_ref(&spec.name)
    );

    let fstab = host.fstab_file(&spec.name);
    let conf = fs::read(host.conf_file(&spec.name)).expect("it is there");
    let named = format!("mount.fstab = '{}';", fstab.display());
    assert!(String::from_utf8(conf).expect("text").contains(&named));

    fs::remove_file(&fstab).expect("it is there");
    assert_eq!(host.config_drift(&spec).expect("it can be read"), [fstab]);
    assert_eq!(
        host.write_config(&spec).expect("it is repaired"),
        Changed::Done
    );
    assert!(host.config_drift(&spec).expect("it can be read").is_empty());
}

#[test]
fn the_fstab_goes_when_a_jail_becomes_thick() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = host(directory.path(), "0f0e");
    let mut spec = spec("web");
    assert_eq!(host.write(&spec).expect("it is new"), Changed::Done);
    spec.base = None;
    assert_eq!(host.config_drift(&spec).expect("it can be read").len(), 2);
    assert_eq!(host.write(&spec).expect("ours"), Changed::Done);
    assert!(!host.fstab_file(&spec.name).exists());
    assert!(host.config_drift(&spec).expect("it can be read").is_empty());
}

#[test]
fn a_second_site_and_the_administrator_keep_their_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = host(directory.path(), "0f0e");
    let mut other = spec("web");
    assert_eq!(first.write(&other).expect("it is new"), Changed::Done);
    other.site_id = "1a1b".to_owned();
    let second = host(directory.path(), "1a1b");
    assert!(second.derived().expect("a directory").is_empty());
    let error = second.write(&other).expect_err("it is of the first site");
    assert!(matches!(error, HostError::File { .. }), "{error}");

    let by_hand = first.places.conf.join("mail.conf");
    fs::write(&by_hand, "mail { path = /home/mail; }\n").expect("it can be written");
    fs::write(first.places.conf.join("UPPER.conf"), "").expect("it can be written");
    assert_eq!(first.derived().expect("a directory").len(), 1);
    let error = first.write(&spec("mail")).expect_err("it is not ours");
    assert!(matches!(error, HostError::File { .. }), "{error}");
    let kept = fs::read_to_string(&by_hand).expect("it is there");
    assert_eq!(kept, "mail { path = /home/mail; }\n");
}

/// Runs the updater with stand-ins for its programs, which record their arguments.
#[test]
fn the_updater_has_the_flags_that_it_needs_without_a_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = host(directory.path(), "0f0e");
    let spec = spec("web");
    let called = directory.path().join("called");
    let stand_in = |name: &str, ends: &str| {
        let text = format!(
            "#!/bin/sh\necho \"$PAGER {name} $*\" >>{}\n{ends}\n",
            called.display()
        );
        let at = directory.path().join(name);
        fs::write(&at, text).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&at, mode).expect("made executable");
    };
    let update = spec.profile.update.clone().expect("it has an updater");
    assert!(update.on_host, "both programs are the host's");
    let mut environment = update.environment.clone();
    environment.push("EZZ_RELEASE=14.3-RELEASE".to_owned());
    environment.push(format!("PATH={}:/usr/bin:/bin", directory.path().display()));
    let cache = directory.path().join("cache");
    let root = directory.path().join("8");
    fs::create_dir_all(root.join("var/db/pkg")).expect("writable");
    fs::write(root.join("var/db/pkg/local.sqlite"), "").expect("writable");
    let run = |packaged: bool| {
        let _ = fs::remove_file(&called);
        stand_in("freebsd-update", "exit 0");
        stand_in("pkg", if packaged { "exit 0" } else { "exit 1" });
        let ran = host
            .run_in_world(&WorldRequest {
                generation: GenerationId(8),
                root: &root,
                place: Place::Host,
                command: &update.command,
                environment: &environment,
                cache: Some(&cache),
                limit: Duration::from_secs(60),
                stop: &|| false,
            })
            .expect("it can be run");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let called = fs::read_to_string(&called).expect("something was called");
        let called = called.replace(&cache.display().to_string(), "CACHE");
        called.replace(&root.display().to_string(), "ROOT")
    };
    // freebsd-update.sh has no other way to run without a terminal on a world that is not the host's.
    assert_eq!(
        run(false),
        "/bin/cat pkg -N -r ROOT\n\
         /bin/cat freebsd-update --not-running-from-cron -b ROOT -d CACHE \
         -f ROOT/etc/freebsd-update.conf --currently-running 14.3-RELEASE fetch install\n"
    );
    assert!(cache.is_dir(), "downloads have a directory");
    // freebsd-update refuses a base that is made from packages.
    assert_eq!(
        run(true),
        "/bin/cat pkg -N -r ROOT\n\
         /bin/cat pkg -r ROOT which -q /usr/bin/uname\n\
         /bin/cat pkg -r ROOT -R ROOT/.ezz-repos -o IGNORE_OSVERSION=yes -o PKG_CACHEDIR=CACHE query %n %v\n\
         /bin/cat pkg -r ROOT -R ROOT/.ezz-repos -o IGNORE_OSVERSION=yes -o PKG_CACHEDIR=CACHE update -r FreeBSD-base\n\
         /bin/cat pkg -r ROOT -R ROOT/.ezz-repos -o IGNORE_OSVERSION=yes -o PKG_CACHEDIR=CACHE upgrade -U -y -r FreeBSD-base\n\
         /bin/cat pkg -r ROOT -R ROOT/.ezz-repos -o IGNORE_OSVERSION=yes -o PKG_CACHEDIR=CACHE clean -y\n\
         /bin/cat pkg -r ROOT -R ROOT/.ezz-repos -o IGNORE_OSVERSION=yes -o PKG_CACHEDIR=CACHE query %n %v\n"
    );
}
