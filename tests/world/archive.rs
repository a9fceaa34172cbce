//! Tar archives that are made by hand, so that they can contain what no ordinary program writes.

use std::io::Read;
use std::path::Path;

use ezz::world::{Context, ExtractReport, Source, WorldError, extract};
use tar::{EntryType, Header};

/// An archive that is being made.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
}

/// The header of an entry; its owner is the user who runs the test.
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub kind: EntryType,
    pub link: &'a [u8],
    pub mode: u32,
    pub mtime: u64,
    pub owner: (u64, u64),
    pub data: &'a [u8],
}

impl Default for Entry<'_> {
    fn default() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Entry {
            name: b"",
            kind: EntryType::Regular,
            link: b"",
            mode: 0o644,
            mtime: 1_700_000_000,
            owner: (uid.into(), gid.into()),
            data: b"",
        }
    }
}

impl Archive {
    pub fn entry(self, entry: &Entry<'_>) -> Archive {
        let size = entry.data.len() as u64;
        self.header(entry, size).data(entry.data)
    }

    pub fn header(mut self, entry: &Entry<'_>, size: u64) -> Archive {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name);
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link);
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_mtime(entry.mtime);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_size(size);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self
    }

    pub fn data(mut self, data: &[u8]) -> Archive {
        self.bytes.extend_from_slice(data);
        let padding = data.len().wrapping_neg() % 512;
        self.bytes.extend(std::iter::repeat_n(0, padding));
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Archive {
        self.entry(&Entry {
            name: name.as_bytes(),
            data,
            ..Entry::default()
        })
    }

    pub fn program(self, name: &str, data: &[u8]) -> Archive {
        self.entry(&Entry {
            name: name.as_bytes(),
            data,
            mode: 0o755,
            ..Entry::default()
        })
    }

    pub fn dir(self, name: &str) -> Archive {
        let kind = EntryType::Directory;
        self.entry(&Entry {
            name: name.as_bytes(),
            kind,
            mode: 0o755,
            ..Entry::default()
        })
    }

    pub fn symlink(self, name: &str, target: &str) -> Archive {
        self.link(name, target, EntryType::Symlink)
    }

    pub fn hard_link(self, name: &str, target: &str) -> Archive {
        self.link(name, target, EntryType::Link)
    }

    fn link(self, name: &str, target: &str, kind: EntryType) -> Archive {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.entry(&Entry {
            name,
            link,
            kind,
            mode: 0o777,
            ..Entry::default()
        })
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let digits = [1, 2, 3, 4, 5, 6, 7]
                .into_iter()
                .find(|n| (rest + n).to_string().len() == *n);
            let length = rest + digits.unwrap_or_default();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let kind = EntryType::XHeader;
        self.entry(&Entry {
            name: b"PaxHeaders/x",
            kind,
            data: &data,
            ..Entry::default()
        })
    }

    pub fn raw(mut self, bytes: &[u8]) -> Archive {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Returns the bytes without the end mark.
    pub fn cut(self) -> Vec<u8> {
        self.bytes
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// Unpacks the bytes of an archive into a directory.
pub fn unpack(bytes: Vec<u8>, root: &Path) -> Result<ExtractReport, WorldError> {
    let reader: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(bytes));
    extract(Source::Stdin(reader), root, None, &Context::quiet())
}
