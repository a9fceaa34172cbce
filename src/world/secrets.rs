//! Finds secrets in the private part of a world, which every jail that is made from it would share.
//!
//! It finds private keys and usable password hashes by their content, and the files that the profile lists by their
//! name. Only the private part is examined: the test keys that distributions ship in `usr/share` are not secrets.
//! This module must not decide what to do: an install stops unless secrets are allowed.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::FileType;

use super::error::WorldError;
use super::input::Digest;
use super::progress::{Context, Phase};
use super::walk::{Node, Visit, walk};
use crate::profile::{Profile, RelPath};

/// The largest file that is searched for keys, which are small.
const SIZE_MAX: u64 = 256 << 10;

/// The largest password file that is searched.
const SHADOW_MAX: u64 = 16 << 20;

/// The kind of secret that a finding looks like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A private key in the armour of PEM, OpenSSH or PGP.
    PrivateKey,
    /// A password that can be used to log in.
    Password {
        /// The account that has the password.
        account: String,
    },
    /// A file that holds credentials according to the profile.
    Credentials,
}

/// Something that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file that holds the secret.
    pub path: RelPath,
    /// The kind of secret.
    pub kind: FindingKind,
    /// The digest of the file, or of the hash of the password. It distinguishes this secret from another one in its
    /// place. It must not be stored where others can read it, because a short secret can be found from its digest.
    pub digest: Digest,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FindingKind::PrivateKey => write!(f, "{}: a private key", self.path),
            FindingKind::Password { account } => {
                write!(f, "{}: a password of {account}", self.path)
            }
            FindingKind::Credentials => write!(f, "{}: credentials", self.path),
        }
    }
}

/// Looks for secrets in the private part of a world, after [`super::scrub`].
///
/// # Errors
/// The system refuses an operation.
pub fn find_secrets(
    root: &Path,
    profile: &Profile,
    context: &Context<'_>,
) -> Result<Vec<Finding>, WorldError> {
    let _phase = Phase::start(context, "look for secrets", None);
    let mut findings = Vec::new();
    walk(root, &context.cancel, &mut |node| match node.kind() {
        FileType::Directory if profile.shared.contains(node.path) => Ok(Visit::Skip),
        FileType::RegularFile => {
            look(node, profile, &mut findings, context)?;
            Ok(Visit::Enter)
        }
        _ => Ok(Visit::Enter),
    })?;
    Ok(findings)
}

fn look(
    node: &Node<'_>,
    profile: &Profile,
    findings: &mut Vec<Finding>,
    context: &Context<'_>,
) -> Result<(), WorldError> {
    let path = node.path;
    let size = node.stat.st_size as u64;
    if size == 0
        || profile
            .secrets
            .allow
            .iter()
            .any(|pattern| pattern.matches(path))
    {
        return Ok(());
    }
    if profile
        .secrets
        .paths
        .iter()
        .any(|pattern| pattern.matches(path))
    {
        let digest = Digest::of_reader(&mut context.cancel.reader(node.open()?));
        findings.push(Finding {
            path: path.clone(),
            kind: FindingKind::Credentials,
            digest: digest.map_err(|e| WorldError::unwrap_io(e, |e| node.error("read", e)))?,
        });
        return Ok(());
    }
    let shadow = profile.secrets.shadow.contains(path);
    if size > SIZE_MAX && !shadow {
        return Ok(());
    }
    if shadow && size > SHADOW_MAX {
        // A world that hides a password behind so much data is refused.
        return Err(node.error("look for passwords in", io::ErrorKind::FileTooLarge));
    }
    let mut content = Vec::new();
    node.open()?
        .take(SHADOW_MAX)
        .read_to_end(&mut content)
        .map_err(|e| node.error("read", e))?;
    if shadow {
        for (account, hash) in passwords(&content) {
            findings.push(Finding {
                path: path.clone(),
                kind: FindingKind::Password { account },
                digest: Digest::of(hash),
            });
        }
    } else if holds_private_key(&content) {
        findings.push(Finding {
            path: path.clone(),
            kind: FindingKind::PrivateKey,
            digest: Digest::of(&content),
        });
    }
    Ok(())
}

/// Returns the accounts of a password file whose second field is a hash. An empty field (as FreeBSD ships root) is not
/// a hash, and a field that begins with `*` or `!` is locked.
fn passwords(content: &[u8]) -> Vec<(String, &[u8])> {
    content
        .split(|b| *b == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .filter_map(|line| {
            let mut fields = line.split(|b| *b == b':');
            let (account, hash) = (fields.next()?, fields.next()?);
            let works = !matches!(hash, [] | [b'*' | b'!', ..] | b"x");
            works.then(|| (account.escape_ascii().to_string(), hash))
        })
        .collect()
}

/// Whether a line opens the armour of a private key: `-----BEGIN … PRIVATE KEY-----`, or that of PGP with ` BLOCK`. It
/// must be a whole line, so that programs and manuals that only mention it are not findings.
fn holds_private_key(content: &[u8]) -> bool {
    content.split(|b| *b == b'\n').any(|line| {
        let line = line.trim_ascii();
        line.strip_prefix(b"-----BEGIN ")
            .and_then(|rest| rest.strip_suffix(b"-----"))
            .is_some_and(|label| {
                label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK")
            })
    })
}

#[cfg(test)]
mod tests {
    use super::{holds_private_key, passwords};

    #[test]
    fn hashes_that_work() {
        let shadow =
            b"root:*:1:0\ndaemon:!:1\njoe:$y$j9T$abc:1\n#x:$6$1:\nnopw::1\nold:ab12cd34ef56g:1\n";
        let found = |text| passwords(text).into_iter().map(|(account, _)| account);
        assert!(found(shadow).eq(["joe", "old"]));
        assert_eq!(passwords(shadow)[0].1, b"$y$j9T$abc");
        assert_eq!(found(b"root:!$6$locked:1:\nx:x:1\n").count(), 0);
    }

    #[test]
    fn armour_must_be_a_line() {
        let begin = ["-----BEGIN ", "OPENSSH PRIVATE ", "KEY-----"].concat();
        assert!(holds_private_key(format!("{begin}\nAAAA\n").as_bytes()));
        assert!(holds_private_key(
            format!("# mine\r\n  {begin}\r\n").as_bytes()
        ));
        assert!(!holds_private_key(
            format!("grep '{begin}' file\n").as_bytes()
        ));
        assert!(!holds_private_key(b"-----BEGIN CERTIFICATE-----\n"));
        assert!(!holds_private_key(b"-----BEGIN PUBLIC KEY-----\n"));
    }
}
