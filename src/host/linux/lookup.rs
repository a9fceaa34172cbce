//! Whether a running jail has a command, before crun is asked to run it: crun up to 1.16 prints its own
//! words on the command's standard error, where nothing tells the two apart.
//!
//! It is a look through the jail's root, in the jail's mounts, and no promise: crun decides.

use std::path::Path;

use super::inside::{Inside, Kind};

/// Why a command cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoCommand {
    /// It is not there.
    Missing(String),
    /// It is there, and cannot be executed.
    Unfit(String),
}

/// Looks a command up as execvp(3) does. An error of the look itself is no reason not to try.
///
/// # Errors
/// [`NoCommand`].
pub(super) fn look(
    inside: &Inside,
    word: &str,
    directory: &Path,
    path: &str,
) -> Result<(), NoCommand> {
    let at = |file: &str| inside.kind(file).ok();
    let shown = directory.display();
    let there = directory.to_str().and_then(at);
    match there {
        Some(Kind::Missing) => {
            return Err(NoCommand::Unfit(format!("there is no directory {shown}")));
        }
        Some(Kind::Program | Kind::Other) => {
            return Err(NoCommand::Unfit(format!("{shown} is no directory")));
        }
        Some(Kind::Directory) | None => {}
    }
    if word.contains('/') {
        let file = directory.join(word);
        return match file.to_str().and_then(at) {
            Some(Kind::Missing) => Err(NoCommand::Missing("there is no such file".to_owned())),
            Some(Kind::Directory) => Err(NoCommand::Unfit("it is a directory".to_owned())),
            Some(Kind::Other) => Err(NoCommand::Unfit("it is not executable".to_owned())),
            Some(Kind::Program) | None => Ok(()),
        };
    }
    let mut unfit = false;
    for place in path.split(':') {
        match directory.join(place).join(word).to_str().and_then(at) {
            Some(Kind::Program) | None => return Ok(()),
            Some(Kind::Other) => unfit = true,
            Some(Kind::Missing | Kind::Directory) => {}
        }
    }
    Err(match unfit {
        true => NoCommand::Unfit("it is not executable".to_owned()),
        false => NoCommand::Missing(format!("it is in none of {path}")),
    })
}

/// Why a program with file capabilities does not start where one of them is in no bounding set (execve(2)).
const CAPABILITIES: &str = "its file has capabilities that no jail has (`getcap` shows them)";

/// What crun's own words mean: those of execvp(3).
pub(super) fn meaning(why: &str) -> Option<NoCommand> {
    let has = |words: &str| why.contains(words);
    if has("not found in $PATH") || has("exec") && has("No such file or directory") {
        return Some(NoCommand::Missing(why.to_owned()));
    }
    if has("exec") && has("Operation not permitted") {
        return Some(NoCommand::Unfit(format!("{why}: {CAPABILITIES}")));
    }
    let unfit = ["Permission denied", "Exec format error", "Text file busy"];
    let about = has("exec") || has("open executable") || has("chdir");
    (about && unfit.iter().any(|words| has(words))).then(|| NoCommand::Unfit(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_command_is_looked_up_as_a_shell_does() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| root.path().join(name);
        for directory in ["bin", "sbin", "work"] {
            std::fs::create_dir(at(directory)).expect("created");
        }
        for (file, mode) in [("bin/ls", 0o755), ("sbin/data", 0o644), ("work/run", 0o755)] {
            std::fs::write(at(file), "").expect("written");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(at(file), mode).expect("set");
        }
        symlink("/bin/ls", at("sbin/list")).expect("linked");
        symlink("/bin/sh", at("sbin/sh")).expect("linked");
        let inside = Inside::open(root.path()).expect("opened");
        let look = |word: &str, directory: &str| {
            super::look(&inside, word, Path::new(directory), "/sbin:/bin")
        };
        for good in ["ls", "list", "/bin/ls", "bin/ls", "work/../bin/ls"] {
            assert_eq!(look(good, "/"), Ok(()), "{good}");
        }
        assert_eq!(look("./run", "/work"), Ok(()));
        // Not the host's own file.
        for missing in ["nosuch", "sh", "/bin/nosuch", "run", ""] {
            let found = look(missing, "/");
            assert!(matches!(found, Err(NoCommand::Missing(_))), "{found:?}");
        }
        for (unfit, directory) in [
            ("data", "/"),
            ("/bin", "/"),
            ("ls", "/none"),
            ("ls", "/bin/ls"),
        ] {
            let found = look(unfit, directory);
            assert!(matches!(found, Err(NoCommand::Unfit(_))), "{found:?}");
        }
    }

    #[test]
    fn the_runtimes_words_are_told_apart() {
        let missing = [
            "executable file `x` not found in $PATH: No such file or directory",
            "exec /x: No such file or directory",
        ];
        for why in missing {
            assert!(matches!(meaning(why), Some(NoCommand::Missing(_))), "{why}");
        }
        for why in [
            "exec /x: Exec format error",
            "open executable: Permission denied",
            "exec: Operation not permitted",
        ] {
            assert!(matches!(meaning(why), Some(NoCommand::Unfit(_))), "{why}");
        }
        assert_eq!(meaning("setns(pid=7): Permission denied"), None);
        assert_eq!(meaning("setns(pid=7): Operation not permitted"), None);
    }
}
