//! The checks of `doctor` on a FreeBSD host.

use std::collections::BTreeSet;
use std::path::Path;

use super::conf::DEVFS_RULESET;
use super::preflight::{RACCT, VIMAGE, is_yes, pairs};
use super::system::System;
use super::{FreeBsd, files, params};
use crate::name::JailName;
use crate::ports::{Check, Host, HostError, Level};

/// The programs that ezz runs; all of them are part of FreeBSD's base system.
const PROGRAMS: [&str; 9] = [
    "jail",
    "jls",
    "jexec",
    "mount_nullfs",
    "devfs",
    "script",
    "timeout",
    "ps",
    "pkill",
];

/// A shell command that prints the variable `$2` of the service `$1`.
const VARIABLE: &str = r#". /etc/rc.subr; load_rc_config "$1"; eval "printf '%s' \"\${$2-}\"""#;

/// Runs all checks.
pub fn all(host: &FreeBsd) -> Vec<Check> {
    let system = host.system.as_ref();
    let mut checks = vec![
        kernel(
            &run(system, "uname", &["-r"]).unwrap_or_default(),
            &run(system, "uname", &["-K"]).unwrap_or_default(),
        ),
        programs(system),
    ];
    checks.push(match ruleset(system, None) {
        Ok(()) => check("devfs ruleset", Level::Ok, "loaded", None),
        Err(missing) => check(
            "devfs ruleset",
            Level::Bad,
            &format!("{missing}: jails would see every device"),
            Some("service devfs restart"),
        ),
    });
    for (service, name, otherwise) in BOOT {
        checks.push(knob(name, variable(system, service, name), otherwise));
    }
    checks.push(features(run(
        system,
        "sysctl",
        &["-i", VIMAGE.name, RACCT.name],
    )));
    checks.extend(modules(system));
    // The other jails have boot off, or have lost their file, which another check reports.
    let mut names = host.derived().unwrap_or_default();
    names.retain(|name| host.conf_file(name).is_file());
    let main = files::read(&host.places.main_conf).ok().flatten();
    let main = String::from_utf8_lossy(&main.unwrap_or_default()).into_owned();
    checks.push(match variable(system, "jail", "jail_list") {
        Ok(list) => boot(&names, &list, &main, &host.places.conf),
        Err(why) => unread("start at boot", &why),
    });
    checks
}

/// Checks that a devfs ruleset is loaded into the kernel: the usual one for jails, or the one with this number.
///
/// # Errors
/// [`HostError::Missing`] if it is not loaded, or cannot be read.
pub fn ruleset(system: &dyn System, number: Option<&str>) -> Result<(), HostError> {
    let usual = DEVFS_RULESET.to_string();
    let number = number.unwrap_or(&usual);
    let found = match run(system, "devfs", &["rule", "-s", number, "show"]) {
        // Ruleset 0 has no rules, so a jail sees every device.
        Ok(_) if number == "0" => "shows every device",
        Ok(rules) if rules.is_empty() => "is not loaded",
        Ok(_) => return Ok(()),
        Err(why) => &format!("cannot be read: {why}"),
    };
    Err(HostError::Missing {
        what: format!("the devfs ruleset {number}: it {found}"),
        hint: "service devfs restart".to_owned(),
    })
}

/// Checks that the kernel accounts for the resources of jails, which rctl(8) needs.
///
/// # Errors
/// Returns what was found instead.
pub fn limits(system: &dyn System) -> Result<(), String> {
    match run(system, "sysctl", &["-n", "kern.racct.enable"]).as_deref() {
        Ok("1") => Ok(()),
        Ok(other) => Err(format!("kern.racct.enable is {other}")),
        Err(why) => Err(why.clone()),
    }
}

pub(super) fn run(
    system: &dyn System,
    program: &str,
    arguments: &[&str],
) -> Result<String, String> {
    system
        .exec(program)
        .and_then(|exec| exec.args(arguments).run())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .map_err(|error| error.to_string())
}

fn check(what: &str, level: Level, found: &str, hint: Option<&str>) -> Check {
    Check {
        what: what.to_owned(),
        level,
        found: found.to_owned(),
        hint: hint.map(str::to_owned),
    }
}

