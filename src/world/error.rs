//! The errors of worlds. Each names the object that it is about, and has a hint about what to do.

use std::io;
use std::path::PathBuf;

use super::look::{CONTAINER_IMAGE, PACKAGES};
use super::numbers::Kind;
use crate::hint::{self, Hint};
use crate::profile::{Os, RelPath, RelPathError};

/// The place where an archive ends that has no end mark after its last entry.
pub(super) const NO_END: &str = "the archive, before its end mark";

/// A world cannot be accepted, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The work was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The process that compares texts could not be started, or could not give up its rights.
    #[error("cannot compare texts: {0}")]
    Worker(String),
    /// The system refused an operation.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// The path that the operation was about.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The input is something else than an archive.
    #[error("{origin} is not a world archive: it looks like {found}")]
    NotAnArchive {
        /// The name of the source.
        origin: String,
        /// What the input looks like.
        found: &'static str,
    },
    /// The archive ends too early.
    #[error(
        "{origin} is truncated: it ends at byte {offset} of the {layer}, in the middle of {within}"
    )]
    Truncated {
        /// The name of the source.
        origin: String,
        /// The offset at which the archive ends.
        offset: u64,
        /// Whether the offset counts bytes of the input or of the decompressed archive.
        layer: &'static str,
        /// The part that is truncated.
        within: &'static str,
    },
    /// The archive has data after its end.
    #[error("{origin} has data after its end, at byte {offset} of the {layer}")]
    Trailing {
        /// The name of the source.
        origin: String,
        /// The offset at which the data begin.
        offset: u64,
        /// Whether the offset counts bytes of the input or of the decompressed archive.
        layer: &'static str,
    },
    /// The compressed data are damaged, or use an unsupported feature.
    #[error("cannot decompress {origin} ({format}), near byte {offset} of the input")]
    Decompress {
        /// The name of the source.
        origin: String,
        /// `gzip`, `xz` or `zstd`.
        format: &'static str,
        /// The approximate offset of the damage.
        offset: u64,
        /// The error of the decoder.
        #[source]
        source: io::Error,
    },
    /// The archive has a malformed entry.
    #[error("{origin} is damaged at byte {offset} of the archive: {problem}")]
    Malformed {
        /// The name of the source.
        origin: String,
        /// The offset of the entry's header.
        offset: u64,
        /// What is wrong with the entry.
        problem: String,
    },
    /// The archive has an entry that is refused.
    #[error("cannot unpack the entry {name} (at byte {offset} of the archive)")]
    Entry {
        /// The name of the entry, odd bytes escaped.
        name: String,
        /// The offset of the entry's header.
        offset: u64,
        /// Why the entry is refused.
        #[source]
        source: EntryError,
    },
    /// The digest is not the expected one.
    #[error("the SHA-256 of {origin} is {found}, not {expected}")]
    Digest {
        /// The name of the source.
        origin: String,
        /// The digest that was asked for.
        expected: String,
        /// The digest of the input.
        found: String,
    },
    /// A digest was given for a directory.
    #[error("{} is a directory: it has no SHA-256", path.display())]
    DigestOfDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// No profile recognises the world.
    #[error("it is not a world of a known profile ({known}){}", found.as_ref().map(|it| format!(": {it}")).unwrap_or_default())]
    Unknown {
        /// The names of the profiles that were tried.
        known: String,
        /// What the tree looks like, as far as that can be recognised.
        found: Option<Resemblance>,
    },
    /// No profile recognises the part of the world that has been unpacked so far.
    #[error("{origin} does not contain a world of a known profile ({known}) in its first {looked}")]
    NotSoFar {
        /// The name of the source.
        origin: String,
        /// The names of the profiles that were tried.
        known: String,
        /// The amount of data that was examined.
        looked: String,
    },
    /// The world is larger than its bound.
    #[error("{origin} unpacks to more than {most} bytes")]
    TooLarge {
        /// The name of the source.
        origin: String,
        /// The limit in bytes.
        most: u64,
    },
    /// A path is longer than the world's kernel accepts.
    #[error("the path {path} is longer than the {most} bytes that {os} takes")]
    PathTooLong {
        /// The path.
        path: RelPath,
        /// The greatest length in bytes.
        most: usize,
        /// The operating system of the world.
        os: Os,
    },
    /// Files of the world belong to ids that do not exist in jails.
    #[error("{count} files have owners above {most}, which do not exist in jails: {}", list.join(", "))]
    Owners {
        /// The number of such files.
        count: u64,
        /// The first of these files, with their owners.
        list: Vec<String>,
        /// The greatest id of a jail.
        most: u32,
    },
    /// The file that states the version of the world does not contain a usable one.
    #[error("cannot read the version of the {profile} world in {}: {problem}", path.display())]
    Label {
        /// The name of the profile.
        profile: String,
        /// The root of the world.
        path: PathBuf,
        /// What is wrong with the file.
        problem: String,
    },
    /// The world has a file at a path that ezz needs.
    #[error("the world has a {path} of its own")]
    Occupied {
        /// The path of the file that is in the way.
        path: RelPath,
    },
    /// A path that must be a directory of the tree is a link or something else.
    #[error("{path} is not a directory below {}", root.display())]
    NotADirectory {
        /// The path.
        path: RelPath,
        /// The root of the tree.
        root: PathBuf,
    },
    /// A name that no kernel accepts, or a tree that is too deep.
    #[error("cannot use the name {name} in {}", dir.display())]
    Name {
        /// The name, odd bytes escaped.
        name: String,
        /// The directory that has the name.
        dir: PathBuf,
        /// Why the name cannot be used.
        #[source]
        source: RelPathError,
    },
    /// A manifest that is not valid.
    #[error("the manifest is damaged in line {line}: {problem}")]
    Manifest {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with the line.
        problem: String,
    },
    /// A ledger of accounts that is not valid.
    #[error("the ledger of accounts is damaged in line {line}: {problem}")]
    Ledger {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with the line.
        problem: String,
    },
    /// A world that was sealed while this one was staged has other numbers for the same accounts.
    #[error(
        "{generation} was sealed in the meantime, and its {kind} {name} or that number differs from this world"
    )]
    Meanwhile {
        /// The generation that was sealed meanwhile.
        generation: String,
        /// Whether the account is a user or a group.
        kind: Kind,
        /// The name of the account in that generation.
        name: String,
    },
    /// All numbers are in use.
    #[error("no number is free for a new {kind}: the worlds of this site use all up to 65533")]
    NumbersUsedUp {
        /// Whether a user or a group needs a number.
        kind: Kind,
    },
    /// A file whose owner or group is 4294967295, which chown(2) takes for "leave it as it is".
    #[error("cannot give {path} the owner {uid}:{gid}: ids are 0 to 4294967294")]
    Owner {
        /// The file.
        path: RelPath,
        /// The user id of its owner.
        uid: u32,
        /// The id of its group.
        gid: u32,
    },
    /// The file system cannot store an attribute.
    #[error("cannot set {attribute} of {path}")]
    Attribute {
        /// The name of the attribute.
        attribute: String,
        /// The file.
        path: RelPath,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// Why an entry of an archive is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The name of the entry is absolute, leads out of the root, or is not valid.
    #[error("its name is not a path below the root: {0}")]
    Name(RelPathError),
    /// The target of a hard link is absolute, leads out of the root, or is not valid.
    #[error("it is a hard link to {target}, which is not a path below the root: {problem}")]
    HardLinkName {
        /// The target.
        target: String,
        /// Why the target cannot be used.
        problem: RelPathError,
    },
    /// A directory in the path of the entry is a link.
    #[error("it leads through the link {0}")]
    ThroughLink(RelPath),
    /// A directory in the path of the entry is a file.
    #[error("it leads through {0}, which is not a directory")]
    ThroughFile(RelPath),
    /// The entry is not a directory, but one exists at its path.
    #[error("it would replace a directory")]
    ReplacesDirectory,
    /// The entry is the root, but not a directory.
    #[error("it would replace the root")]
    ReplacesRoot,
    /// The target of a hard link does not exist.
    #[error("it is a hard link to {0}, which does not precede it in the archive")]
    MissingTarget(RelPath),
    /// The target of a hard link is a directory.
    #[error("it is a hard link to {0}, which is a directory")]
    DirectoryTarget(RelPath),
    /// The entry is a hard link to itself.
    #[error("it is a hard link to itself")]
    SelfLink,
    /// A symbolic link without a target, or with one that is too long or has a NUL byte.
    #[error("it is a link with an unusable target")]
    LinkTarget,
    /// The entry is in the directory in which ZFS shows its snapshots.
    #[error("it is in .zfs, which is ZFS's own directory")]
    OfZfs,
    /// ezz does not know the type of the entry.
    #[error("it is of the unknown type {0}")]
    UnknownType(String),
    /// The access control list of the entry has a name without a number, and the name is not an account of the world.
    #[error("its access control list names {0}, which is not an account of the world")]
    AclName(String),
    /// The entry has an owner that no file can have: chown(2) takes the last number for "leave it as it is", so that
    /// the file would belong to root.
    #[error("its {what} is {id}, and ids are 0 to 4294967294")]
    Owner {
        /// `owner` or `group`.
        what: &'static str,
        /// The id of the user or group.
        id: u64,
    },
    /// A field of the entry cannot be understood.
    #[error("its {what} cannot be understood: {value}")]
    Field {
        /// The name of the field.
        what: &'static str,
        /// The value of the field, odd bytes escaped.
        value: String,
    },
}

/// What a directory looks like that is not a world of a known profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Resemblance {
    /// A directory in it is a world.
    #[error("its directory {dir} is one ({profile})")]
    Below {
        /// The directory that is a world.
        dir: RelPath,
        /// The profile of that world.
        profile: String,
    },
    /// A world of a system that no profile knows.
    #[error("its os-release says that it is {0}")]
    Other(String),
}

impl WorldError {
    /// Makes an error about an operation that the system refused.
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

    /// Whether the error means that a file was replaced while it was being read, as a running jail may do.
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

    /// Returns the [`WorldError`] that a reader has wrapped in an [`io::Error`]; all other errors become `otherwise`.
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
