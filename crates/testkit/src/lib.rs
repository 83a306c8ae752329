//! What tests and load generators share: real processes, real databases and clients of every
//! protocol. Only ever a dev-dependency.
//!
//! * [`process`] starts a service's own binary on ports of its own and ends it however a test wants;
//! * [`database`] hands out a fresh migrated database, [`cluster`] a whole Postgres that may be killed;
//! * [`vectors`] replays what the original servers answered;
//! * [`pad_client`] speaks both generations of the pad protocols;
//! * [`keys`], [`relay_client`], [`signal_client`] speak PeerLink the way an honest client does,
//!   [`book_client`] peerbook's two dialects;
//! * [`nats`] is a NATS server that may be killed, [`proxy`] a balancer and a link with faults;
//! * [`namespace`] is a network of a test's own, [`name_server`] what answers for names there;
//! * [`smtp_sink`] takes a service's mail, [`webdriver`] drives a real browser, [`data_channel`] is
//!   one of its WebRTC connections, [`turn_server`] is a real coturn, [`totp`] is an authenticator.
//!
//! Everything started here ends when its owner is dropped, when the test panics, and (through
//! the kernel) when the test's process is killed.
#![forbid(unsafe_code)]

pub mod book_client;
pub mod cluster;
pub mod data_channel;
pub mod database;
pub mod http_client;
pub mod json_socket;
pub mod keys;
pub mod mesh_client;
pub mod name_server;
pub mod namespace;
pub mod nats;
pub mod pad_client;
pub mod process;
pub mod proxy;
pub mod relay_client;
pub mod signal_client;
pub mod smtp_sink;
pub mod time;
pub mod tls;
pub mod totp;
pub mod turn_server;
pub mod vectors;
pub mod webdriver;

mod directory;
