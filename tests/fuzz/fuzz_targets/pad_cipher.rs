//! Fuzzes `targets::pad_cipher`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::pad_cipher(data));
