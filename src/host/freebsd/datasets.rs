//! The commands on the host for datasets that a jail administers itself (zfs-jail(8)). When the jail ends, the kernel
//! takes the datasets from it, but does not unmount what was mounted in it.
//!
//! jail(8) has `zfs.dataset` only from 15.0 on, and continues if a dataset is not marked as a jail's. Commands work the
//! same on every release.

use crate::name::{DatasetName, JailName};

const ZFS: &str = "/sbin/zfs";
const UMOUNT: &str = "/sbin/umount";

/// The parameters that a jail needs to mount the datasets, with their values. A parameter that the user gives replaces
/// them.
pub(super) const NEEDS: [(&str, Option<u32>); 3] = [
    ("allow.mount", None),
    ("allow.mount.zfs", None),
    // With a higher value a jail cannot mount anything (prison_priv_check and vfs_mount.c).
    ("enforce_statfs", Some(1)),
];

/// Returns the command that gives a dataset to a new jail. It fails if the dataset is not marked: the jail could then
/// change nothing of it (zfs_secpolicy_write_perms), and nothing would report that.
pub(super) fn give(name: &JailName, dataset: &DatasetName) -> String {
    format!(
        "test \"$({ZFS} get -H -o value jailed \"{dataset}\")\" = on || \
         {{ echo 'jailed is not on: {dataset}' >&2; exit 1; }}; {ZFS} jail {name} \"{dataset}\""
    )
}

