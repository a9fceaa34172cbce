//! The exact arguments of the programs that are run. Pure.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::name::JailName;
use crate::ports::ExecRequest;

/// jail(8): start. `-f` and not rc.d/jail, which exits 0 when a start failed.
pub fn create(conf: &Path, name: &JailName) -> Vec<OsString> {
    words([
        OsStr::new("-f"),
        conf.as_os_str(),
        "-c".as_ref(),
        name.as_str().as_ref(),
    ])
}

/// jail(8): stop, with exec.stop and all unmounts of the file.
pub fn remove(conf: &Path, name: &JailName) -> Vec<OsString> {
    words([
        OsStr::new("-f"),
        conf.as_os_str(),
        "-r".as_ref(),
        name.as_str().as_ref(),
    ])
}

/// jail(8): end a jail without its file: its processes are killed, nothing is unmounted.
pub fn remove_without_conf(jid: u32) -> Vec<OsString> {
    words(["-R".to_owned(), jid.to_string()])
}

/// jail(8): a jail for the world of a generation that is being built, with the host's network, that lives
/// until it is removed. No file says it: it is nobody's to start at boot.
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

/// jexec(8): a command of the profile, as jail(8) would run exec.stop.
pub fn shutdown(jid: u32, command: &str) -> Vec<OsString> {
    let jid = jid.to_string();
    words(["-l", &jid, "/bin/sh", "-c", command])
}

/// sh(1) becomes the command that its arguments are.
const EXECUTE: &str = r#"exec "$@""#;
/// The same, in the directory that comes first. One that the jail does not have is the command's failure to be
/// executed, as on Linux.
const IN_DIRECTORY: &str = r#"cd -- "$1" || exit 126; shift; exec "$@""#;

/// jexec(8): a command of the user. By jid: the name may be that of another jail by then.
///
/// Variables and the directory are set inside, by the jail's own programs: jexec has options for
/// neither in every release. The jail's sh(1) executes the command: it exits with 127 if the command is not
/// there and with 126 if it cannot be executed (bin/sh/exec.c), where jexec(8) exits with 1 as the command
/// may. A look at the files beforehand could not tell these apart: they may change meanwhile.
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

/// script(1): a terminal of its own for a command. With the caller's own terminal as its
/// controlling one, a program in the jail could type into the host's shell (TIOCSTI, tty(4)).
/// `-w` passes changes of the window's size on. script(1) exits with the command's status, or with
/// the bare number of the signal that ended it.
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
