//! Wake-ups: NOTIFY tells that something happened, the tables tell what.
//!
//! A notification is a hint and may be lost with its connection. Every gap is followed by
//! [`Wake::Resync`], upon which the listener looks at the tables; who cannot afford to wait for a
//! broken connection to be noticed polls besides.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Backoff, Spawn};

/// Wake-ups a subscriber may lag behind before it gets a [`Wake::Resync`] instead.
const BACKLOG: usize = 1024;

/// Silence after which the connection is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(5);

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Somebody sent a NOTIFY.
    Notified {
        /// Its channel.
        channel: Arc<str>,
        /// Its payload, at most 8,000 bytes.
        payload: Arc<str>,
    },
    /// Notifications may have been missed: look at the tables.
    Resync,
}

/// The one listening connection of a process, shared by everybody who wants to know.
#[derive(Clone, Debug)]
pub struct Wakeups {
    wakes: broadcast::Sender<Wake>,
}

impl Wakeups {
    /// Listens on `channels` with a connection of its own until `stop`, for ever reconnecting.
    pub fn start(
        pool: &PgPool,
        channels: &[impl AsRef<str>],
        stop: CancellationToken,
        spawn: impl Spawn,
    ) -> Self {
        let wakes = broadcast::Sender::new(BACKLOG);
        let options = pool.connect_options();
        // The listener keeps its connection for ever: it must not be one of the service's.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with((*options).clone());
        let channels = channels.iter().map(|name| name.as_ref().to_owned()).collect();
        let sender = wakes.clone();
        spawn(
            "wakeups",
            Box::pin(async move {
                tokio::select! {
                    () = listen(own.clone(), channels, sender) => {}
                    () = stop.cancelled() => {}
                }
                own.close().await;
            }),
        );
        Self { wakes }
    }

    /// Wake-ups from now on. The first thing to do with one is to look at the tables.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.wakes.subscribe())
    }
}

/// One listener's view; see [`Wakeups::subscribe`].
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Wake>);

impl Subscription {
    /// The next wake-up, or `None` when the process stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<Wake> {
        match self.0.recv().await {
            Ok(wake) => Some(wake),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Wake::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

async fn listen(pool: PgPool, channels: Vec<String>, wakes: broadcast::Sender<Wake>) {
    let mut backoff = Backoff::default();
    loop {
        let why = match begin(&pool, &channels).await {
            Ok(mut listener) => {
                backoff = Backoff::default();
                let _ = wakes.send(Wake::Resync); // nobody listens yet
                relay(&mut listener, &wakes).await
            }
            Err(why) => why,
        };
        tracing::debug!(%why, "wake-ups interrupted");
        sleep(backoff.pause()).await;
    }
}

async fn begin(pool: &PgPool, channels: &[String]) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all(channels.iter().map(String::as_str)).await?;
    Ok(listener)
}

/// Passes notifications on until the connection is lost.
async fn relay(listener: &mut PgListener, wakes: &broadcast::Sender<Wake>) -> sqlx::Error {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                let _ = wakes.send(Wake::Notified {
                    channel: notification.channel().into(),
                    payload: notification.payload().into(),
                });
            }
            Ok(Ok(None)) => return sqlx::Error::WorkerCrashed,
            Ok(Err(why)) => return why,
            Err(_silence) => {
                let asked = sqlx::query("SELECT 1").execute(&mut *listener);
                match timeout(SILENCE, asked).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(why)) => return why,
                    Err(_) => return sqlx::Error::PoolTimedOut,
                }
            }
        }
    }
}
