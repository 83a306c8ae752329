#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod args;
mod bounded;
mod inbox;
mod metrics;
mod nats;
mod outgoing;
mod postgres;
mod subscription;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use service::Context;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use args::BusArgs;
use inbox::Inbox;
use metrics::Metrics;
use outgoing::Outgoing;
pub use subscription::{Event, Message, Subscription};

/// Longest message, in bytes.
pub const MESSAGE_MAX: usize = 8 << 20;

/// How long a message may wait for a connection before it is given up.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// How long [`Bus::finish`] waits for what is queued.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The replica of this number.
    Node(Uuid),
    /// Every replica but the one that publishes.
    All,
}

/// Why a message was not queued. Its receivers are told that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More waits than the queue holds: the backend is away or too slow.
    #[error("too much waits to be sent to other replicas")]
    Full,
    /// Longer than [`MESSAGE_MAX`].
    #[error("the message is too long for the bus")]
    TooLong,
}

/// Why the bus did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `BUS_URL` is not one of a NATS server. The text says why, never what it holds.
    #[error("BUS_URL cannot be used: {0}")]
    Url(String),
    /// A metric's name is taken: one bus per process.
    #[error("the bus is started twice")]
    Metrics(#[from] prometheus::Error),
}

/// This process's place on the bus. Clones share it.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    node: Uuid,
    outgoing: Arc<Outgoing>,
    inbox: Arc<Inbox>,
    /// Ends the tasks.
    over: CancellationToken,
}

impl Bus {
    /// Joins the replicas of the service `cx.name` as `node`, a number no other process has had.
    ///
    /// Does not wait for the backend: [`Event::Resync`] comes when it can be heard. The tasks end with
    /// [`Bus::finish`], or when the process is killed at the end of its grace.
    ///
    /// # Errors
    /// [`Error::Url`]; [`Error::Metrics`] for the second bus of a process.
    pub fn start(args: &BusArgs, node: Uuid, pool: &PgPool, cx: &Context) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::register(&cx.metrics)?);
        let over = cx.stop.killed().child_token();
        let outgoing = Arc::new(Outgoing::new(node, metrics.clone()));
        let inbox = Arc::new(Inbox::new(node, metrics.clone()));
        match &args.bus_url {
            None => postgres::start(&postgres::Parts {
                channels: postgres::Channels::new(cx.name, node),
                pool: pool.clone(),
                outgoing: outgoing.clone(),
                inbox: inbox.clone(),
                metrics,
                over: over.clone(),
                cx: cx.clone(),
            }),
            Some(url) => {
                let server = nats::server(url)?;
                let subjects = nats::Subjects::new(&args.bus_namespace, cx.name);
                let work = nats::run(nats::Parts {
                    server,
                    subjects,
                    outgoing: outgoing.clone(),
                    inbox: inbox.clone(),
                    metrics,
                    over: over.clone(),
                });
                cx.spawn("bus", work);
            }
        }
        Ok(Self(Arc::new(Inner { node, outgoing, inbox, over })))
    }

    /// The number under which others reach this process.
    pub fn node(&self) -> Uuid {
        self.0.node
    }

    /// Queues a message; never waits. What is published to the own node is dropped: that is no
    /// other replica.
    ///
    /// # Errors
    /// When it will not be sent. Who would have received it gets an [`Event::Resync`].
    pub fn publish(&self, topic: Topic, message: Bytes) -> Result<(), Refused> {
        if topic == Topic::Node(self.0.node) {
            return Ok(());
        }
        self.0.outgoing.push(topic, message)
    }

    /// What arrives from now on, for this node and for all.
    pub fn subscribe(&self) -> Subscription {
        self.0.inbox.subscribe()
    }

    /// Sends what is queued, for at most two seconds, then leaves the bus.
    pub async fn finish(&self) {
        if timeout(LAST_WORDS, self.0.outgoing.emptied()).await.is_err() {
            tracing::debug!("left the bus with messages unsent");
        }
        self.0.over.cancel();
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("node", &self.0.node).finish_non_exhaustive()
    }
}
