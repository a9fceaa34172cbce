//! libFuzzer's way in to `jailconf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::jailconf::check(data));
