//! Peers and signed requests, made before the clock starts.

use std::ops::Range;
use std::time::Duration;

use anyhow::ensure;
use testkit::keys::Peer;
use testkit::relay_client::body;
use testkit::time::now_ms;

use crate::http::{Mode, Outcome, Plan, drive, post};
use crate::target::Target;

/// The size every measurement is about, in bytes before base64.
pub(crate) const PAYLOAD_BYTES: usize = 1024;

/// Peers nobody has seen.
pub(crate) fn peers(count: usize) -> Vec<Peer> {
    (0..count).map(|_| Peer::random()).collect()
}

/// Something incompressible, as ciphertext is.
pub(crate) fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| rand::random()).collect()
}

/// Calls `make` for every number on both cores.
pub(crate) fn on_both_cores<T, F>(count: usize, make: F) -> Vec<T>
where
    T: Send,
    F: Fn(usize) -> T + Sync,
{
    let half = count / 2;
    let some = |range: Range<usize>| range.map(&make).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| some(0..half));
        let second = some(half..count);
        let mut all = first.join().expect("making a request does not panic");
        all.extend(second);
        all
    })
}

/// Store requests from `senders` in turn into `mailboxes` in turn.
pub(crate) fn stores(
    senders: &[Peer],
    mailboxes: &[Peer],
    count: usize,
    mode: Mode,
) -> Vec<Vec<u8>> {
    let (ts, payload) = (now_ms(), payload(PAYLOAD_BYTES));
    let run = &Peer::random().id[..8];
    on_both_cores(count, |nth| {
        let (from, to) = (&senders[nth % senders.len()], &mailboxes[nth % mailboxes.len()]);
        let body = body::store(from, &format!("{run}-{nth}"), &to.id, ts, &payload);
        post("/relay/store", &body, mode)
    })
}

/// Fills one mailbox with `count` messages `prefix-<n>`, unmeasured.
pub(crate) async fn fill(
    target: &Target,
    mailbox: &Peer,
    prefix: &str,
    count: usize,
) -> anyhow::Result<Outcome> {
    let (ts, payload, senders) = (now_ms(), payload(PAYLOAD_BYTES), peers(16));
    let requests = on_both_cores(count, |nth| {
        let from = &senders[nth % senders.len()];
        let body = body::store(from, &format!("{prefix}-{nth}"), &mailbox.id, ts, &payload);
        post("/relay/store", &body, Mode::KeepAlive)
    });
    let plan = Plan {
        mode: Mode::KeepAlive,
        connections: 64,
        requests: &requests,
        again: false,
        limit: Duration::from_secs(300),
        status: 200,
        expect: "\"stored\":true",
    };
    let outcome = drive(target, &plan).await?;
    ensure!(outcome.done == count as u64, "only {} of {count} were stored", outcome.done);
    Ok(outcome)
}
