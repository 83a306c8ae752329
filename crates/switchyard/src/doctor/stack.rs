//! What is built and what runs.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Finding, reach};
use crate::layout::Layout;
use crate::ports::{self, Deployed, Service};
use crate::state::State;
use crate::up::programs;
use crate::{clock, http, tls};

const DAY_S: u64 = 86_400;

/// The services' programs beside this one.
pub(super) fn programs() -> Finding {
    const CHECK: &str = "programs";
    let missing: Vec<&str> = Service::ALL
        .iter()
        .map(|service| service.name())
        .filter(|name| programs::beside(name).is_err())
        .collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, "all built");
    }
    let build = missing.iter().map(|name| format!(" -p {name}")).collect::<String>();
    let found = format!("{} not built", missing.join(" and "));
    Finding::broken(CHECK, found, format!("cargo build --release{build}"))
}

/// Ports are free, or ours.
pub(super) fn ports(layout: &Layout, running: Option<u32>, offset: u16) -> Vec<Finding> {
    const CHECK: &str = "ports";
    if running.is_some() {
        return vec![Finding::ok(
            CHECK,
            format!("in use by the stack in {}", layout.data().display()),
        )];
    }
    let places = match ports::places(&[], None, offset, &[]) {
        Ok(places) => places,
        Err(why) => {
            return vec![Finding::broken(CHECK, format!("{why:#}"), "a smaller --port-offset")];
        }
    };
    let finding = match ports::require_free(&places) {
        Ok(()) => Finding::ok(CHECK, "free"),
        Err(why) => {
            let port = places.iter().flat_map(|place| [place.public, place.admin]);
            let taken = port.filter(|address| !ports::is_free(*address)).map(|a| a.port());
            let filter: Vec<String> = taken.map(|port| format!("sport = {port}")).collect();
            let fix = format!("ss -ltnp '{}'   # shows who", filter.join(" or "));
            Finding::broken(CHECK, format!("{why:#}"), fix)
        }
    };
    vec![finding]
}

/// Running services say they are ready.
pub(super) async fn services(layout: &Layout, running: Option<u32>) -> Vec<Finding> {
    let Some(launcher) = running else {
        return vec![Finding::ok("services", "not running")];
    };
    let Ok(state) = State::load(layout) else {
        let found = format!("the launcher (process {launcher}) is still starting");
        return vec![Finding::warn("services", found, "switchyard status")];
    };
    let mut findings = Vec::new();
    for (name, service) in &state.services {
        findings.push(readiness(name, service.admin).await);
    }
    findings
}

/// The same of those that something else than the launcher runs.
pub(super) async fn deployed(services: &[Deployed]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Deployed { service, host, port } in services {
        let name = service.name();
        let admin = reach::addresses(host, *port).await;
        findings.push(match admin.as_deref().map(|all| all.first().copied()) {
            Ok(Some(admin)) => readiness(name, admin).await,
            _ => {
                let fix =
                    format!("getent hosts {host}   # its container, or the name in --service");
                Finding::broken("services", format!("{name}: {host} has no address"), fix)
            }
        });
    }
    findings
}

async fn readiness(name: &str, admin: SocketAddr) -> Finding {
    let answer = http::get(admin, "/readyz", Duration::from_secs(2)).await;
    let fix = format!("curl -s {admin}/readyz   # and look at the lines of `{name}`");
    match answer {
        Ok(answer) if answer.status == 200 => Finding::ok("services", format!("{name} is ready")),
        Ok(answer) => {
            let why = String::from_utf8_lossy(&answer.body).trim().to_owned();
            Finding::broken("services", format!("{name} is not ready: {why}"), fix)
        }
        Err(why) => Finding::broken("services", format!("{name} does not answer: {why:#}"), fix),
    }
}

/// Certificates are valid for a while.
pub(super) fn certificates(layout: &Layout) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    let now_s = clock::since_epoch().as_secs();
    let judge = |certificate: tls::Certificate| {
        let host = &certificate.facts.host;
        let stem = certificate.certificate.with_extension("");
        let fix = format!("rm {}.*   # the next `switchyard up` makes a new one", stem.display());
        match certificate.facts.valid_until_s.checked_sub(now_s).map(|left| left / DAY_S) {
            None => Finding::broken(CHECK, format!("the one for {host} has expired"), fix),
            Some(days) if days < 30 => {
                Finding::warn(CHECK, format!("the one for {host} ends in {days} days"), fix)
            }
            Some(days) => Finding::ok(CHECK, format!("{host}, for {days} more days")),
        }
    };
    tls::all(layout).into_iter().map(judge).collect()
}
