//! Recognises an input that is not a world by its first bytes and the names of its first entries, so that it is refused
//! before anything is created for it.
//!
//! This module must not know what a world is: that is the task of `label`, which examines files.

use super::error::WorldError;
use super::header::{BLOCK, Header, SIZE, checksum_is_right, numeric};
use super::input::Chunks;

/// The number of bytes of an archive that are examined.
const LOOKED: usize = 64 << 10;

/// The output of `docker save`, `podman save` and skopeo.
pub(super) const CONTAINER_IMAGE: &str = "an image of containers";

/// Packages of operating systems.
pub(super) const PACKAGES: [&str; 2] = ["a Debian package", "an RPM package"];

/// Returns what the beginning of an input looks like that is neither a tar archive nor compressed.
pub(super) fn unlike(start: &[u8]) -> &'static str {
    match start {
        [] => "an empty file",
        [b'B', b'Z', b'h', ..] => "bzip2, which is not supported",
        [b'P', b'K', 3, 4, ..] => "a zip file",
        [0xed, 0xab, 0xee, 0xdb, ..] => PACKAGES[1],
        start if start.starts_with(b"!<arch>\ndebian-binary") => PACKAGES[0],
        start if start.starts_with(b"!<arch>\n") => "a library of object files",
        start if start.starts_with(b"070701") || start.starts_with(b"070702") => {
            "a cpio archive, which is not supported"
        }
        start if start.starts_with(b"\x7fELF") => "a program",
        start if start.starts_with(b"7z\xbc\xaf\x27\x1c") => "a 7-Zip file",
        start if start.starts_with(b"hsqs") => "a SquashFS image",
        start if start.starts_with(b"QFI\xfb") => "a disk image",
        start if is_web_page(start) => "a web page",
        start if start.iter().all(|b| *b == 0) => "zeros only",
        start if start.is_ascii() => "a text",
        _ => "data of an unknown kind",
    }
}

fn is_web_page(start: &[u8]) -> bool {
    let text = start.trim_ascii_start().to_ascii_lowercase();
    [&b"<!doctype"[..], b"<html", b"<?xml", b"<head"]
        .iter()
        .any(|tag| text.starts_with(tag))
}

/// Refuses a decompressed archive whose first entries show that it is not a world. A damaged archive is left to the
/// reader.
pub(super) fn archive(input: &mut Chunks, origin: &str) -> Result<(), WorldError> {
    if names(input.peek(LOOKED)?).any(|name| is_of_image(&name)) {
        return Err(WorldError::NotAnArchive {
            origin: origin.to_owned(),
            found: CONTAINER_IMAGE,
        });
    }
    Ok(())
}

/// Whether a name belongs to the layout of the OCI (image-spec, "oci-layout"), or to that of Docker before it, which
/// has a directory for each layer.
fn is_of_image(name: &[u8]) -> bool {
    let mut parts = name
        .split(|b| *b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."));
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    let is_digest = first.len() == 64 && first.iter().all(u8::is_ascii_hexdigit);
    match second {
        None => first == b"oci-layout",
        Some(b"sha256") => first == b"blobs",
        Some(b"layer.tar" | b"json" | b"VERSION") => is_digest,
        Some(_) => false,
    }
}

/// Returns the names in the headers that are complete.
fn names(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let block = rest.first_chunk::<BLOCK>()?;
        if !checksum_is_right(block) {
            return None;
        }
        let header = Header(*block);
        let size = numeric(header.field(SIZE)).and_then(|size| usize::try_from(size).ok());
        let blocks = size.and_then(|size| size.div_ceil(BLOCK).checked_mul(BLOCK));
        let next = blocks.and_then(|blocks| rest.get(BLOCK.checked_add(blocks)?..));
        rest = next.unwrap_or_default();
        Some(header.path())
    })
}
