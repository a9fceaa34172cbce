//! Manifests: the parser accepts exactly what the writer writes, byte for byte.

use ezz::world::manifest;

/// Checks a text as a manifest, and as the lines of one, behind the header that every manifest has.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    same(text);
    same(&format!("#mtree v2.0 ezz 1\n. type=dir\n{text}\n"));
}

fn same(text: &str) {
    if let Ok(written) = manifest::rewrite(text) {
        assert_eq!(written, text);
        assert!(
            text.bytes()
                .all(|b| b == b'\n' || b == b' ' || b.is_ascii_graphic())
        );
    }
}