/// The services that a boot needs: name, variable, and what does not work without the service.
pub(super) const BOOT: [(&str, &str, &str); 2] = [
    ("zfs", "zfs_enable", "no dataset is mounted at boot"),
    ("jail", "jail_enable", "no jail starts at boot"),
];

/// Returns a variable of rc.conf(5) as the script of a service gets it at boot. rc.subr(8) also reads the file in
/// rc.conf.d for that service. sysrc(8) does not read it, and is a separate package (bsdconfig).
pub(super) fn variable(system: &dyn System, service: &str, name: &str) -> Result<String, String> {
    run(system, "sh", &["-c", VARIABLE, "sh", service, name])
}

/// Checks the kernel by its `__FreeBSD_version`, which systems derived from FreeBSD keep, whatever they call their
/// releases.
fn kernel(release: &str, version: &str) -> Check {
    let major = version.parse().ok().map(|number: u32| number / 100_000);
    match major {
        Some(14..=15) => check("kernel", Level::Ok, release, None),
        Some(major) if major > 15 => check(
            "kernel",
            Level::Warning,
            release,
            Some("ezz was made for FreeBSD 14 and 15"),
        ),
        _ => check(
            "kernel",
            Level::Bad,
            if release.is_empty() {
                "unknown"
            } else {
                release
            },
            Some("ezz needs FreeBSD 14 or 15"),
        ),
    }
}

/// Checks the features that only some jails need. `doctor` reports the jails that need a feature that is missing.
fn features(told: Result<String, String>) -> Check {
    let what = "kernel features";
    let text = match told {
        Ok(text) => text,
        Err(why) => {
            return check(
                what,
                Level::Warning,
                &format!("cannot be read: {why}"),
                None,
            );
        }
    };
    let values = pairs(&text);
    let off: Vec<&str> = [VIMAGE, RACCT]
        .iter()
        .filter(|feature| values.get(feature.name) != Some(&"1"))
        .map(|feature| feature.what)
        .collect();
    if off.is_empty() {
        check(what, Level::Ok, "networks and limits of jails", None)
    } else {
        check(
            what,
            Level::Ok,
            &format!("without {}", off.join(" and ")),
            None,
        )
    }
}

/// Checks for parameters whose modules are not loaded.
fn modules(system: &dyn System) -> Option<Check> {
    let known = params::Known::of_kernel(system).ok()?;
    let missing = known.unloaded();
    let found = match missing.is_empty() {
        true => "all".to_owned(),
        false => format!("without {}, which come with modules", missing.join(", ")),
    };
    Some(check("jail parameters", Level::Ok, &found, None))
}

fn programs(system: &dyn System) -> Check {
    let missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|program| system.program(program).is_err())
        .collect();
    if missing.is_empty() {
        check("programs", Level::Ok, "all there", None)
    } else {
        let found = format!("missing: {}", missing.join(", "));
        check(
            "programs",
            Level::Bad,
            &found,
            Some("they are part of FreeBSD's base"),
        )
    }
}

/// Checks a variable of rc.conf(5) that must be on.
fn knob(name: &str, value: Result<String, String>, otherwise: &str) -> Check {
    let value = match value {
        Ok(value) => value,
        Err(why) => return unread(name, &why),
    };
    if is_yes(&value) {
        return check(name, Level::Ok, &value, None);
    }
    let shown = if value.is_empty() { "not set" } else { &value };
    check(
        name,
        Level::Warning,
        &format!("{shown}: {otherwise}"),
        Some(&format!("sysrc {name}=YES")),
    )
}

/// Returns the check of something that could not be read: it is neither healthy nor broken.
fn unread(name: &str, why: &str) -> Check {
    let found = format!("cannot be read: {why}");
    check(name, Level::Warning, &found, Some("look into /etc/rc.conf"))
}

