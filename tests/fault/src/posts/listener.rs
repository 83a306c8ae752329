//! Somebody who listens, and goes on elsewhere when the stream ends.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use testkit::mesh_client::{Listener, MeshClient};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::ROOM;

/// How long a stream may take to open before the next replica is tried.
const OPENED_WITHIN: Duration = Duration::from_secs(2);

type Bodies = Arc<Mutex<HashSet<String>>>;

/// One listener; ends when dropped.
#[derive(Debug)]
pub(super) struct Ear {
    heard: Bodies,
    tried: Bodies,
    listening: JoinHandle<()>,
}

impl Ear {
    /// Listens at the first place, later at the next.
    pub(super) async fn open(places: Vec<SocketAddr>, tried: Bodies) -> anyhow::Result<Self> {
        let first = places.first().context("a place")?;
        let stream = MeshClient::plain(*first).listen(ROOM, "").await?;
        let heard = Bodies::default();
        let work = listen(places, stream, heard.clone());
        #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
        let listening = tokio::spawn(work);
        Ok(Self { heard, tried, listening })
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, HashSet<String>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything it heard was posted by somebody.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let foreign: Vec<String> = self.heard().difference(&tried).cloned().collect();
        ensure!(foreign.is_empty(), "nobody posted {foreign:?}");
        Ok(())
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(places: Vec<SocketAddr>, mut stream: Listener, heard: Bodies) {
    let mut last = String::new();
    for place in places.iter().cycle().skip(1) {
        loop {
            match stream.post().await {
                Ok(event) => {
                    last = event.id;
                    let body = event.data["body"].as_str().unwrap_or_default().to_owned();
                    heard.lock().unwrap_or_else(PoisonError::into_inner).insert(body);
                }
                // Nobody posts just now; the stream is as good as before.
                Err(why) if why.is::<tokio::time::error::Elapsed>() => {}
                Err(_) => break,
            }
        }
        if let Some(next) = open(*place, &last).await {
            stream = next;
        } else {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn open(place: SocketAddr, last: &str) -> Option<Listener> {
    let more = if last.is_empty() { "since=60".to_owned() } else { format!("last={last}") };
    let client = MeshClient::plain(place);
    timeout(OPENED_WITHIN, client.listen(ROOM, &more)).await.ok()?.ok()
}
