//! End-to-end tests: the real binaries on a real Postgres, and clients that speak to them as apps
//! do. The tests are in `tests/`; this crate is empty.
