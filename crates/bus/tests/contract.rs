//! The contract of the README, over each backend.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::time::Duration;

use bus::{Bus, BusArgs, Event, MESSAGE_MAX, Refused, Subscription, Topic};
use bytes::Bytes;
use service::Context;
use sqlx::PgPool;
use testkit::cluster::Cluster;
use testkit::database::Database;
use testkit::nats::Nats;
use tokio::time::timeout;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

/// What carries the messages; kept for as long as the replicas.
enum Backend {
    Postgres(Cluster, Database),
    Nats(Database, Nats),
}

impl Backend {
    async fn postgres() -> Self {
        let cluster = Cluster::start().await.unwrap();
        let database = Database::within(cluster.options()).await.unwrap();
        Self::Postgres(cluster, database)
    }

    async fn nats() -> Self {
        Self::Nats(Database::fresh().await.unwrap(), Nats::start().await.unwrap())
    }

    async fn replica(&self) -> Replica {
        let (pool, bus_url) = match self {
            Self::Postgres(_, database) => (database.pool().await.unwrap(), None),
            Self::Nats(database, nats) => (database.pool().await.unwrap(), Some(nats.url())),
        };
        let args = BusArgs { bus_url, ..BusArgs::default() };
        let mut replica = Replica::join(&args, &pool);
        assert_eq!(replica.next().await, Event::Resync, "the first event");
        replica
    }

    fn kill(&mut self) {
        match self {
            Self::Postgres(cluster, _) => cluster.kill(),
            Self::Nats(_, nats) => nats.kill(),
        }
    }

    async fn start_again(&mut self) {
        match self {
            Self::Postgres(cluster, _) => cluster.start_again().await.unwrap(),
            Self::Nats(_, nats) => nats.start_again().await.unwrap(),
        }
    }
}

struct Replica {
    bus: Bus,
    heard: Subscription,
    cx: Context,
}

impl Replica {
    fn join(args: &BusArgs, pool: &PgPool) -> Self {
        let cx = Context::for_tests();
        let bus = Bus::start(args, Uuid::new_v4(), pool, &cx).unwrap();
        Self { heard: bus.subscribe(), bus, cx }
    }

    fn topic(&self) -> Topic {
        Topic::Node(self.bus.node())
    }

    fn say(&self, topic: Topic, text: impl Into<String>) {
        self.bus.publish(topic, Bytes::from(text.into())).unwrap();
    }

    async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.heard.next()).await.expect("an event in time")
    }

    /// The next message, whatever may be missing before it.
    async fn hear(&mut self) -> String {
        loop {
            if let Event::Message(message) = self.next().await {
                return String::from_utf8(message.bytes.to_vec()).unwrap();
            }
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let families = self.cx.metrics.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.cx.stop.killed().cancel();
    }
}

macro_rules! over_each_backend {
    ($($name:ident => $check:ident;)*) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$check(super::Backend::postgres().await).await; })*
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$check(super::Backend::nats().await).await; })*
        }
    };
}

over_each_backend! {
    messages_go_where_they_are_sent => addressing;
    order_is_kept_under_load => order;
    messages_of_every_size_arrive_whole => sizes;
    too_much_at_once_is_refused_and_told => overflow;
    a_restart_is_survived_and_told => restart;
    a_backend_that_stays_away_costs_messages_not_memory => outage;
    what_is_queued_is_sent_before_leaving => leaving;
}

async fn addressing(backend: Backend) {
    let (mut a, mut b, mut c) =
        (backend.replica().await, backend.replica().await, backend.replica().await);
    a.say(a.topic(), "to myself");
    a.say(b.topic(), "to b");
    a.say(Topic::All, "to all");
    let mut heard = [b.hear().await, b.hear().await];
    heard.sort(); // two topics: no order between them
    assert_eq!(heard, ["to all", "to b"]);
    assert_eq!(c.hear().await, "to all");
    b.say(a.topic(), "to a");
    let Event::Message(message) = a.next().await else { panic!("nothing is missing") };
    assert_eq!(
        (message.from, message.topic, &message.bytes[..]),
        (b.bus.node(), a.topic(), &b"to a"[..])
    );
}

async fn order(backend: Backend) {
    const COUNT: usize = 20_000;
    let (a, mut b, c) = (backend.replica().await, backend.replica().await, backend.replica().await);
    for number in 0..COUNT {
        a.say(b.topic(), format!("a{number}"));
        c.say(Topic::All, format!("c{number}"));
    }
    let mut next = [0, 0];
    while next != [COUNT, COUNT] {
        let Event::Message(message) = b.next().await else {
            panic!("nothing is missing: {next:?}")
        };
        let text = String::from_utf8(message.bytes.to_vec()).unwrap();
        let who = usize::from(text.starts_with('c'));
        assert_eq!(text[1..].parse(), Ok(next[who]), "{text}");
        next[who] += 1;
    }
    assert_eq!(b.metric("bus_lost_total"), 0.0);
}

