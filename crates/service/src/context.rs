//! What `run` hands to a service.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge, Registry};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{Clock, Ready, Stop};

/// The process as its service sees it: clones share everything.
#[derive(Clone)]
pub struct Context {
    /// The service's name, as in [`About::name`](crate::About::name).
    pub name: &'static str,
    /// When to stop.
    pub stop: Stop,
    /// Whether new clients are welcome.
    pub ready: Ready,
    /// What time it is, for decisions the wire sees.
    pub clock: Clock,
    /// Where metrics are registered; `/metrics` shows them.
    pub metrics: Registry,
    tasks: Arc<Tasks>,
}

struct Tasks {
    tracker: TaskTracker,
    alive: AtomicBool,
    running: IntGauge,
    /// How many of each name, to say whom a drain waits for in vain.
    names: Mutex<BTreeMap<&'static str, usize>>,
    panics: IntCounter,
}

impl Context {
    pub(crate) fn new(name: &'static str, grace: Duration) -> Self {
        let stop = Stop::new(grace);
        let running = IntGauge::new("service_tasks", "Tasks that run or wait.");
        let panics = IntCounter::new("service_task_panics_total", "Tasks that ended in a panic.");
        let tasks = Tasks {
            tracker: TaskTracker::new(),
            alive: AtomicBool::new(true),
            running: running.expect("the name is valid"),
            names: Mutex::default(),
            panics: panics.expect("the name is valid"),
        };
        let metrics = Registry::new();
        metrics.register(Box::new(tasks.running.clone())).expect("the registry is empty");
        metrics.register(Box::new(tasks.panics.clone())).expect("the registry holds another name");
        let ready = Ready::new(stop.clone());
        Self { name, stop, ready, clock: Clock::system(), metrics, tasks: Arc::new(tasks) }
    }

    /// A context of its own for a test: no admin port, no signals, ten seconds of grace.
    pub fn for_tests() -> Self {
        Self::new("test", Duration::from_secs(10))
    }

    /// The same process under another clock.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Runs `task` until it ends. The drain waits for it, so it has to watch [`Context::stop`]
    /// or end with what it works on. A panic is logged and counted, and ends this task alone.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(name, false, task);
    }

    /// As [`Context::spawn`], for a task without which the process is of no use: after its
    /// panic `/livez` answers 503, so that whoever supervises the process restarts it.
    pub fn spawn_essential(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.start(name, true, task);
    }

    #[expect(clippy::disallowed_methods, reason = "this is what everybody spawns through")]
    fn start(
        &self,
        name: &'static str,
        essential: bool,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let tasks = self.tasks.clone();
        tasks.running.inc();
        *tasks.names.lock().entry(name).or_default() += 1;
        // The task owns all it touches: nothing half-changed outlives the unwinding. Not an async
        // block, which would make room for the task twice: once captured, once awaited.
        let guarded = AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            tasks.running.dec();
            tasks.ended(name);
            if ended.is_err() {
                tasks.panics.inc();
                tracing::error!(task = name, essential, "task panicked");
                if essential {
                    tasks.alive.store(false, Ordering::SeqCst);
                }
            }
        });
        tokio::spawn(self.tasks.tracker.track_future(guarded.in_current_span()));
    }

    /// Whether every essential task is whole.
    pub(crate) fn is_alive(&self) -> bool {
        self.tasks.alive.load(Ordering::SeqCst)
    }

    /// What still runs: `name` or `name x count`, in order.
    pub(crate) fn unfinished(&self) -> String {
        let names = self.tasks.names.lock();
        let parts: Vec<String> = names
            .iter()
            .map(|(name, count)| match count {
                1 => (*name).to_owned(),
                _ => format!("{name} x {count}"),
            })
            .collect();
        parts.join(", ")
    }

    /// Ends when nothing is left that the drain waits for.
    pub(crate) async fn finished(&self) {
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }
}

impl Tasks {
    fn ended(&self, name: &'static str) {
        let mut names = self.names.lock();
        if let Some(count) = names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                names.remove(name);
            }
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_task_alone_and_is_counted() {
        let cx = Context::for_tests();
        let stop = cx.stop.draining().clone();
        cx.spawn("careless", async { panic!("on purpose") });
        cx.spawn("patient", async move { stop.cancelled().await });
        while cx.tasks.panics.get() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cx.tasks.running.get(), 1);
        assert_eq!(cx.unfinished(), "patient");
        assert!(cx.is_alive());
        cx.stop.draining().cancel();
        cx.finished().await;
    }

    #[tokio::test]
    async fn a_panic_of_an_essential_task_ends_liveness() {
        let cx = Context::for_tests();
        cx.spawn_essential("heart", async { panic!("on purpose") });
        cx.finished().await;
        assert!(!cx.is_alive());
    }
}
