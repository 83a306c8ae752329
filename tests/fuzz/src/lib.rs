//! Fuzz targets for `cargo +nightly fuzz run TARGET corpus/TARGET`.
//!
//! Seeds: `cargo run -p conformance -- seeds tests/fuzz/corpus`. What a run finds belongs into
//! `tests/fuzz/corpus/TARGET` as a file; the conformance tests replay seeds and corpus on stable.
#![forbid(unsafe_code)]

pub mod targets;
