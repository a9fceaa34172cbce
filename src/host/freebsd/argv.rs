//! The exact arguments of the programs that ezz runs. This module is pure.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::name::JailName;
use crate::ports::ExecRequest;

/// Returns the arguments by which jail(8) starts a jail. It gets the file by `-f`; rc.d/jail is not used, because it
/// exits with 0 when a start has failed.
pub fn create(conf: &Path, name: &JailName) -> Vec<OsString> {
    words([
        OsStr::new("-f"),
        conf.as_os_str(),
        "-c".as_ref(),
        name.as_str().as_ref(),
    ])
}

/// Returns the arguments by which jail(8) stops a jail, with exec.stop and all unmounts of its file.
pub fn remove(conf: &Path, name: &JailName) -> Vec<OsString> {
    words([
        OsStr::new("-f"),
        conf.as_os_str(),
        "-r".as_ref(),
        name.as_str().as_ref(),
    ])
}

/// Returns the arguments by which jail(8) ends a jail without its file: it kills the processes, and unmounts nothing.
pub fn remove_without_conf(jid: u32) -> Vec<OsString> {
    words(["-R".to_owned(), jid.to_string()])
}

/// Returns the arguments by which jail(8) creates a jail for the world of a staged generation. It has the host's
/// network, and exists until it is removed. No file describes it, so nothing starts it at boot.
pub fn create_stage(name: &str, root: &Path) -> Vec<OsString> {
    let mut path = OsString::from("path=");
    path.push(root);
    let mut argv = words(["-c", &format!("name={name}")]);
    argv.push(path);
    argv.extend(words([
        &format!("host.hostname={name}"),
        "ip4=inherit",
        "ip6=inherit",
        "mount.devfs",
        "devfs_ruleset=4",
        "enforce_statfs=2",
        "persist",
    ]));
    argv
}

/// Returns the arguments by which jexec(8) runs a command of the profile, as jail(8) would run exec.stop.
pub fn shutdown(jid: u32, command: &str) -> Vec<OsString> {
    let jid = jid.to_string();
    words(["-l", &jid, "/bin/sh", "-c", command])
}

/// The shell replaces itself with the command in its arguments.
const EXECUTE: &str = r#"exec "$@""#;
/// The same in a directory, which is the first argument. If the jail does not have the directory, the command could not
/// be executed, as on Linux.
const IN_DIRECTORY: &str = r#"cd -- "$1" || exit 126; shift; exec "$@""#;

/// Returns the arguments by which jexec(8) runs a command of the user. The jail is given by its jid, because another
/// jail may have the name by then.
///
/// The jail's own programs set the variables and the directory, because jexec has options for neither in every release.
/// The jail's sh(1) executes the command: it exits with 127 if the command does not exist and with 126 if it cannot be
/// executed (bin/sh/exec.c). jexec(8) would exit with 1, as the command itself may. ezz does not look at the files
/// beforehand, because they may change before the command runs.
pub fn run(jid: u32, request: &ExecRequest, console: &[String]) -> Vec<OsString> {
    let mut argv = words(["-l"]);
    if let Some(user) = &request.user {
        argv.extend(words(["-U", user]));
    }
    argv.push(jid.to_string().into());
    if !request.environment.is_empty() {
        argv.push("/usr/bin/env".into());
        argv.extend(words(&request.environment));
    }
    if request.command.is_empty() {
        argv.extend(words(console));
        return argv;
    }
    if let Some(directory) = &request.directory {
        argv.extend(words(["/bin/sh", "-c", IN_DIRECTORY, "sh"]));
        argv.push(directory.into());
    } else {
        argv.extend(words(["/bin/sh", "-c", EXECUTE, "sh"]));
    }
    argv.extend(words(&request.command));
    argv
}

