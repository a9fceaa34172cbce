//! libFuzzer's way in to `stored`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::stored::check(data));
