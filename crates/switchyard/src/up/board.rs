//! What is known about the programs, kept in the state file for others.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::plan::Plan;
use crate::clock;
use crate::layout::Layout;
use crate::output::Output;
use crate::state::{ServiceState, State};
use crate::supervise::Report;

/// A service that died this often without becoming ready will not.
const HOPELESS_DEATHS: u32 = 5;
/// The services' exit code for wrong settings, which starting again does not mend.
const WRONG_SETTINGS: i32 = 2;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Board {
    inner: Arc<Mutex<Inner>>,
    layout: Layout,
    output: Output,
}

struct Inner {
    state: State,
    /// Why a service cannot become ready.
    hopeless: Vec<(&'static str, String)>,
}

impl Board {
    pub(super) fn new(plan: &Plan, output: Output) -> Self {
        let services = plan.services.iter().map(|service| {
            let state = ServiceState {
                url: service.url.clone(),
                admin: service.place.admin,
                pid: None,
                restarts: 0,
            };
            (service.place.service.name().to_owned(), state)
        });
        let state = State {
            pid: std::process::id(),
            started_ms: clock::now_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            database: if plan.private_database { "private" } else { "foreign" }.to_owned(),
            postgres_pid: None,
            services: services.collect(),
            turn: plan.front.turn.as_ref().map(|turn| turn.urls.clone()).unwrap_or_default(),
        };
        let inner = Arc::new(Mutex::new(Inner { state, hopeless: Vec::new() }));
        Self { inner, layout: plan.layout.clone(), output }
    }

    /// Writes down what happened and tells people.
    pub(super) fn note(&self, report: Report) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match report {
            Report::Started { program, pid } => {
                inner.set_pid(program, Some(pid));
                self.output.event("started", json!({ "program": program, "pid": pid }));
            }
            Report::Died { program, how, code, again_in } => {
                inner.set_pid(program, None);
                inner.died(program, &how, code);
                let pause_ms = u64::try_from(again_in.as_millis()).unwrap_or(u64::MAX);
                self.output.say(format!("{program} {how}; starting it again in {again_in:.1?}"));
                self.output.event(
                    "died",
                    json!({ "program": program, "how": how, "again_in_ms": pause_ms }),
                );
            }
            Report::Stopped { program, clean } => {
                inner.set_pid(program, None);
                self.output.event("program_stopped", json!({ "program": program, "clean": clean }));
            }
        }
        if let Err(why) = inner.state.save(&self.layout) {
            self.output.say(format!("`switchyard status` will be out of date: {why:#}"));
        }
    }

    /// A service is ready.
    pub(super) fn ready(&self, program: &'static str) {
        self.output.event("ready", json!({ "program": program }));
    }

    /// Why a service will not become ready, if that is so.
    pub(super) fn hopeless(&self, program: &str) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.hopeless.iter().find(|(name, _)| *name == program).map(|(_, how)| how.clone())
    }

    /// One word for the table.
    pub(super) fn condition(&self, program: &str) -> &'static str {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.state.services.get(program) {
            Some(service) if service.pid.is_some() => "ready",
            _ => "restarting",
        }
    }

    /// Nothing runs any more.
    pub(super) fn clear(&self) {
        let _ = std::fs::remove_file(self.layout.state()); // nothing was started
    }
}

impl Inner {
    fn set_pid(&mut self, program: &str, pid: Option<u32>) {
        if program == "postgres" {
            self.state.postgres_pid = pid;
        } else if let Some(service) = self.state.services.get_mut(program) {
            service.pid = pid;
        }
    }

    fn died(&mut self, program: &'static str, how: &str, code: Option<i32>) {
        let Some(service) = self.state.services.get_mut(program) else { return };
        service.restarts += 1;
        if code == Some(WRONG_SETTINGS) || service.restarts >= HOPELESS_DEATHS {
            self.hopeless.push((program, how.to_owned()));
        }
    }
}
