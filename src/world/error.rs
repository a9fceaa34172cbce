//! What can go wrong with a world, each with the object it went wrong on, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::look::{CONTAINER_IMAGE, PACKAGES};
use super::numbers::Kind;
use crate::hint::{self, Hint};
use crate::profile::{Os, RelPath, RelPathError};

/// Where an archive is cut that ends between two entries, without an end mark.
pub(super) const NO_END: &str = "the archive, before its end mark";

/// A world that cannot be taken, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The work was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The process that compares texts could not be started, or could not give up its rights.
    #[error("cannot compare texts: {0}")]
    Worker(String),
    /// The system refused something.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The input is something else than an archive.
    #[error("{origin} is not a world archive: it looks like {found}")]
    NotAnArchive {
        /// The source.
        origin: String,
        /// What it looks like.
        found: &'static str,
    },
    /// The archive ends too early.
    #[error(
        "{origin} is truncated: it ends at byte {offset} of the {layer}, in the middle of {within}"
    )]
    Truncated {
        /// The source.
        origin: String,
        /// Where it ends.
        offset: u64,
        /// Which bytes were counted: those of the input, or of the archive inside.
        layer: &'static str,
        /// What is cut.
        within: &'static str,
    },
    /// There is something behind the end of the archive.
    #[error("{origin} has data after its end, at byte {offset} of the {layer}")]
    Trailing {
        /// The source.
        origin: String,
        /// Where it begins.
        offset: u64,
        /// Which bytes were counted.
        layer: &'static str,
    },
    /// The compressed data are damaged, or made in a way that is not supported.
    #[error("cannot decompress {origin} ({format}), near byte {offset} of the input")]
    Decompress {
        /// The source.
        origin: String,
        /// `gzip`, `xz` or `zstd`.
        format: &'static str,
        /// About where.
        offset: u64,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The archive has an entry that cannot be read.
    #[error("{origin} is damaged at byte {offset} of the archive: {problem}")]
    Malformed {
        /// The source.
        origin: String,
        /// Where the header begins.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The archive has an entry that is not taken.
    #[error("cannot unpack the entry {name} (at byte {offset} of the archive)")]
    Entry {
        /// Its name, odd bytes escaped.
        name: String,
        /// Where its header begins.
        offset: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// The digest is another than was asked for.
    #[error("the SHA-256 of {origin} is {found}, not {expected}")]
    Digest {
        /// The source.
        origin: String,
        /// What was asked for.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A directory was given, and a digest for it.
    #[error("{} is a directory: it has no SHA-256", path.display())]
    DigestOfDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// No profile knows it.
    #[error("it is not a world of a known profile ({known}){}", found.as_ref().map(|it| format!(": {it}")).unwrap_or_default())]
    Unknown {
        /// The profiles that were tried.
        known: String,
        /// What it is, as far as that can be told.
        found: Option<Resemblance>,
    },
    /// No profile knows what has come of it so far.
    #[error("{origin} does not contain a world of a known profile ({known}) in its first {looked}")]
    NotSoFar {
        /// The source.
        origin: String,
        /// The profiles that were tried.
        known: String,
        /// How much was looked at.
        looked: String,
    },
    /// It is larger than it may be.
    #[error("{origin} unpacks to more than {most} bytes")]
    TooLarge {
        /// The source.
        origin: String,
        /// The limit.
        most: u64,
    },
    /// A path that the kernel of its system does not take.
    #[error("the path {path} is longer than the {most} bytes that {os} takes")]
    PathTooLong {
        /// The path.
        path: RelPath,
        /// The limit.
        most: usize,
        /// The system.
        os: Os,
    },
    /// Files that belong to ids that no jail has.
    #[error("{count} files have owners above {most}, which do not exist in jails: {}", list.join(", "))]
    Owners {
        /// How many.
        count: u64,
        /// The first of them, with their owners.
        list: Vec<String>,
        /// The last id of a jail.
        most: u32,
    },
    /// The file that tells the version does not.
    #[error("cannot read the version of the {profile} world in {}: {problem}", path.display())]
    Label {
        /// The profile.
        profile: String,
        /// The root.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The world has a file where ezz must put something.
    #[error("the world has a {path} of its own")]
    Occupied {
        /// What is in the way.
        path: RelPath,
    },
    /// A path that must be a directory of the tree is a link or something else.
    #[error("{path} is not a directory below {}", root.display())]
    NotADirectory {
        /// The path.
        path: RelPath,
        /// The root.
        root: PathBuf,
    },
    /// A name that no kernel would take, or a tree that is too deep.
    #[error("cannot use the name {name} in {}", dir.display())]
    Name {
        /// The name, odd bytes escaped.
        name: String,
        /// Where it was found.
        dir: PathBuf,
        /// Why.
        #[source]
        source: RelPathError,
    },
    /// A manifest that says nothing sensible.
    #[error("the manifest is damaged in line {line}: {problem}")]
    Manifest {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A ledger of accounts that says nothing sensible.
    #[error("the ledger of accounts is damaged in line {line}: {problem}")]
    Ledger {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Another world was sealed while this one was staged.
    #[error(
        "{generation} was sealed in the meantime, and its {kind} {name} or that number differs from this world"
    )]
    Meanwhile {
        /// The other.
        generation: String,
        /// A user or a group.
        kind: Kind,
        /// Its name there.
        name: String,
    },
    /// There are more accounts than numbers.
    #[error("no number is free for a new {kind}: the worlds of this site use all up to 65533")]
    NumbersUsedUp {
        /// A user or a group.
        kind: Kind,
    },
    /// A file whose owner or group is 4294967295, which chown(2) takes for "leave it as it is".
    #[error("cannot give {path} the owner {uid}:{gid}: ids are 0 to 4294967294")]
    Owner {
        /// The file.
        path: RelPath,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A file system that cannot hold an attribute.
    #[error("cannot set {attribute} of {path}")]
    Attribute {
        /// The attribute.
        attribute: String,
        /// The file.
        path: RelPath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why an entry of an archive is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Its name is absolute, leads out, or is no name.
    #[error("its name is not a path below the root: {0}")]
    Name(RelPathError),
    /// The target of a hard link is absolute, leads out, or is no name.
    #[error("it is a hard link to {target}, which is not a path below the root: {problem}")]
    HardLinkName {
        /// The target.
        target: String,
        /// Why.
        problem: RelPathError,
    },
    /// A directory on its way is a link.
    #[error("it leads through the link {0}")]
    ThroughLink(RelPath),
    /// A directory on its way is a file.
    #[error("it leads through {0}, which is not a directory")]
    ThroughFile(RelPath),
    /// Something else would take the place of a directory.
    #[error("it would replace a directory")]
    ReplacesDirectory,
    /// The root can only be a directory.
    #[error("it would replace the root")]
    ReplacesRoot,
    /// The target of a hard link is not there.
    #[error("it is a hard link to {0}, which does not precede it in the archive")]
    MissingTarget(RelPath),
    /// The target of a hard link is a directory.
    #[error("it is a hard link to {0}, which is a directory")]
    DirectoryTarget(RelPath),
    /// A hard link to itself.
    #[error("it is a hard link to itself")]
    SelfLink,
    /// A symbolic link without a target, or with one that is too long or has a NUL byte.
    #[error("it is a link with an unusable target")]
    LinkTarget,
    /// ZFS shows its snapshots there.
    #[error("it is in .zfs, which is ZFS's own directory")]
    OfZfs,
    /// A kind of entry that ezz does not know.
    #[error("it is of the unknown type {0}")]
    UnknownType(String),
    /// It has a name without a number, which the world's account files do not know.
    #[error("its access control list names {0}, which is not an account of the world")]
    AclName(String),
    /// An owner that no file can have: chown(2) takes the last number for "leave it as it is", so that the file
    /// would be root's.
    #[error("its {what} is {id}, and ids are 0 to 4294967294")]
    Owner {
        /// `owner` or `group`.
        what: &'static str,
        /// The number.
        id: u64,
    },
    /// Cannot be understood.
    #[error("its {what} cannot be understood: {value}")]
    Field {
        /// Which field.
        what: &'static str,
        /// What it says, odd bytes escaped.
        value: String,
    },
}

/// What a directory that is no world of a known profile looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Resemblance {
    /// A directory in it is one.
    #[error("its directory {dir} is one ({profile})")]
    Below {
        /// Which directory.
        dir: RelPath,
        /// Of which profile.
        profile: String,
    },
    /// Another system.
    #[error("its os-release says that it is {0}")]
    Other(String),
}

impl WorldError {
    /// Shorthand for what the system refused.
    pub(super) fn io(
        op: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> WorldError {
        WorldError::Io {
            op,
            path: path.into(),
            source: source.into(),
        }
    }

    /// Whether a file became another while it was looked at, as a running jail may change it.
    pub(super) fn is_of_a_change(&self) -> bool {
        use rustix::io::Errno;
        match self {
            WorldError::NotADirectory { .. } => true,
            WorldError::Io { source, .. } => matches!(
                Errno::from_io_error(source),
                Some(
                    Errno::STALE
                        | Errno::NOENT
                        | Errno::NOTDIR
                        | Errno::LOOP
                        | Errno::MLINK
                        | Errno::INVAL
                        | Errno::NXIO
                )
            ),
            _ => false,
        }
    }

    /// What a reader wrapped in an [`io::Error`] comes out again; everything else is `otherwise`.
    pub(super) fn unwrap_io(
        error: io::Error,
        otherwise: impl FnOnce(io::Error) -> WorldError,
    ) -> WorldError {
        match error.downcast::<WorldError>() {
            Ok(inner) => inner,
            Err(error) => otherwise(error),
        }
    }
}

impl Hint for WorldError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            WorldError::Interrupted => "nothing was published; run the command again".to_owned(),
            WorldError::Io { source, .. } => return io_hint(source),
            WorldError::NotAnArchive { found, .. } if *found == "a web page" => {
                "the download was redirected to a page: check the address".to_owned()
            }
            WorldError::NotAnArchive { found, .. } if *found == CONTAINER_IMAGE => {
                "make a container of it, and install what `docker export CONTAINER` or `podman export CONTAINER` writes".to_owned()
            }
            WorldError::NotAnArchive { found, .. } if PACKAGES.contains(found) => {
                "a package comes into a world by its package manager: `ezz update --run apt-get install -y NAME`".to_owned()
            }
            WorldError::NotAnArchive { .. } => {
                "give a tar archive (plain, gzip, xz or zstd) or a directory".to_owned()
            }
            WorldError::Truncated { within, .. } if *within == NO_END => {
                "fetch the archive again; if its published checksum is right, --sha256 with it takes the archive without an end mark".to_owned()
            }
            WorldError::Truncated { .. } | WorldError::Decompress { .. } => {
                "fetch the archive again, and compare it with its published checksum".to_owned()
            }
            WorldError::Trailing { .. } | WorldError::Malformed { .. } => {
                "compare the archive with its published checksum".to_owned()
            }
            WorldError::Digest { .. } => {
                "do not use this archive: fetch it again from a source that you trust".to_owned()
            }
            WorldError::DigestOfDirectory { .. } => "leave --sha256 out".to_owned(),
            WorldError::Unknown {
                found: Some(Resemblance::Below { dir, .. }),
                ..
            } => format!("unpack it, and install its directory {dir}"),
            WorldError::Unknown { .. } => {
                "`mmdebstrap --variant=minbase trixie debian-13.tar` makes a Debian world; `ezz install 14.3-RELEASE` fetches a FreeBSD".to_owned()
            }
            WorldError::NotSoFar { .. } => {
                "if it is a world, name its profile with --profile".to_owned()
            }
            WorldError::TooLarge { .. } => "--max-size SIZE, such as 200G, takes more".to_owned(),
            WorldError::PathTooLong { .. } => "give it a shorter name where it comes from".to_owned(),
            WorldError::Owners { most, .. } => {
                format!("give them owners from 0 to {most} where the world comes from")
            }
            WorldError::Occupied { path } => format!("remove {path} from the world"),
            WorldError::Entry {
                source: EntryError::AclName(_),
                ..
            } => "add the account to the world, or make the archive without --acls".to_owned(),
            WorldError::Entry {
                source: EntryError::OfZfs,
                ..
            } => "make the archive without it: tar --exclude=./.zfs".to_owned(),
            WorldError::Entry {
                source: EntryError::Name(RelPathError::TooLong),
                ..
            } => "give it a shorter name where it comes from".to_owned(),
            WorldError::Entry { .. } => {
                "an honest archive has no such entry: check where it comes from".to_owned()
            }
            WorldError::Attribute { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                "the site needs xattr=sa and acltype=posix (zfs set)".to_owned()
            }
            WorldError::Attribute { source, .. } => return io_hint(source),
            WorldError::Owner { .. } => "give it another owner where it comes from".to_owned(),
            WorldError::NotADirectory { path, .. } => format!(
                "make {path} a directory in the world: a jail has something mounted there"
            ),
            WorldError::Manifest { .. } | WorldError::Ledger { .. } => {
                "`ezz world verify` shows which generation is damaged; with --repair it rolls it back".to_owned()
            }
            WorldError::Meanwhile { .. } => "run the command again".to_owned(),
            WorldError::NumbersUsedUp { .. } => {
                "install it in a site of its own: `ezz init POOL/NAME`".to_owned()
            }
            WorldError::Worker(_)
            | WorldError::Label { .. }
            | WorldError::Name { .. } => {
                return None;
            }
        };
        Some(hint)
    }
}

fn io_hint(source: &io::Error) -> Option<String> {
    if let Some(hint) = hint::damaged(source) {
        return Some(hint);
    }
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("the pool or the quota is full: see zfs list -o space".to_owned())
        }
        io::ErrorKind::PermissionDenied => Some("run it as root".to_owned()),
        io::ErrorKind::NotFound => Some("check the path".to_owned()),
        _ => None,
    }
}
