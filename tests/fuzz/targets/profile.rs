//! libFuzzer's way in to `profile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::profile::check(data));
