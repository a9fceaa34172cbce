//! The mount table as data: a pure parser of `/proc/PID/mountinfo` of Linux.
//!
//! The format is that of proc_pid_mountinfo(5). This module must not make system calls; `mount::mounted` reads the real
//! table.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The source of the mount; for ZFS the dataset or snapshot.
    pub source: String,
    /// The directory of the source that is mounted: `/`, or a deeper one for a bind mount.
    pub root: PathBuf,
    /// The directory that it is mounted at.
    pub target: PathBuf,
    /// The type of the file system, such as `zfs`.
    pub fstype: String,
    /// Whether it is read-only, by this mount or by its whole file system.
    pub read_only: bool,
    /// Set-user-ID bits have no effect.
    pub nosuid: bool,
    /// Device nodes have no effect. Always so on FreeBSD.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// Reading does not update access times.
    pub noatime: bool,
}

impl Mounted {
    /// Whether this is a mount of a dataset, of a dataset below it, or of a snapshot of these.
    pub fn belongs_to(&self, dataset: &str) -> bool {
        self.source == dataset
            || self
                .source
                .strip_prefix(dataset)
                .is_some_and(|rest| rest.starts_with(['@', '/']))
    }
}

/// A line of the mount table does not have the form of proc(5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the mount table is not understood: {text:?}")]
pub struct ParseError {
    /// The number of the line, from 1.
    pub line: usize,
    /// The text of the line.
    pub text: String,
}

/// Parses the mountinfo of a process. Later mounts hide earlier ones on the same target; the order is kept.
///
/// The table is bytes, because a directory may have any name: decoding a name as text could change it.
///
/// # Errors
/// A line has too few fields, or lacks the `-` that ends the optional ones.
pub fn parse_mountinfo(table: impl AsRef<[u8]>) -> Result<Vec<Mounted>, ParseError> {
    table
        .as_ref()
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| ParseError {
                line: index + 1,
                text: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    // Blanks inside a field are escaped, so a blank always ends a field. The source may be empty (`mount -t tmpfs ""`),
    // hence `split` and not `split_whitespace`.
    let mut fields = line.split(|byte| *byte == b' ');
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    number(fields.next()?)?;
    number(fields.next()?)?;
    let _device = fields.next()?;
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let options = fields.next()?;
    // Optional fields (shared:N, master:N …) up to a single dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let fstype = text(fields.next()?);
    let source = text(fields.next()?);
    let super_options = fields.next()?;
    let among = |options: &[u8], name: &str| {
        let mut options = options.split(|byte| *byte == b',');
        options.any(|option| option == name.as_bytes())
    };
    let has = |name| among(options, name);
    Some(Mounted {
        source,
        root,
        target,
        fstype,
        read_only: has("ro") || among(super_options, "ro"),
        nosuid: has("nosuid"),
        nodev: has("nodev"),
        noexec: has("noexec"),
        noatime: has("noatime"),
    })
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Decodes the octal escapes: the kernel writes blank, tab, newline, backslash and `#` as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\' {
            if let Some(code) = octal(tail) {
                bytes.push(code);
                rest = &tail[3..];
                continue;
            }
        }
        bytes.push(byte);
        rest = tail;
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    if !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn one(line: &str) -> Option<Mounted> {
        parse_mountinfo(line).ok()?.pop()
    }

    #[test]
    fn a_dataset_with_all_its_flags() {
        let line = "36 35 0:42 / /srv/jails/web1 ro,nosuid,nodev,relatime shared:5 master:1 - zfs tank/ezz/jails/web1 rw,xattr,posixacl";
        assert_eq!(
            one(line),
            Some(Mounted {
                source: "tank/ezz/jails/web1".into(),
                root: "/".into(),
                target: "/srv/jails/web1".into(),
                fstype: "zfs".into(),
                read_only: true,
                nosuid: true,
                nodev: true,
                noexec: false,
                noatime: false,
            })
        );
    }

    #[test]
    fn octal_escapes_are_decoded_in_every_field() {
        let line = r"36 35 0:42 /a\134b /mnt/with\040blank\011tab\012line rw - zfs my\040pool/x rw";
        let mount = one(line);
        let mount = mount.as_ref();
        assert_eq!(mount.map(|mount| mount.source.as_str()), Some("my pool/x"));
        assert_eq!(
            mount.map(|mount| mount.root.clone()),
            Some(PathBuf::from("/a\\b"))
        );
        let target = PathBuf::from("/mnt/with blank\ttab\nline");
        assert_eq!(mount.map(|mount| mount.target.clone()), Some(target));
    }

    #[test]
    fn a_directory_may_have_any_name() {
        let line = b"36 35 0:42 / /srv/\xff rw - zfs a rw";
        let mounts = parse_mountinfo(line).ok();
        let target = mounts.as_ref().map(|mounts| mounts[0].target.as_os_str());
        assert_eq!(target, Some(std::ffi::OsStr::from_bytes(b"/srv/\xff")));
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(unescape(br"a\04"), br"a\04");
        assert_eq!(unescape(br"a\999b\"), br"a\999b\");
        assert_eq!(unescape(br"\303\274"), "ü".as_bytes());
    }

    #[test]
    fn read_only_by_the_super_block_counts_and_words_that_contain_ro_do_not() {
        assert!(one("1 0 0:1 / / rw - zfs a ro,xattr").is_some_and(|mount| mount.read_only));
        assert!(one("1 0 0:1 / / rw - zfs a rw,errors=ro2").is_some_and(|mount| !mount.read_only));
    }

    #[test]
    fn an_empty_source_and_an_empty_table() {
        assert!(one("1 0 0:1 / /t rw - tmpfs  rw").is_some_and(|mount| mount.source.is_empty()));
        assert_eq!(parse_mountinfo(b""), Ok(vec![]));
    }

    #[test]
    fn a_cut_line_is_an_error_with_its_number() {
        let text = "1 0 0:1 / / rw - zfs a rw\n36 35 0:42 / /srv rw shared:1";
        let error = parse_mountinfo(text).err();
        assert_eq!(error.map(|error| error.line), Some(2));
    }
}
