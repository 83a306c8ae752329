//! Fuzzes `targets::book_channel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::book_channel(data));
