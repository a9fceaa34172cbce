//! The `ezz` binary.
fn main() {}
