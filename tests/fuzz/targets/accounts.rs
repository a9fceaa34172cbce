//! libFuzzer's way in to `accounts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::accounts::check(data));