async fn sizes(backend: Backend) {
    let (a, mut b) = (backend.replica().await, backend.replica().await);
    let sizes = [0, 1, 5_900, 5_960, 8_000, 300_000, MESSAGE_MAX, 10];
    for size in sizes {
        let body: Vec<u8> = (0..size).map(|at| (at * 7 + at / 251) as u8).collect();
        a.bus.publish(b.topic(), body.into()).unwrap();
    }
    for size in sizes {
        let Event::Message(message) = b.next().await else { panic!("nothing is missing") };
        assert_eq!(message.bytes.len(), size);
        assert!(
            message.bytes.iter().enumerate().all(|(at, &byte)| byte == (at * 7 + at / 251) as u8)
        );
    }
    let refused = a.bus.publish(b.topic(), vec![0; MESSAGE_MAX + 1].into());
    assert_eq!(refused, Err(Refused::TooLong));
    assert_eq!(b.next().await, Event::Resync);
}

async fn overflow(backend: Backend) {
    let (a, mut b) = (backend.replica().await, backend.replica().await);
    let mut refused = 0;
    let body = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..64 {
        refused += usize::from(a.bus.publish(b.topic(), body.clone()) == Err(Refused::Full));
    }
    assert!(refused > 0, "64 MiB do not fit 16");
    assert!(a.metric("bus_lost_total") >= refused as f64);
    let (mut arrived, mut told) = (0, false);
    while arrived < 64 - refused || !told {
        match b.next().await {
            Event::Message(message) => arrived += usize::from(message.bytes == body),
            Event::Resync => told = true,
        }
    }
}

async fn restart(mut backend: Backend) {
    let (a, mut b) = (backend.replica().await, backend.replica().await);
    a.say(b.topic(), "before");
    assert_eq!(b.hear().await, "before");
    backend.kill();
    backend.start_again().await;
    // Both have to be back before a message can arrive; until then it may be lost.
    let mut told = false;
    for number in 0.. {
        a.say(b.topic(), format!("after {number}"));
        match timeout(Duration::from_millis(200), b.heard.next()).await {
            Ok(Event::Resync) => told = true,
            Ok(Event::Message(_)) if told => break,
            Ok(Event::Message(message)) => panic!("not told of a loss before {message:?}"),
            Err(_) => assert!(number < 300, "nothing arrives any more"),
        }
    }
}

async fn outage(mut backend: Backend) {
    let (a, mut b) = (backend.replica().await, backend.replica().await);
    backend.kill();
    let body = Bytes::from(vec![0; 64 << 10]);
    let mut refused = false;
    let filled = async {
        while a.metric("bus_lost_total") < 300.0 {
            refused |= a.bus.publish(Topic::All, body.clone()).is_err();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, filled).await.expect("messages are given up");
    assert!(refused, "16 MiB are enough");
    backend.start_again().await;
    let back = async {
        let mut told = false;
        loop {
            let _ = a.bus.publish(b.topic(), Bytes::from_static(b"back")); // may be full for a while
            match timeout(Duration::from_millis(50), b.heard.next()).await {
                Ok(Event::Resync) => told = true,
                Ok(Event::Message(message)) if told && &message.bytes[..] == b"back" => return,
                Ok(Event::Message(_)) | Err(_) => {}
            }
        }
    };
    timeout(PATIENCE, back).await.expect("messages arrive again, and the loss is told");
}

async fn leaving(backend: Backend) {
    let (a, mut b) = (backend.replica().await, backend.replica().await);
    for number in 0..100 {
        a.say(b.topic(), number.to_string());
    }
    a.bus.finish().await;
    for number in 0..100 {
        assert_eq!(b.hear().await, number.to_string());
    }
}

/// The README names what a login needs, and no more.
#[tokio::test]
async fn a_nats_login_needs_its_own_subjects_and_an_inbox() {
    let rights = |subscribe: &str| {
        format!(
            "{{ publish: [\"switchyard.test.>\"], subscribe: [\"switchyard.test.>\"{subscribe}] }}"
        )
    };
    let enough = rights(", \"_INBOX.>\"");
    let configuration = format!(
        "authorization {{ users: [
            {{ user: enough, password: \"p@w\", permissions: {enough} }}
            {{ user: less, password: \"p@w\", permissions: {} }} ] }}",
        rights("")
    );
    let nats = Nats::configured(&configuration).await.unwrap();
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let join = |user: &str| {
        let bus_url = Some(nats.url().replace("nats://", &format!("nats://{user}:p%40w@")));
        Replica::join(&BusArgs { bus_url, ..BusArgs::default() }, &pool)
    };
    let (a, mut b, mut c) = (join("enough"), join("enough"), join("less"));
    assert_eq!(b.next().await, Event::Resync, "the first event");
    a.say(b.topic(), "heard");
    assert_eq!(b.hear().await, "heard");
    // Long after the others are.
    let silence = timeout(Duration::from_secs(2), c.next()).await;
    assert!(silence.is_err(), "not told that it can be heard: {silence:?}");
}
