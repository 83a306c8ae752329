//! Readiness: named gates that their owners open and close.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::Stop;

/// Decides what `/readyz` answers: 200 while every gate is open and nobody drains.
///
/// A service that has not named any gate yet is still starting, so it is not ready.
#[derive(Clone, Debug)]
pub struct Ready {
    gates: Arc<Mutex<Vec<State>>>,
    changed: watch::Sender<()>,
    stop: Stop,
}

#[derive(Clone, Debug, Serialize)]
struct State {
    name: &'static str,
    open: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
}

/// What `/readyz` sends.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    draining: bool,
    gates: Vec<State>,
}

impl Ready {
    pub(crate) fn new(stop: Stop) -> Self {
        Self { gates: Arc::default(), changed: watch::Sender::new(()), stop }
    }

    /// Adds a gate, closed with the reason `starting`. It stays for the life of the process.
    pub fn gate(&self, name: &'static str) -> Gate {
        let mut gates = self.gates.lock();
        gates.push(State { name, open: false, reason: "starting" });
        Gate { index: gates.len() - 1, ready: self.clone() }
    }

    /// Whether a balancer should send new clients here.
    pub fn is_ready(&self) -> bool {
        !self.stop.leaving().is_cancelled() && all_open(&self.gates.lock())
    }

    pub(crate) fn report(&self) -> Report {
        let gates = self.gates.lock().clone();
        let draining = self.stop.leaving().is_cancelled();
        Report { ready: !draining && all_open(&gates), draining, gates }
    }

    /// Ticks whenever a gate moved.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

fn all_open(gates: &[State]) -> bool {
    !gates.is_empty() && gates.iter().all(|gate| gate.open)
}

/// One condition of readiness, held by the part of the service that knows it.
#[derive(Clone, Debug)]
pub struct Gate {
    index: usize,
    ready: Ready,
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.set(true, "");
    }

    /// The condition does not hold; `reason` is shown to the operator.
    pub fn close(&self, reason: &'static str) {
        self.set(false, reason);
    }

    /// Whether the condition holds.
    pub fn is_open(&self) -> bool {
        self.ready.gates.lock()[self.index].open
    }

    fn set(&self, open: bool, reason: &'static str) {
        let mut gates = self.ready.gates.lock();
        let gate = &mut gates[self.index];
        let moved = gate.open != open;
        (gate.open, gate.reason) = (open, reason);
        let name = gate.name;
        drop(gates);
        if moved {
            if open {
                tracing::info!(gate = name, "gate opened");
            } else {
                tracing::warn!(gate = name, reason, "gate closed");
            }
            self.ready.changed.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ready_needs_every_gate_and_no_drain() {
        let stop = Stop::new(Duration::ZERO);
        let ready = Ready::new(stop.clone());
        assert!(!ready.is_ready(), "nothing has said that it is there");
        let (database, listener) = (ready.gate("database"), ready.gate("listener"));
        assert!(!ready.is_ready());
        database.open();
        listener.open();
        assert!(ready.is_ready());
        database.close("no connection");
        let report = serde_json::to_string(&ready.report()).expect("plain data");
        assert!(report.contains(r#"{"name":"database","open":false,"reason":"no connection"}"#));
        database.open();
        stop.leaving().cancel();
        assert!(!ready.is_ready());
    }
}
