//! Two relays on one database: who waits at one hears of what arrives at the other.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use testkit::database::Database;
use testkit::keys::Peer;
use testkit::process::Service;
use testkit::relay_client::RelayClient;

/// Without a wake-up the mailbox is looked at after two seconds.
const WOKEN_WITHIN: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_is_woken_by_a_store_at_the_other_replica() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let here = Service::named("relay").database(&database.url()).start().await?;
    let there = Service::named("relay").database(&database.url()).start().await?;
    let (waiter, writer) =
        (RelayClient::plain(here.address()), RelayClient::plain(there.address()));
    let (from, to) = (Peer::random(), Peer::random());
    let mut fastest = Duration::MAX;
    let mut after = String::new();
    for round in 0..5 {
        let query = format!("&wait=20&after={after}");
        let wait = async {
            let page = waiter.fetch(&to.id, &query).await?.ok()?;
            anyhow::Ok((page, Instant::now()))
        };
        let store = async {
            while here.metric("relay_long_polls").await? < 1.0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let stored = writer.store(&from, &format!("m{round}"), &to.id, b"x").await?.ok()?;
            ensure!(stored["stored"] == true, "{stored}");
            anyhow::Ok(Instant::now())
        };
        let (waited, stored) = tokio::join!(wait, store);
        let ((page, heard), stored) = (waited?, stored?);
        ensure!(page["messages"][0]["id"] == json!(format!("m{round}")), "{page}");
        after = page["next"].as_str().unwrap_or_default().to_owned();
        fastest = fastest.min(heard.saturating_duration_since(stored));
    }
    ensure!(fastest < WOKEN_WITHIN, "only polling found it: {fastest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_pinned_at_one_replica_is_pinned_at_the_other() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let here = Service::named("relay").database(&database.url()).start().await?;
    let there = Service::named("relay").database(&database.url()).start().await?;
    let (owner, to) = (Peer::random(), Peer::random());
    RelayClient::plain(here.address()).store(&owner, "m", &to.id, b"x").await?.ok()?;
    let thief = Peer::random().with_id(&owner.id);
    let theft = RelayClient::plain(there.address()).store(&thief, "t", &to.id, b"x").await?;
    ensure!(theft.status == 401, "{theft:?}");
    Ok(())
}
