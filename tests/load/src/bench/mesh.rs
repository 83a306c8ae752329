//! The mesh's node.

use testkit::process::{Builder, Service};

use super::rows::{median, push};
use super::stack::Stack;
use super::{Options, progress};
use crate::mesh::request::What;
use crate::mesh::{deliver, idle, request};
use crate::report::Row;

pub(super) async fn rows(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let sections = ["mesh-request", "mesh-deliver", "mesh-idle"];
    if !sections.iter().any(|section| options.wants(section)) {
        return Ok(());
    }
    let stack = Stack::start().await?;
    if options.wants("mesh-request") {
        requests(options, &stack, rows).await?;
        refusals(options, &stack, rows).await?;
    }
    if options.wants("mesh-deliver") {
        let seconds = options.seconds();
        let each = deliver::Options { rooms: 4, listeners: 250, posts: 60, seconds };
        let run = async || {
            let service = stack.service(settings()).await?;
            deliver::run(&stack.target(&service), &each).await
        };
        push(rows, median(options, run).await?);
    }
    if options.wants("mesh-idle") {
        let each = idle::Options { streams: options.size(10_000, 1_000), per_room: 10 };
        let service = stack.service(settings()).await?;
        push(rows, idle::run(&stack.target(&service), &each).await?);
    }
    Ok(())
}

async fn requests(options: &Options, stack: &Stack, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    for what in [What::Post, What::Credential, What::Price] {
        let seconds = options.seconds();
        let count = (20_000.0 * seconds) as usize;
        let each = request::Options { what, connections: 32, count, seconds };
        let run = async || {
            let service = stack.service(settings()).await?;
            request::run(&stack.target(&service), &each).await
        };
        push(rows, median(options, run).await?);
    }
    Ok(())
}

/// A refused post beside the cheapest answer there is, by the CPU time of each.
async fn refusals(options: &Options, stack: &Stack, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let (mut ips, mut refusals) = (Vec::new(), Vec::new());
    let service = stack.service(settings().set("POW_MIN", 40).set("POW_MAX", 40)).await?;
    let target = stack.target(&service);
    for _ in 0..options.rounds() {
        for (what, all) in [(What::Ip, &mut ips), (What::BadProof, &mut refusals)] {
            let seconds = options.seconds();
            let each = request::Options { what, connections: 32, count: 0, seconds };
            all.push(request::run(&target, &each).await?);
            all.last().into_iter().for_each(progress);
        }
    }
    let (ip, mut refusal) = (Row::median(ips), Row::median(refusals));
    if let (Some(ip), Some(refusal)) = (&ip, &mut refusal) {
        refusal.ratio = refusal.server_cpu_us.zip(ip.server_cpu_us).map(|(a, b)| a / b);
    }
    rows.extend(ip);
    rows.extend(refusal);
    Ok(())
}

/// The defaults, with the least price, no load, no DHT, and limits raised that exist to stop
/// what this program does.
fn settings() -> Builder {
    let raised = [
        "ADDRESS_POSTS",
        "MAX_STREAMS_PER_ADDRESS",
        "MAX_ROOMS_PER_ADDRESS",
        "MAX_STREAMS",
        "ROOM_POSTS_PER_MINUTE",
    ];
    let settings = Service::named("mesh")
        .set("DHT", "off")
        .set("POW_MIN", 0)
        .set("LOAD_FILE", "/dev/null")
        .set("TURN_SECRET", "a secret for the bench")
        .set("TURN_URLS", "turn:127.0.0.1:3478");
    raised.into_iter().fold(settings, |settings, limit| settings.set(limit, 1_000_000))
}
