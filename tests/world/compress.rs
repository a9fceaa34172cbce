//! Compression, digests, and inputs that are cut, padded, damaged, or no archive.

use std::fs;
use std::io::Write;

use ezz::hint::Hint as _;
use ezz::world::{
    Bounds, Context, Digest, ExtractReport, SO_FAR, Source, WorldError, extract, open,
};

use crate::Fail;
use crate::archive::{Archive, unpack};

fn noise(length: usize) -> Vec<u8> {
    let mut noise = Vec::new();
    let mut state = 1u32;
    for _ in 0..length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.extend_from_slice(&state.to_be_bytes()[..1]);
    }
    noise
}

fn sample() -> Vec<u8> {
    Archive::default()
        .dir("etc")
        .file("etc/noise", &noise(400_000))
        .file("etc/last", b"last")
        .end()
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Fail> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Compresses in blocks of 64 KiB, as release engineering does with larger ones.
fn xz(bytes: &[u8]) -> Result<Vec<u8>, Fail> {
    let stream = liblzma::stream::MtStreamBuilder::new()
        .threads(2)
        .block_size(64 << 10)
        .preset(0)
        .check(liblzma::stream::Check::Crc64)
        .encoder()?;
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn zst(bytes: &[u8]) -> Result<Vec<u8>, Fail> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
    encoder.include_checksum(true)?;
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

type Packer = fn(&[u8]) -> Result<Vec<u8>, Fail>;
const PACKERS: [(&str, Packer); 3] = [("gzip", gzip), ("xz", xz), ("zstd", zst)];

fn taken(bytes: &[u8]) -> Result<ExtractReport, WorldError> {
    let root = tempfile::tempdir().map_err(|source| WorldError::Io {
        op: "make",
        path: "a directory for the test".into(),
        source,
    })?;
    let report = unpack(bytes.to_vec(), root.path())?;
    assert_eq!(
        fs::read(root.path().join("etc/last")).ok().as_deref(),
        Some(&b"last"[..])
    );
    Ok(report)
}

#[test]
fn every_format_in_one_and_in_several_members() -> Result<(), Fail> {
    let plain = sample();
    taken(&plain)?;
    for (name, pack) in PACKERS {
        let whole = pack(&plain)?;
        let report = taken(&whole)?;
        assert_eq!(report.sha256, Some(Digest::of(&whole)), "{name}");
        assert_eq!(report.input_bytes, whole.len() as u64, "{name}");
        let (first, second) = plain.split_at(plain.len() / 3);
        let members = [pack(first)?, pack(second)?].concat();
        assert_eq!(taken(&members)?.files, 2, "{name}");
    }
    // Padding: an archive is padded to a record, gzip to a block, xz to four bytes.
    taken(&[&plain[..], &[0; 9216]].concat())?;
    taken(&[gzip(&plain)?, vec![0; 512]].concat())?;
    taken(&[xz(&plain)?, vec![0; 8], xz(b"")?].concat())?;
    Ok(())
}

#[test]
fn truncated_anywhere() -> Result<(), Fail> {
    let plain = sample();
    let mark = plain.len() - 1024;
    for cut in [300, 512, 600, 1024, 5000, mark - 10, mark] {
        match taken(&plain[..cut]) {
            Err(WorldError::Truncated {
                offset,
                layer: "archive",
                ..
            }) => {
                assert_eq!(offset, cut as u64);
            }
            Err(WorldError::NotAnArchive { .. }) if cut < 512 => {}
            other => return Err(format!("{cut}: {other:?}").into()),
        }
    }
    // Every program that reads tar accepts one block of zeros as the end mark; POSIX requires two.
    taken(&plain[..mark + 512])?;
    for (name, pack) in PACKERS {
        let whole = pack(&plain)?;
        for cut in [20, 100, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
            match taken(&whole[..cut]) {
                Err(WorldError::Truncated { layer: "input", .. }) => {}
                other => return Err(format!("{name} at {cut}: {other:?}").into()),
            }
        }
        // The compressed data is complete, but the archive in it is not.
        for cut in [mark - 10, 300] {
            match taken(&pack(&plain[..cut])?) {
                Err(WorldError::Truncated {
                    layer: "archive", ..
                }) => {}
                other => return Err(format!("{name} of {cut}: {other:?}").into()),
            }
        }
        // Without an end mark an archive is accepted if the compression shows that nothing is missing, as by GNU tar
        // and bsdtar; but not if it ends in the middle of an entry.
        assert_eq!(taken(&pack(&plain[..mark])?)?.files, 2, "{name}");
        let long = Archive::default()
            .file("etc/last", b"last")
            .pax(&[("path", b"etc/more")])
            .cut();
        match taken(&pack(&long)?) {
            Err(WorldError::Truncated {
                layer: "archive", ..
            }) => {}
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    // A digest also shows that nothing is missing.
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("world.tar");
    fs::write(&file, &plain[..mark])?;
    let digest = Digest::of(&plain[..mark]);
    let context = Context::quiet();
    for (expected, whole) in [(Some(digest), true), (None, false)] {
        let root = tempfile::tempdir()?;
        let taken = extract(Source::File(file.clone()), root.path(), expected, &context);
        assert_eq!(taken.is_ok(), whole);
        let hint = taken.err().and_then(|error| error.hint());
        assert_eq!(hint.is_some_and(|hint| hint.contains("--sha256")), !whole);
    }
    Ok(())
}

/// A bomb behind the end mark, and one of headers: both compress to almost nothing.
#[test]
fn what_only_takes_time_is_refused() -> Result<(), Fail> {
    let plain = sample();
    let zeros = [&plain[..], &vec![0; 66 << 20]].concat();
    let headers = (0..17).fold(Archive::default(), |archive, _| {
        archive.pax(&[("comment", b"x")])
    });
    for (bytes, words) in [
        (gzip(&zeros)?, "more zeros"),
        (headers.file("x", b"").end(), "too many extended headers"),
    ] {
        match taken(&bytes) {
            Err(WorldError::Malformed { problem, .. }) if problem.contains(words) => {}
            other => return Err(format!("{words}: {other:?}").into()),
        }
    }
    Ok(())
}

fn opened(bytes: Vec<u8>, bounds: Bounds) -> Result<ExtractReport, WorldError> {
    let context = Context::quiet();
    let reader: Box<dyn std::io::Read + Send> = Box::new(std::io::Cursor::new(bytes));
    let root = tempfile::tempdir().map_err(|source| WorldError::Io {
        op: "make",
        path: "a directory".into(),
        source,
    })?;
    open(Source::Stdin(reader), None, &context)?.extract(root.path(), bounds, &context)
}

/// The sizes that the archive claims count: nothing of a file that is too large is written.
#[test]
fn worlds_have_a_largest_size() -> Result<(), Fail> {
    let bounds = |most, known| Bounds { most, known };
    let plain = sample();
    // The size of its files, and a header for each entry.
    let size = 400_004 + 3 * 512;
    opened(plain.clone(), bounds(size, false))?;
    match opened(plain, bounds(size - 1, false)) {
        Err(error @ WorldError::TooLarge { .. }) => {
            assert!(error.hint().is_some_and(|hint| hint.contains("--max-size")));
        }
        other => return Err(format!("{other:?}").into()),
    }
    // A file that is one hole, larger than the limit for an archive that may be no world.
    let hole = (SO_FAR + 1).to_string();
    let sparse = Archive::default()
        .pax(&[
            ("GNU.sparse.map", b"0,0"),
            ("GNU.sparse.size", hole.as_bytes()),
            ("GNU.sparse.name", b"hole"),
        ])
        .file("x", b"")
        .end();
    match opened(sparse.clone(), bounds(u64::MAX, false)) {
        Err(error @ WorldError::NotSoFar { .. }) => {
            assert!(error.to_string().contains("in its first 4 GiB"), "{error}");
        }
        other => return Err(format!("{other:?}").into()),
    }
    opened(sparse, bounds(u64::MAX, true))?;
    Ok(())
}

#[test]
fn something_behind_the_end() -> Result<(), Fail> {
    let plain = sample();
    for (junk, offset) in [(&b"junk"[..], plain.len()), (&[0, 0, 1], plain.len() + 2)] {
        match taken(&[&plain[..], junk].concat()) {
            Err(WorldError::Trailing { offset: found, .. }) => assert_eq!(found, offset as u64),
            other => return Err(format!("{other:?}").into()),
        }
    }
    for (name, pack) in PACKERS {
        let whole = pack(&plain)?;
        match taken(&[&whole[..], b"junk behind it"].concat()) {
            Err(WorldError::Trailing {
                offset,
                layer: "input",
                ..
            }) => {
                assert_eq!(offset, whole.len() as u64, "{name}");
            }
            other => return Err(format!("{name}: {other:?}").into()),
        }
        // A second archive behind the first is data behind the end mark, too.
        let two = [pack(&plain)?, pack(&plain)?].concat();
        assert!(
            matches!(taken(&two), Err(WorldError::Trailing { .. })),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn one_damaged_bit() -> Result<(), Fail> {
    let plain = sample();
    for (name, pack) in PACKERS {
        let mut whole = pack(&plain)?;
        let middle = whole.len() / 2;
        whole[middle] ^= 4;
        match taken(&whole) {
            Err(
                error @ (WorldError::Decompress { .. }
                | WorldError::Malformed { .. }
                | WorldError::Truncated { .. }),
            ) => assert!(error.hint().is_some()),
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    Ok(())
}

#[test]
fn what_is_no_archive() -> Result<(), Fail> {
    let layer = format!("{}/layer.tar", "0a".repeat(32));
    for (bytes, looks) in [
        (&b""[..], "an empty file"),
        (
            b"<!DOCTYPE html>\n<html><body>302</body></html>",
            "a web page",
        ),
        (b"\n  <HTML>", "a web page"),
        (b"BZh91AY&SY", "bzip2, which is not supported"),
        (b"PK\x03\x04zip", "a zip file"),
        (b"#!/bin/sh\necho hello\n", "a text"),
        (b"!<arch>\ndebian-binary   1342", "a Debian package"),
        (b"!<arch>\n/               0", "a library of object files"),
        (b"\xed\xab\xee\xdb\x03", "an RPM package"),
        (b"070701000", "a cpio archive, which is not supported"),
        (b"\x7fELF\x02", "a program"),
        (&gzip(&[b'x'; 600])?, "a compressed file that is no archive"),
        (
            &gzip(&gzip(&noise(600))?)?,
            "something that is compressed twice",
        ),
        (
            &Archive::default().file("oci-layout", b"{}").end(),
            "an image of containers",
        ),
        (
            &Archive::default()
                .dir("./")
                .file("blobs/sha256/00", b"{}")
                .end(),
            "an image of containers",
        ),
        (
            &gzip(&Archive::default().file(&layer, b"").end())?,
            "an image of containers",
        ),
        (&[0; 2048], "zeros only"),
        (&[0xee; 2048], "data of an unknown kind"),
    ] {
        match taken(bytes) {
            Err(error @ WorldError::NotAnArchive { .. }) => {
                assert_eq!(
                    error.to_string(),
                    format!("standard input is not a world archive: it looks like {looks}")
                );
                assert!(error.hint().is_some());
            }
            other => return Err(format!("{looks}: {other:?}").into()),
        }
    }
    Ok(())
}

#[test]
fn the_digest_is_that_of_the_input() -> Result<(), Fail> {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    let file = dir.path().join("base.txz");
    let whole = xz(&sample())?;
    fs::write(&file, &whole)?;
    let digest = Digest::of(&whole);
    let context = Context::quiet();
    let upper: Digest = digest.to_string().to_uppercase().parse()?;
    extract(Source::from_arg(&file), &root, Some(upper), &context)?;
    let wrong = Digest::of(b"");
    match extract(Source::from_arg(&file), &root, Some(wrong), &context) {
        Err(WorldError::Digest {
            expected, found, ..
        }) => {
            assert_eq!((expected, found), (wrong.to_string(), digest.to_string()));
        }
        other => return Err(format!("{other:?}").into()),
    }
    // A hostile archive that does not have the expected digest is reported as such, and as nothing else.
    let hostile = Archive::default().file("../x", b"").end();
    fs::write(&file, hostile)?;
    let result = extract(Source::from_arg(&file), &root, Some(digest), &context);
    assert!(
        matches!(result, Err(WorldError::Digest { .. })),
        "{result:?}"
    );
    let missing = extract(
        Source::from_arg(&dir.path().join("no")),
        &root,
        None,
        &context,
    );
    assert!(matches!(missing, Err(WorldError::Io { op: "open", .. })));
    Ok(())
}