/// Checks that rc.d/jail finds the jails at boot. It starts the jails that jail_list names and, if that is empty, those
/// of jail.conf. It does not search jail.conf.d by itself.
fn boot(names: &[JailName], jail_list: &str, main_conf: &str, directory: &Path) -> Check {
    let what = "start at boot";
    let listed: BTreeSet<&str> = jail_list.split_whitespace().collect();
    if listed.is_empty() {
        if names.is_empty() || includes(main_conf, directory) {
            return check(what, Level::Ok, "all jails", None);
        }
        let line = format!(".include \"{}/*.conf\";", directory.display());
        return check(
            what,
            Level::Warning,
            "jail.conf does not include the jails, and jail_list is empty",
            Some(&format!("add to /etc/jail.conf: {line}")),
        );
    }
    let left: Vec<_> = names
        .iter()
        .map(JailName::as_str)
        .filter(|name| !listed.contains(name))
        .collect();
    if left.is_empty() {
        return check(what, Level::Ok, "all jails", None);
    }
    let left = left.join(" ");
    check(
        what,
        Level::Warning,
        &format!("not in jail_list: {left}"),
        Some(&format!("sysrc jail_list+=\" {left}\"")),
    )
}

/// Reports whether jail.conf(5) includes all jails: at the beginning of a line, by the absolute path. By this form
/// rc.d/jail also recognises that a jail's own file is not to be used alone.
pub(super) fn includes(main_conf: &str, directory: &Path) -> bool {
    let glob = format!("{}/*.conf", directory.display());
    main_conf.lines().any(|line| {
        let rest = line.trim_start().strip_prefix(".include");
        let rest = rest.map(|rest| rest.trim_start().trim_start_matches(['"', '\'']));
        rest.is_some_and(|rest| rest.starts_with(&glob))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        for (release, version, level) in [
            ("14.3-RELEASE-p2", "1403000", Level::Ok),
            ("15.0-STABLE", "1500068", Level::Ok),
            ("something-1", "1500068", Level::Ok),
            ("16.0-CURRENT", "1600001", Level::Warning),
            ("13.5-RELEASE", "1305000", Level::Bad),
            ("14.3-RELEASE", "", Level::Bad),
            ("", "", Level::Bad),
        ] {
            assert_eq!(kernel(release, version).level, level, "{release}");
        }
    }

    #[test]
    fn kernels_without_a_feature_are_as_good_as_others() {
        let of = |text: &str| features(Ok(text.to_owned()));
        let both = of("kern.features.vimage: 1\nkern.racct.enable: 1\n");
        assert_eq!(both.found, "networks and limits of jails");
        let one = of("kern.features.vimage: 1\nkern.racct.enable: 0\n");
        assert_eq!(
            (one.level, one.found.as_str()),
            (Level::Ok, "without limits of jails")
        );
        assert_eq!(
            of("").found,
            "without networks of jails and limits of jails"
        );
        let unread = features(Err("it broke".to_owned()));
        assert_eq!(unread.level, Level::Warning);
    }

    #[test]
    fn knobs() {
        for value in ["YES", "yes", "On", "TRUE", "1"] {
            assert_eq!(
                knob("jail_enable", Ok(value.to_owned()), "x").level,
                Level::Ok
            );
        }
        for value in ["NO", "", "maybe"] {
            let check = knob("jail_enable", Ok(value.to_owned()), "x");
            assert_eq!(check.level, Level::Warning);
            assert_eq!(check.hint.as_deref(), Some("sysrc jail_enable=YES"));
        }
        let unread = knob("jail_enable", Err("it broke".to_owned()), "x");
        assert_eq!(unread.level, Level::Warning);
        assert_eq!(unread.found, "cannot be read: it broke");
    }

    #[test]
    fn jails_that_would_not_start_at_boot_are_named() {
        let names = ["web", "db"].map(|name| JailName::parse(name).expect("a name"));
        let directory = Path::new("/etc/jail.conf.d");
        let of = |list: &str, main: &str| boot(&names, list, main, directory);
        let include = "exec.clean;\n.include \"/etc/jail.conf.d/*.conf\";\n";
        assert_eq!(of("", include).level, Level::Ok);
        let indented = "\t.include '/etc/jail.conf.d/*.conf' ;";
        assert_eq!(of("", indented).level, Level::Ok);
        assert_eq!(of("db web other", "").level, Level::Ok);
        assert_eq!(boot(&[], "", "", directory).level, Level::Ok);

        let none = of("", "# .include \"/etc/jail.conf.d/*.conf\";\n");
        assert_eq!(none.level, Level::Warning);
        assert!(none.hint.is_some_and(|hint| hint.ends_with("/*.conf\";")));
        let some = of("db", include);
        assert_eq!(some.level, Level::Warning);
        assert_eq!(some.hint.as_deref(), Some("sysrc jail_list+=\" web\""));
    }
}
