//! libFuzzer's way in to `mounts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::mounts::check(data));
