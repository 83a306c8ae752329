//! Fuzzes `targets::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::websocket(data));
