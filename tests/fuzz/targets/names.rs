//! libFuzzer's way in to `names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::names::check(data));
