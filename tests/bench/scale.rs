//! Sites with many jails: the cost of `list`, `show`, `doctor`, `create` and `delete`.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::guest::{ORIGIN, SITE, ezz, run, sh, timed_sh};
use crate::{Failure, Measured};

/// The properties that `list` reads of each jail, so that `zfs get` reads the same.
const PROPERTIES: &str =
    "ezz:jail,ezz:merging,quota,zoned,guid,mountpoint,referenced,used,written,userrefs,type,origin";

/// Measures with 100 jails, 1000 and so on, up to `most`.
pub fn measure(measured: &mut Measured, most: usize, rounds: usize) -> Result<(), Failure> {
    single(measured, 0, rounds)?;
    let mut have = 0;
    let mut target = 100;
    while target <= most {
        while have < target {
            let next = (have + 1000).min(target);
            run(&format!("create 'j{{{}..{next}}}'", have + 1))?;
            have = next;
        }
        let get = format!(
            "zfs get -Hp -t filesystem -d 1 -o name,property,value,source {PROPERTIES} {SITE}/jails >/dev/null"
        );
        for _ in 0..rounds {
            measured.add(format!("list of {target}: zfs get"), timed_sh(&get)?);
            measured.add(
                format!("list of {target}: ezz list"),
                timed_sh("$EZZ list >/dev/null")?,
            );
        }
        single(measured, target, rounds)?;
        for (name, line) in [
            ("list", "list"),
            ("doctor", "doctor"),
            ("show", "show j1"),
            ("create", "create x"),
        ] {
            measured.add(
                format!("memory with {target}, KiB: ezz {name}"),
                peak(line)?,
            );
        }
        run("delete --yes x")?;
        measured.add(
            format!("doctor of {target}"),
            timed_sh("$EZZ doctor >/dev/null || true")?,
        );
        target = if target < most && target * 10 > most {
            most
        } else {
            target * 10
        };
    }
    for target in [100, 1000, most] {
        let first = have - target.min(have) + 1;
        if have == 0 {
            break;
        }
        let took = timed_sh(&format!(
            "$EZZ -q delete --yes --names-from <(seq -f j%.0f {first} {have})"
        ))?;
        measured.add(format!("delete of {}", have - first + 1), took);
        have = first - 1;
    }
    Ok(())
}

/// Measures one more jail on a site with this many.
fn single(measured: &mut Measured, with: usize, rounds: usize) -> Result<(), Failure> {
    for _ in 0..rounds {
        measured.add(
            format!("one more with {with}: ezz create"),
            timed_sh("$EZZ -q create y")?,
        );
        run("delete --yes y")?;
        let clone = format!("zfs clone -o mountpoint=none {ORIGIN} {SITE}-y");
        measured.add(
            format!("one more with {with}: zfs clone"),
            timed_sh(&clone)?,
        );
        sh(&format!("zfs destroy {SITE}-y"))?;
        measured.add(
            format!("show with {with}"),
            timed_sh("$EZZ show >/dev/null")?,
        );
    }
    Ok(())
}

/// Returns the peak memory of a command, in KiB.
fn peak(line: &str) -> Result<f64, Failure> {
    let mut child = Command::new(ezz())
        .args(line.split(' '))
        .env("EZZ_SITE", SITE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut peak = 0.0_f64;
    while child.try_wait()?.is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let found = status.ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        });
        // The last value counts: before the child executes ezz, it has the memory of this program.
        peak = found.unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(peak)
}
