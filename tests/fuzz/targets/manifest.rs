//! libFuzzer's way in to `manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::manifest::check(data));
