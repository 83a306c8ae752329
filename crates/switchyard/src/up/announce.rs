//! What `up` says once everything runs.

use serde_json::json;

use super::board::Board;
use super::plan::Plan;
use crate::link::Config;
use crate::output::{Output, colourful};
use crate::ports::Service;
use crate::table;

/// The table.
pub(super) fn services(plan: &Plan, board: &Board, output: &Output, ready_ms: u128) {
    let rows: Vec<[String; 4]> = plan
        .services
        .iter()
        .map(|planned| {
            [
                planned.place.service.name().to_owned(),
                planned.url.clone(),
                planned.place.admin.to_string(),
                board.condition(planned.place.service.name()).to_owned(),
            ]
        })
        .collect();
    output.say(format!("\n{}\n", table::render(["service", "url", "admin", "state"], &rows)));
    let seconds = ready_ms / 1000;
    output.say(format!("ready after {seconds}.{} s", ready_ms % 1000 / 100));
    let urls = plan.services.iter().map(|planned| {
        let place = &planned.place;
        (place.service.name(), json!({ "url": planned.url, "admin": place.admin.to_string() }))
    });
    let services: serde_json::Map<_, _> =
        urls.map(|(name, value)| (name.to_owned(), value)).collect();
    output.event("up", json!({ "ready_ms": ready_ms, "services": services }));
}

/// How apps get here.
pub(super) fn link(plan: &Plan, output: &Output) {
    if plan.public.is_none() {
        output.say("for other machines: --public HOST prints the link and QR code for the app");
        return;
    }
    if let Some(missing) = plan.front.missing() {
        output.say(missing);
    }
    // TURN credentials expire, so they are handed out at registration and are no part of a link.
    let config = Config::new(plan.urls(Service::Signal), plan.urls(Service::Relay), Vec::new());
    let link = config.link();
    let sha256 = &plan.certificate.facts.sha256;
    output.say(format!("certificate SHA-256  {sha256}"));
    output.say(format!("\n{link}\n"));
    if let Some(code) = config.qr(colourful()) {
        output.say(code);
    }
    output.event("public", json!({ "link": link, "certificate_sha256": sha256 }));
}
