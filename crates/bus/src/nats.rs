//! A NATS server as the bus: core NATS, one connection.

use std::sync::Arc;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::inbox::{Inbox, Scope};
use crate::metrics::{Cause, Metrics};
use crate::outgoing::{Outgoing, Packet, is_stale, time_left};
use crate::{Error, LAST_WORDS, Topic};

/// Bytes of a packet at most, far below the megabyte a server takes by default.
const PACKET_BYTES: usize = 256 << 10;

/// Silence after which the server is asked whether it lives; twice unanswered, the connection is dropped.
const PING: Duration = Duration::from_secs(3);

/// Time an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Packets waiting between the connection and the subscriptions.
const CAPACITY: usize = 8_192;

/// Subjects of one service.
pub(crate) struct Subjects(String);

impl Subjects {
    pub(crate) fn new(namespace: &str, service: &str) -> Self {
        Self(format!("{namespace}.{service}"))
    }

    fn of(&self, topic: Topic) -> String {
        match topic {
            Topic::All => format!("{}.all", self.0),
            Topic::Node(node) => self.node(node),
        }
    }

    /// Where nobody listens.
    fn nobody(&self) -> String {
        format!("{}.nobody", self.0)
    }

    fn node(&self, node: Uuid) -> String {
        format!("{}.node.{}", self.0, node.simple())
    }
}

/// What the backend works with.
pub(crate) struct Parts {
    pub(crate) server: Vec<ServerAddr>,
    pub(crate) subjects: Subjects,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) over: CancellationToken,
}

/// Reads `BUS_URL`.
///
/// # Errors
/// [`Error::Url`], without the text that may hold a password.
pub(crate) fn server(url: &str) -> Result<Vec<ServerAddr>, Error> {
    let one = |part: &str| {
        let known = ["nats://", "tls://"].iter().any(|scheme| part.starts_with(scheme));
        if !known {
            return Err(Error::Url("it does not start with nats:// or tls://".to_owned()));
        }
        let address = part.parse::<ServerAddr>().ok().filter(|address| !address.host().is_empty());
        address.ok_or_else(|| Error::Url("it is no address".to_owned()))
    };
    url.split(',').map(|part| one(part.trim())).collect()
}

/// Who logs in, as the first of the URLs that says so has it: the client takes only the addresses from them.
fn login(servers: &[ServerAddr], options: ConnectOptions) -> ConnectOptions {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let named = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match named {
        Some((user, Some(password))) => options.user_and_password(decoded(user), decoded(password)),
        Some((token, None)) => options.token(decoded(token)),
        None => options,
    }
}

/// Connects, for ever again, and carries messages both ways until it is over.
pub(crate) async fn run(parts: Parts) {
    // How often the connection was made; even a number nobody looked at between is not missed.
    let (made, connections) = watch::channel(0_u64);
    let connected = parts.metrics.connected.clone();
    let options = ConnectOptions::new()
        .name("switchyard")
        .retry_on_initial_connect()
        .no_echo()
        .ping_interval(PING)
        .connection_timeout(ANSWER)
        .subscription_capacity(CAPACITY)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(20 * 2_u64.pow(u32::try_from(attempts.min(6)).unwrap_or(6)))
        })
        .event_callback(move |event| {
            match &event {
                Event::Connected | Event::SlowConsumer(_) => made.send_modify(|count| *count += 1),
                Event::Disconnected | Event::Closed => connected.set(0),
                _ => {}
            }
            tracing::debug!(%event, "NATS");
            std::future::ready(())
        });
    let client = match login(&parts.server, options).connect(parts.server.clone()).await {
        Ok(client) => client,
        Err(why) => {
            // Only what trying again does not change comes here.
            tracing::error!(%why, "no connection to NATS: messages stay on this replica");
            return;
        }
    };
    let (all, own) = match subscribe(&client, &parts).await {
        Ok(subscribed) => subscribed,
        Err(why) => {
            tracing::error!(%why, "no subscription to NATS: messages stay on this replica");
            return;
        }
    };
    let carry = async {
        tokio::join!(
            hear(all, Scope::All, &parts.inbox),
            hear(own, Scope::Node, &parts.inbox),
            watch_connection(&client, connections.clone(), &parts),
            send(&client, connections, &parts),
        )
    };
    parts.over.run_until_cancelled(carry).await;
    if client.connection_state() == State::Connected {
        // What the client has taken may not be on the connection yet, and would go with it.
        let _ = timeout(LAST_WORDS, client.flush()).await;
    }
}

async fn subscribe(
    client: &Client,
    parts: &Parts,
) -> Result<(Subscriber, Subscriber), async_nats::SubscribeError> {
    let all = client.subscribe(parts.subjects.of(Topic::All)).await?;
    let own = client.subscribe(parts.subjects.node(parts.inbox.node())).await?;
    Ok((all, own))
}

async fn hear(mut packets: Subscriber, scope: Scope, inbox: &Inbox) {
    while let Some(packet) = packets.next().await {
        inbox.receive(scope, packet.payload);
    }
}

/// After every connection: whatever was sent in the gap is lost, in both directions.
async fn watch_connection(client: &Client, mut connections: watch::Receiver<u64>, parts: &Parts) {
    let mut first = true;
    while connections.changed().await.is_ok() {
        // Answered behind the subscriptions: from here on nothing is missed.
        while !has_caught_up(client, parts).await {
            sleep(Duration::from_millis(20)).await;
        }
        parts.metrics.connected.set(1);
        parts.inbox.missed(Cause::Connection);
        if !std::mem::take(&mut first) {
            parts.outgoing.note_loss();
        }
    }
}

/// Whether the server has taken everything said to it so far. A flush only tells that it was sent; a request
/// that nobody serves is answered by the server itself, in order.
async fn has_caught_up(client: &Client, parts: &Parts) -> bool {
    let asked = client.request(parts.subjects.nobody(), Bytes::new());
    match timeout(ANSWER, asked).await {
        Ok(Ok(_)) => true,
        Ok(Err(why)) => why.kind() == RequestErrorKind::NoResponders,
        Err(_) => false,
    }
}

async fn send(client: &Client, mut connections: watch::Receiver<u64>, parts: &Parts) {
    loop {
        parts.outgoing.filled().await;
        let room = client.max_payload().saturating_sub(1 << 10).max(1 << 10);
        let packets = parts.outgoing.take(PACKET_BYTES.min(room), false);
        for packet in &packets {
            if !publish(client, &mut connections, parts, packet).await {
                parts.metrics.given_up.inc_by(packet.messages);
                parts.outgoing.note_loss();
            }
        }
        parts.metrics.sent(&packets);
        parts.outgoing.done();
    }
}

/// Hands a packet to the connection, as soon as there is one; `false` when it grew too old.
async fn publish(
    client: &Client,
    connections: &mut watch::Receiver<u64>,
    parts: &Parts,
    packet: &Packet,
) -> bool {
    // The client would keep it for the next connection, however late that comes.
    while client.connection_state() != State::Connected {
        if is_stale(packet) {
            return false;
        }
        let wait = time_left(std::slice::from_ref(packet)).min(Duration::from_millis(100));
        let _ = timeout(wait, connections.changed()).await;
    }
    let subject = parts.subjects.of(packet.topic);
    let published = client.publish(subject, packet.bytes.clone());
    matches!(timeout(ANSWER, published).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_refused_without_being_repeated() {
        assert_eq!(server("nats://a:1, nats://user:pw@b").map(|list| list.len()).ok(), Some(2));
        for url in ["http://u:secret@host", "nats://", "secret"] {
            let why = server(url).expect_err(url).to_string();
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
