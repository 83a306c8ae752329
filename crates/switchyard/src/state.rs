//! What `up` leaves for `status` and for scripts to read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::secrets::write_private;

/// The running stack, as its launcher sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// The launcher.
    pub(crate) pid: u32,
    /// When it started, in milliseconds since the epoch.
    pub(crate) started_ms: i64,
    /// Version of the launcher.
    pub(crate) version: String,
    /// `private`, or `foreign` for a given `DATABASE_URL`.
    pub(crate) database: String,
    /// The private cluster's postmaster.
    pub(crate) postgres_pid: Option<u32>,
    /// By name.
    pub(crate) services: BTreeMap<String, ServiceState>,
    /// Where its coturn is, as clients are told; empty without one.
    #[serde(default)]
    pub(crate) turn: Vec<String>,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceState {
    /// What clients use.
    pub(crate) url: String,
    /// Its admin port.
    pub(crate) admin: SocketAddr,
    /// Its process while it runs.
    pub(crate) pid: Option<u32>,
    /// How often it was started again.
    pub(crate) restarts: u32,
}

impl State {
    /// Writes it for others to read.
    pub(crate) fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        write_private(&layout.state(), &text, layout.account())
    }

    /// Reads what a launcher wrote.
    pub(crate) fn load(layout: &Layout) -> anyhow::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(layout.state())?)?)
    }
}