/// Returns the arguments by which script(1) gives a command a terminal of its own. If the caller's terminal were its
/// controlling terminal, a program in the jail could type into the host's shell (TIOCSTI, tty(4)). `-w` passes on
/// changes of the window's size. script(1) exits with the command's status, or with the bare number of the signal that
/// ended it.
pub fn in_terminal(program: &Path, argv: Vec<OsString>) -> Vec<OsString> {
    let mut out = words(["-q", "-w", "-t", "0", "/dev/null"]);
    out.push(program.into());
    out.extend(argv);
    out
}

fn words<T: AsRef<OsStr>>(words: impl IntoIterator<Item = T>) -> Vec<OsString> {
    words
        .into_iter()
        .map(|word| word.as_ref().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(argv: &[OsString]) -> Vec<&str> {
        argv.iter()
            .map(|word| word.to_str().expect("text"))
            .collect()
    }

    #[test]
    fn start_and_stop_name_the_file() {
        let web = JailName::parse("web").expect("a name");
        let conf = Path::new("/etc/jail.conf.d/web.conf");
        assert_eq!(
            text(&create(conf, &web)),
            ["-f", "/etc/jail.conf.d/web.conf", "-c", "web"]
        );
        assert_eq!(
            text(&remove(conf, &web)),
            ["-f", "/etc/jail.conf.d/web.conf", "-r", "web"]
        );
        assert_eq!(text(&remove_without_conf(7)), ["-R", "7"]);
        assert_eq!(
            text(&shutdown(7, "/bin/sh /etc/rc.shutdown jail")),
            ["-l", "7", "/bin/sh", "-c", "/bin/sh /etc/rc.shutdown jail"]
        );
    }

    #[test]
    fn a_stage_is_a_jail_without_a_file() {
        assert_eq!(
            text(&create_stage(
                "ezz_0f0e_7",
                Path::new("/usr/jails/basejail/7")
            )),
            [
                "-c",
                "name=ezz_0f0e_7",
                "path=/usr/jails/basejail/7",
                "host.hostname=ezz_0f0e_7",
                "ip4=inherit",
                "ip6=inherit",
                "mount.devfs",
                "devfs_ruleset=4",
                "enforce_statfs=2",
                "persist"
            ]
        );
    }

    #[test]
    fn the_console_is_the_profiles() {
        let console = ["/usr/bin/login", "-f", "root"].map(str::to_owned);
        assert_eq!(
            text(&run(7, &ExecRequest::default(), &console)),
            ["-l", "7", "/usr/bin/login", "-f", "root"]
        );
    }

    #[test]
    fn a_command_is_executed_by_sh() {
        let request = ExecRequest {
            command: ["a=b", "-x"].map(str::to_owned).to_vec(),
            ..ExecRequest::default()
        };
        assert_eq!(
            text(&run(7, &request, &[])),
            ["-l", "7", "/bin/sh", "-c", "exec \"$@\"", "sh", "a=b", "-x"]
        );
    }

    #[test]
    fn a_command_with_everything() {
        let request = ExecRequest {
            command: ["ls", "-l", "a b"].map(str::to_owned).to_vec(),
            user: Some("www".to_owned()),
            directory: Some("/srv/x y".into()),
            environment: vec!["A=1 2".to_owned()],
            terminal: false,
        };
        assert_eq!(
            text(&run(7, &request, &[])),
            [
                "-l",
                "-U",
                "www",
                "7",
                "/usr/bin/env",
                "A=1 2",
                "/bin/sh",
                "-c",
                "cd -- \"$1\" || exit 126; shift; exec \"$@\"",
                "sh",
                "/srv/x y",
                "ls",
                "-l",
                "a b"
            ]
        );
        assert_eq!(
            text(&in_terminal(
                Path::new("/usr/sbin/jexec"),
                words(["-l", "7"])
            )),
            [
                "-q",
                "-w",
                "-t",
                "0",
                "/dev/null",
                "/usr/sbin/jexec",
                "-l",
                "7"
            ]
        );
    }
}
