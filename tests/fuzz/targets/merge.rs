//! libFuzzer's way in to `merge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::merge::check(data));
