//! Fuzzes `targets::pad_ws`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::pad_ws(data));
