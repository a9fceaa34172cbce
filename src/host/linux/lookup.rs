//! Checks that a running jail has a command that the kernel can execute, before crun runs it. crun before 1.17 prints
//! its own errors on the command's standard error, where they cannot be distinguished from the command's output.
//!
//! The check looks through the jail's root, in the jail's mounts. It is no guarantee: crun decides.

use std::fs;
use std::path::Path;

use super::inside::{Inside, Kind};

/// The bytes of a program that the kernel reads to determine its format (`BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;

/// The size of the header of the smallest ELF file, one of 32 bits (elf(5)).
const ELF: usize = 52;

/// The directory of formats that the host's administrator has added (binfmt_misc).
const ADDED: &str = "/proc/sys/fs/binfmt_misc";

/// Why a command cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoCommand {
    /// The command does not exist.
    Missing(String),
    /// The command exists, but cannot be executed.
    Unfit(String),
}

/// Looks up a command as execvp(3) does. If the look itself fails, that is no reason not to try the command.
///
/// # Errors
/// Returns [`NoCommand`] if the command does not exist or cannot be executed.
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
            Some(Kind::Program) => runs(inside, &file, directory),
            None => Ok(()),
        };
    }
    let mut unfit = false;
    for place in path.split(':') {
        let file = directory.join(place).join(word);
        match file.to_str().and_then(at) {
            Some(Kind::Program) => return runs(inside, &file, directory),
            None => return Ok(()),
            Some(Kind::Other) => unfit = true,
            Some(Kind::Missing | Kind::Directory) => {}
        }
    }
    Err(match unfit {
        true => NoCommand::Unfit("it is not executable".to_owned()),
        false => NoCommand::Missing(format!("it is in none of {path}")),
    })
}

/// Why a program with file capabilities does not start if one of them is not in the bounding set (execve(2)).
const CAPABILITIES: &str = "its file has capabilities that no jail has (`getcap` shows them)";
/// Checks that the kernel knows the format of a program, and that the interpreter of a script exists (execve(2)).
fn runs(inside: &Inside, file: &Path, directory: &Path) -> Result<(), NoCommand> {
    let Some(Ok(head)) = file.to_str().map(|file| inside.head(file, HEAD)) else {
        return Ok(());
    };
    let kind = |path: &Path| path.to_str().and_then(|path| inside.kind(path).ok());
    match Format::of(&head) {
        Format::Elf => Ok(()),
        Format::Script(interpreter) => match kind(&directory.join(&interpreter)) {
            Some(Kind::Missing) => Err(NoCommand::Missing(format!(
                "there is no {interpreter}, the interpreter that its first line names"
            ))),
            Some(Kind::Directory | Kind::Other) => Err(NoCommand::Unfit(format!(
                "{interpreter}, the interpreter that its first line names, is not executable"
            ))),
            Some(Kind::Program) | None => Ok(()),
        },
        Format::Unknown if formats_were_added() => Ok(()),
        Format::Unknown => Err(NoCommand::Unfit(
            "it is neither a program that this host can execute nor a script, which begins with #!"
                .to_owned(),
        )),
    }
}

/// The format of a program, determined by its first bytes.
#[derive(Debug, PartialEq, Eq)]
enum Format {
    Elf,
    /// A script, with the path of its interpreter.
    Script(String),
    Unknown,
}

impl Format {
    fn of(head: &[u8]) -> Self {
        if head.starts_with(b"\x7fELF") && head.len() >= ELF {
            return Format::Elf;
        }
        let Some(line) = head.strip_prefix(b"#!") else {
            return Format::Unknown;
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line
            .split(|byte| matches!(byte, b' ' | b'\t' | 0))
            .filter(|word| !word.is_empty());
        match words.next() {
            Some(word) => Format::Script(String::from_utf8_lossy(word).into_owned()),
            None => Format::Unknown,
        }
    }
}

/// Reports whether the kernel may know more formats than its own. The directory has two files of the kernel's.
fn formats_were_added() -> bool {
    fs::read_dir(ADDED).is_ok_and(|found| found.count() > 2)
}

/// Returns a possible cause where crun's message has only an error number.
pub(super) fn cause(why: &str) -> Option<&'static str> {
    denied(why).then_some(CAPABILITIES)
}

fn denied(why: &str) -> bool {
    why.contains("exec") && why.contains("Operation not permitted")
}

/// Returns the meaning of crun's own messages, which are those of execvp(3).
pub(super) fn meaning(why: &str) -> Option<NoCommand> {
    let has = |words: &str| why.contains(words);
    if has("not found in $PATH") || has("exec") && has("No such file or directory") {
        return Some(NoCommand::Missing(why.to_owned()));
    }
    if denied(why) {
        return Some(NoCommand::Unfit(why.to_owned()));
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
            std::fs::write(at(file), [b"\x7fELF", &[0; 60][..]].concat()).expect("written");
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
        // The jail's file must be found, not the host's.
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
    fn a_program_is_known_by_its_first_bytes() {
        let elf = [b"\x7fELF", &[0; 60][..]].concat();
        assert_eq!(Format::of(&elf), Format::Elf);
        for odd in [&elf[..20], b"", b"echo", b"#!", b"#! \t\n/bin/sh"] {
            assert_eq!(Format::of(odd), Format::Unknown, "{odd:?}");
        }
        for line in ["#!/bin/sh", "#! /bin/sh -e\necho", "#!\t/bin/sh\n"] {
            let script = Format::Script("/bin/sh".to_owned());
            assert_eq!(Format::of(line.as_bytes()), script, "{line:?}");
        }
        let root = tempfile::tempdir().expect("a temporary directory");
        let inside = Inside::open(root.path()).expect("opened");
        for (name, text) in [
            ("lost", "#!/none\n"),
            ("data", "#!/lost\n"),
            ("dir", "#!/\n"),
        ] {
            let file = root.path().join(name);
            std::fs::write(&file, text).expect("written");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&file, mode).expect("set");
        }
        let look = |word: &str| super::look(&inside, word, Path::new("/"), "/");
        assert!(matches!(look("lost"), Err(NoCommand::Missing(why)) if why.contains("/none")));
        assert_eq!(look("data"), Ok(()));
        assert!(matches!(look("/dir"), Err(NoCommand::Unfit(_))));
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
