//! Fuzzes `targets::base64`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::base64(data));
