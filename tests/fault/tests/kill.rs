//! `kill -9` of a service, or of Postgres under it, in the middle of a load.
//!
//! Invariants, for everything that was answered with success before the kill:
//! 1. An envelope is in its mailbox until it is acknowledged.
//! 2. An acknowledged envelope never comes back, not even as a late copy.
//! 3. A group's members are remembered: a stranger's message is refused.
//! 4. A peer id belongs to the key that first proved itself for it.
//! 5. A chunk of an upload does not have to be sent again, and the finished file is what was sent.
//! 6. A registration proof that was accepted is never accepted again.
//!
//! And the services recover by themselves: nobody restarts a relay because its Postgres died.

use anyhow::ensure;
use fault::relay_load::Load;
use testkit::cluster::Cluster;
use testkit::database::Database;
use testkit::keys::Peer;
use testkit::process::Service;
use testkit::signal_client::{SignalClient, register_payload};
use testkit::time::now_ms;

const WRITERS: usize = 6;

/// Writes confirmed between two kills.
const BETWEEN: usize = 60;

const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_relay_keeps_its_promises() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let mut relay = Service::named("relay").database(&database.url()).start().await?;
    let load = Load::start(relay.address(), WRITERS);
    for _ in 0..KILLS {
        load.progress(BETWEEN).await?;
        relay.kill();
        relay.start_again().await?;
    }
    load.progress(BETWEEN).await?;
    for writer in load.end().await? {
        writer.check().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_keeps_the_relays_promises() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    let database = Database::within(cluster.options()).await?;
    let mut relay = Service::named("relay").database(&database.url()).start().await?;
    let pid = relay.pid();
    let load = Load::start(relay.address(), WRITERS);
    for _ in 0..KILLS {
        load.progress(BETWEEN).await?;
        cluster.kill();
        cluster.start_again().await?;
    }
    load.progress(BETWEEN).await?;
    ensure!(relay.is_running() && relay.pid() == pid, "the relay died with its database");
    relay.ready().await?;
    for writer in load.end().await? {
        writer.check().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_signal_accepts_no_proof_twice() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let mut signal = Service::named("signal").database(&database.url()).start().await?;
    let mut proofs = Vec::new();
    for round in 0..KILLS {
        for place in 0..WRITERS {
            let peer = Peer::random();
            let payload = register_payload(&peer, now_ms(), &format!("nonce-{round}-{place}"));
            let mut client = SignalClient::plain(signal.address()).await?;
            client.send_frame("register", &payload).await?;
            client.next_of("register_ack").await?;
            proofs.push(payload);
        }
        signal.kill();
        signal.start_again().await?;
        for proof in &proofs {
            let mut client = SignalClient::plain(signal.address()).await?;
            client.send_frame("register", proof).await?;
            let error = client.next_of("error").await?;
            ensure!(error["payload"]["code"] == "INVALID_REGISTER_AUTH", "{error}");
        }
        // The peers themselves are welcome again.
        SignalClient::registered(signal.address(), &Peer::random()).await?;
    }
    Ok(())
}
