//! Leave the pool, ask, insist: the order in which a process stops.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long tasks get between being killed and the end of the process.
pub(crate) const KILL: Duration = Duration::from_secs(2);

/// What a service watches to know that it should stop. Clones share one state.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    leaving: CancellationToken,
    draining: CancellationToken,
    killed: CancellationToken,
    grace: Duration,
}

impl Stop {
    pub(crate) fn new(grace: Duration) -> Self {
        Self(Arc::new(Inner {
            leaving: CancellationToken::new(),
            draining: CancellationToken::new(),
            killed: CancellationToken::new(),
            grace,
        }))
    }

    /// Readiness already answers 503; new clients are still served while balancers notice.
    pub fn leaving(&self) -> &CancellationToken {
        &self.0.leaving
    }

    /// Stop accepting, tell sessions to reconnect, finish what is in flight.
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// The grace is over: drop everything now.
    pub fn killed(&self) -> &CancellationToken {
        &self.0.killed
    }

    /// Time between draining and killed; spread what happens at the drain inside it.
    pub fn grace(&self) -> Duration {
        self.0.grace
    }
}
