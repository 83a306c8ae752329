//! Fuzzes `targets::pad_tcp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::pad_tcp(data));
