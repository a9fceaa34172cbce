//! libFuzzer's way in to `fleet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::fleet::check(data));
