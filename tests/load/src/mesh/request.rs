//! Single requests: posts, credentials, the price, and refusals beside what costs nothing.

use std::time::Duration;

use super::{paid, room, token, written};
use crate::http::{Mode, Plan, drive};
use crate::relay::prepare;
use crate::report::Row;
use crate::target::Target;

/// Hashes a post is worth, enough for rooms that this makes busy; and a credential, whose price is
/// the same all the time.
const WORK: u64 = 64;
const CREDENTIAL_WORK: u64 = 16;
/// Bytes of a post.
const BODY: usize = 600;

/// What is asked for.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Posts, each paid for, to many rooms.
    Post,
    /// TURN credentials, each paid for.
    Credential,
    /// `GET /`.
    Price,
    /// `GET /ip`: the cheapest there is.
    Ip,
    /// Posts whose proof is too little.
    BadProof,
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What to ask for.
    #[arg(long)]
    pub(crate) what: What,
    /// Requests under way at once.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Paid requests prepared; measuring ends with them.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) count: usize,
    /// Seconds at most.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let token = token(target).await?;
    let read = |path: &str| {
        let head = "Host: localhost\r\nAccept: application/json\r\n";
        vec![format!("GET {path} HTTP/1.1\r\n{head}\r\n").into_bytes()]
    };
    let all = |make: &(dyn Fn(usize) -> anyhow::Result<Vec<u8>> + Sync)| {
        prepare::on_both_cores(options.count, make).into_iter().collect::<Result<Vec<_>, _>>()
    };
    let (name, unit, status, expect, requests) = match options.what {
        What::Price => ("mesh price", "answers", 200, "\"token\"", read("/")),
        What::Ip => ("mesh ip", "answers", 200, "\"ip\"", read("/ip")),
        What::Post => {
            let make = |nth: usize| {
                let body = format!("{nth:0BODY$}");
                paid(&format!("/room/{}", room(nth % 2_000)), &token, body.as_bytes(), WORK)
            };
            ("mesh post", "posts", 202, "\"id\"", all(&make)?)
        }
        What::Credential => {
            let make = |_| paid("/token", &token, b"", CREDENTIAL_WORK);
            ("mesh credential", "credentials", 200, "\"password\"", all(&make)?)
        }
        What::BadProof => {
            let body = [b'x'; BODY];
            let path = format!("/room/{}?t={token}&n=0000000000000000", room(0));
            ("mesh bad proof", "refusals", 402, "pow_too_low", vec![written(&path, &body)])
        }
    };
    let plan = Plan {
        mode: Mode::KeepAlive,
        connections: options.connections,
        requests: &requests,
        again: matches!(options.what, What::Price | What::Ip | What::BadProof),
        limit: Duration::from_secs_f64(options.seconds),
        status,
        expect,
    };
    let outcome = drive(target, &plan).await?;
    Ok(Row::new(name, unit, outcome.done, outcome.usage).latencies(outcome.latencies))
}
