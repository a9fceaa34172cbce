//! libFuzzer's way in to `looks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ezz_fuzz::looks::check(data));
