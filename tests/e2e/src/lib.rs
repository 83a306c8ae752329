//! End-to-end tests: the real binaries on a real Postgres, and clients that speak to them as apps
//! do. The tests are in `tests/`; here is what other tests play as well.

pub mod app;
pub mod calls;
pub mod tour;
