//! libFuzzer's way in to `tar`, with mutations that know the format: a header whose checksum is
//! wrong ends the reading, so bytes changed blindly would reach nothing behind it.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

const BLOCK: usize = 512;
/// Offset and length of the fields of a header; the last ones are those of old GNU sparse files.
const FIELDS: [(usize, usize); 15] = [
    (0, 100),
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (136, 12),
    (156, 1),
    (157, 100),
    (257, 8),
    (329, 8),
    (345, 155),
    (386, 12),
    (398, 12),
    (482, 1),
    (483, 12),
];
const TYPES: &[u8] = b"\x000123456789gxLKSDMNV";
const NAMES: [&[u8]; 12] = [
    b".",
    b"a",
    b"a/",
    b"a/b",
    b"a/b/c",
    b"./a",
    b"../victim/file",
    b"a/../../victim/file",
    b"/etc/passwd",
    b"link",
    b"link/file",
    b"",
];
const KEYS: [&str; 20] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "comment",
    "SCHILY.fflags",
    "SCHILY.acl.access",
    "SCHILY.acl.default",
    "SCHILY.acl.ace",
    "SCHILY.xattr.user.x",
    "LIBARCHIVE.xattr.user.%79",
    "GNU.sparse.major",
    "GNU.sparse.realsize",
    "GNU.sparse.size",
    "GNU.sparse.name",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.map",
];
const VALUES: [&[u8]; 16] = [
    b"0",
    b"1",
    b"512",
    b"1024",
    b"4294967295",
    b"9223372036854775807",
    b"18446744073709551615",
    b"-1.25",
    b"0,512",
    b"0,512,1024,512",
    b"user::rwx,group::r-x,other::---",
    b"user::rwx,user:games:rwx,group::r-x,mask::rwx,other::---",
    b"../victim/file",
    b"a",
    b"AAH/",
    b"schg",
];

fuzz_target!(|data: &[u8]| ezz_fuzz::tar::check(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random(u64::from(seed) << 1 | 1);
    if random.below(4) == 0 {
        let size = fuzzer_mutate(data, size, max_size);
        repair(&mut data[..size]);
        return size;
    }
    let mut archive = data[..size].to_vec();
    for _ in 0..=random.below(3) {
        mutate(&mut archive, &mut random);
    }
    archive.truncate(max_size);
    repair(&mut archive);
    data[..archive.len()].copy_from_slice(&archive);
    archive.len()
});

/// Enough of a random number generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) as usize % end.max(1)
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// Where the headers are, and the end of the last entry.
fn headers(archive: &[u8]) -> (Vec<usize>, usize) {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(block) = archive.get(at..at + BLOCK) {
        if block.iter().all(|b| *b == 0) {
            break;
        }
        found.push(at);
        let digits = block[124..136].iter().filter(|b| b.is_ascii_digit());
        let size = digits.fold(0usize, |n, b| n * 8 % (1 << 30) + usize::from(b & 7));
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
    (found, at.min(archive.len()))
}

fn mutate(archive: &mut Vec<u8>, random: &mut Random) {
    let (found, end) = headers(archive);
    let which = random.below(found.len());
    let Some(at) = found.get(which).copied() else {
        let header = made(b"a", b'0', 0);
        archive.splice(0..0, header);
        archive.extend([0; 2 * BLOCK]);
        return;
    };
    let next = found.get(which + 1).copied().unwrap_or(end);
    match random.below(8) {
        0 | 1 => field(&mut archive[at..at + BLOCK], random),
        2 | 3 => {
            let records = records(random);
            archive.splice(at..at, records);
        }
        4 => {
            let entry = archive[at..next].to_vec();
            let to = found[random.below(found.len())];
            archive.splice(to..to, entry);
        }
        5 => drop(archive.splice(at..next, [])),
        6 => {
            let kind = TYPES[random.below(TYPES.len())];
            let name = random.of(&NAMES);
            let data = random.below(3) * 300;
            let mut entry = made(name, kind, data);
            entry.resize(BLOCK + data.div_ceil(BLOCK) * BLOCK, b'x');
            archive.splice(at..at, entry);
        }
        _ => {
            // A long name, or the map of a sparse file, or just content.
            let to = at + BLOCK + random.below((next - at).saturating_sub(BLOCK));
            let text = random.of(&[
                b"2\n0\n512\n1024\n512\n".as_slice(),
                b"../x\0",
                b"\0",
                b"9\n",
            ]);
            if let Some(there) = archive.get_mut(to..to + text.len()) {
                there.copy_from_slice(text);
            }
        }
    }
}

fn field(header: &mut [u8], random: &mut Random) {
    let (start, length) = FIELDS[random.below(FIELDS.len())];
    let there = &mut header[start..start + length];
    let value: Vec<u8> = match (length, random.below(4)) {
        (1, _) => vec![TYPES[random.below(TYPES.len())]],
        (8 | 12, 0) => {
            let mut bytes = vec![0; length];
            bytes[0] = [0x80, 0xff][random.below(2)];
            bytes[length - 1 - random.below(length - 1)] = random.below(256) as u8;
            bytes
        }
        (8 | 12, 1) => b"ustar\x0000"[..8].to_vec(),
        (8 | 12, _) => {
            let bits = random.below(24);
            let number = random.below(1 << bits);
            format!("{number:0width$o}\0", width = length - 1).into_bytes()
        }
        _ => random.of(&NAMES).to_vec(),
    };
    let n = value.len().min(length);
    there[..n].copy_from_slice(&value[..n]);
    there[n..].fill(0);
}

fn made(name: &[u8], kind: u8, size: usize) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"14000000000\0");
    header[156] = kind;
    header[157..158].copy_from_slice(b"a");
    header[257..265].copy_from_slice(b"ustar\x0000");
    header
}

/// An extended header with one to three records, each with its right length.
fn records(random: &mut Random) -> Vec<u8> {
    let mut data = Vec::new();
    for _ in 0..=random.below(3) {
        let key = random.of(&KEYS);
        let value = random.of(&VALUES);
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        data.extend(format!("{length} {key}=").bytes());
        data.extend(value);
        data.push(b'\n');
    }
    let mut entry = made(b"x", b"xxxg"[random.below(4)], data.len());
    data.resize(data.len().div_ceil(BLOCK) * BLOCK, 0);
    entry.extend(data);
    entry
}

/// Makes the checksum of every header right.
fn repair(archive: &mut [u8]) {
    for at in headers(archive).0 {
        let header = &mut archive[at..at + BLOCK];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