/// Returns the command that unmounts what the jail has left mounted of a dataset, the deepest first. Otherwise it would
/// stay mounted below the jail's root, which could then not be unmounted.
///
/// The command uses umount(8), because zfs-unmount(8) skips a dataset that is a jail's, and exits with 0
/// (libzfs_changelist.c). The jail's last processes, which were just killed, may keep the dataset busy for a moment, so
/// the command tries again.
pub(super) fn take(dataset: &DatasetName) -> String {
    format!(
        "{ZFS} list -H -o mounted,name -t filesystem -r \"{dataset}\" | /usr/bin/tail -r | \
         while read -r m d; do [ \"$m\" = yes ] || continue; for n in 1 2 3 4 5; do \
         {UMOUNT} -t zfs \"$d\" && break; sleep 1; done; done; true"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::freebsd::conf::{Names, reader, render};
    use crate::host::freebsd::testing::spec;
    use crate::ports::JailSpec;

    fn block(spec: &JailSpec) -> Vec<(String, Vec<String>)> {
        let at = std::path::Path::new("/etc/jail.conf.d/web.fstab");
        let names = Names {
            fstab: at,
            console_log: at,
        };
        let made = render(spec, names).expect("it can be written");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let mut blocks = reader::read(&made.conf).expect("jail(8) could read it");
        let block = blocks.pop().expect("a jail").parameters.into_iter();
        block
            .map(|(name, values)| (text(name), values.into_iter().map(text).collect()))
            .collect()
    }

    fn values(spec: &JailSpec, name: &str) -> Vec<Vec<String>> {
        let block = block(spec).into_iter();
        block
            .filter(|(it, _)| it == name)
            .map(|(_, values)| values)
            .collect()
    }

    #[test]
    fn a_jail_is_given_datasets_and_may_mount_them() {
        let mut spec = spec("web");
        let parse = |text: &str| DatasetName::parse(text).expect("a dataset");
        spec.config.datasets = vec![parse("tank/data/web"), parse("my tank/b c")];
        let none: Vec<Vec<String>> = Vec::new();
        assert_eq!(
            values(&spec, "exec.created"),
            [[
                "test \"$(/sbin/zfs get -H -o value jailed \"tank/data/web\")\" = on || \
                 { echo 'jailed is not on: tank/data/web' >&2; exit 1; }; \
                 /sbin/zfs jail web \"tank/data/web\"",
                "test \"$(/sbin/zfs get -H -o value jailed \"my tank/b c\")\" = on || \
                 { echo 'jailed is not on: my tank/b c' >&2; exit 1; }; \
                 /sbin/zfs jail web \"my tank/b c\"",
            ]]
        );
        let after = values(&spec, "exec.poststop");
        assert_eq!(after[0].len(), 2);
        assert_eq!(
            after[0][0],
            "/sbin/zfs list -H -o mounted,name -t filesystem -r \"tank/data/web\" | /usr/bin/tail -r | \
             while read -r m d; do [ \"$m\" = yes ] || continue; for n in 1 2 3 4 5; do \
             /sbin/umount -t zfs \"$d\" && break; sleep 1; done; done; true"
        );
        assert_eq!(values(&spec, "allow.mount"), [Vec::<String>::new()]);
        assert_eq!(values(&spec, "allow.mount.zfs"), [Vec::<String>::new()]);
        assert_eq!(values(&spec, "enforce_statfs"), [["1"]]);

        // The user's parameters replace those of ezz.
        let params = ["enforce_statfs=0", "allow.mount", "exec.created=/bin/true"];
        let params = params.map(|text| text.parse().expect("a parameter"));
        spec.config.params = crate::model::Params::new(params).expect("valid");
        assert_eq!(values(&spec, "enforce_statfs"), [["0"]]);
        assert_eq!(values(&spec, "allow.mount").len(), 1);
        assert_eq!(values(&spec, "exec.created")[0].len(), 3);

        spec.config.datasets.clear();
        spec.config.params = crate::model::Params::default();
        for name in ["exec.created", "exec.poststop", "allow.mount"] {
            assert_eq!(values(&spec, name), none, "{name}");
        }
        assert_eq!(values(&spec, "enforce_statfs"), [["2"]]);
    }

    /// Runs the commands by sh(1) on this host, with a zfs and an umount that record their arguments. The umount fails
    /// once.
    #[test]
    fn the_commands_do_what_they_say() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        let (zfs, umount) = (at.join("zfs"), at.join("umount"));
        let said = at.join("said");
        let program = |path: &std::path::Path, body: &str| {
            let text = format!("#!/bin/sh\necho \"$*\" >>{}\n{body}\n", said.display());
            std::fs::write(path, text).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, mode).expect("made executable");
        };
        program(
            &umount,
            &format!("[ \"$(wc -l <{})\" -ne 2 ]", said.display()),
        );
        let stand_in = |jailed: &str| {
            let list = r"printf 'yes\ta\nno\ta/away\nyes\ta/b c\n'";
            program(
                &zfs,
                &format!("case $1 in get) echo {jailed};; list) {list};; esac"),
            );
        };
        let run = |command: String| {
            let _ = std::fs::remove_file(&said);
            let command = command.replace(ZFS, &zfs.display().to_string());
            let command = command.replace(UMOUNT, &umount.display().to_string());
            // Not every system has `tail -r`.
            let command = command.replace("/usr/bin/tail -r", "sed '1!G;h;$!d'");
            let exec = crate::exec::Exec::new("sh").expect("it is there");
            let ok = exec.args(["-c", &command]).run().is_ok();
            (ok, std::fs::read_to_string(&said).unwrap_or_default())
        };
        let name = JailName::parse("web").expect("a name");
        let dataset = DatasetName::parse("tank/b c").expect("a dataset");
        stand_in("on");
        let get = "get -H -o value jailed tank/b c\n";
        assert_eq!(
            run(give(&name, &dataset)),
            (true, format!("{get}jail web tank/b c\n"))
        );
        assert_eq!(
            run(take(&dataset)),
            (
                true,
                "list -H -o mounted,name -t filesystem -r tank/b c\n\
                 -t zfs a/b c\n-t zfs a/b c\n-t zfs a\n"
                    .to_owned()
            )
        );
        stand_in("off");
        assert_eq!(run(give(&name, &dataset)), (false, get.to_owned()));
    }
}
