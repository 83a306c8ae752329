//! A peerbook in this process, on a port of its own, and clients of both dialects.
#![allow(dead_code, reason = "every test file uses another part")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use service::Context;
use sqlx::PgPool;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, protocol::CloseFrame},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service and what a test needs of it. Ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) cx: Context,
    pub(crate) pool: PgPool,
}

impl Server {
    /// Starts one with these settings besides the defaults.
    pub(crate) async fn start(pool: &PgPool, settings: &[&str]) -> Self {
        let cx = Context::for_tests();
        let base = ["--listen", "127.0.0.1:0", "--database-url", "postgres:///unused"];
        let config = peerbook::Config::from_args(&[&base, settings].concat());
        let listener = edge::bind(&edge::ListenArgs::at("127.0.0.1:0"), &cx).await.unwrap();
        Self::start_on(cx, listener, pool, config)
    }

    /// Starts one on a listener of the test's.
    #[expect(clippy::disallowed_methods, reason = "a test owns its server")]
    pub(crate) fn start_on(
        cx: Context,
        listener: edge::Listener,
        pool: &PgPool,
        config: peerbook::Config,
    ) -> Self {
        let address = listener.local_addr();
        let (own, within) = (pool.clone(), cx.clone());
        tokio::spawn(async move { peerbook::run(config, own, listener, &within).await.unwrap() });
        Self { address, cx, pool: pool.clone() }
    }

    /// Opens `/ws?<query>`.
    pub(crate) async fn open(&self, query: &str) -> Peer {
        let request = format!("ws://{}/ws?{query}", self.address).into_client_request().unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Peer(socket)
    }

    /// Opens a verified peer's connection in the README's dialect and reads its greeting.
    pub(crate) async fn enter(&self, fp: &str) -> Peer {
        let mut peer = self.open(&format!("fp={fp}")).await;
        assert_eq!(peer.recv().await["code"], 200);
        assert!(peer.recv().await["peers"].is_array());
        let update = peer.recv().await;
        assert_eq!(
            (&update["source_fp"], &update["peer_update"]["online"]),
            (&json!(fp), &json!(true))
        );
        peer
    }

    /// As [`Server::enter`], in the plan's dialect.
    pub(crate) async fn enter_plan(&self, fp: &str) -> Peer {
        let mut peer = self.open(&format!("fingerprint={fp}")).await;
        assert_eq!(peer.recv().await["code"], 200);
        peer
    }

    /// `POST /verify`: status and body.
    pub(crate) async fn verify(&self, body: &Value) -> (u16, Value) {
        let (status, text) = self.request("POST", "/verify", &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// One request over a connection of its own: status and body.
    pub(crate) async fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// A user with verified peers, named as their fingerprints in lower case.
    pub(crate) async fn user(&self, email: &str, fps: &[&str]) -> String {
        for fp in fps {
            let body =
                json!({"fp": fp, "email": email, "name": fp.to_lowercase(), "kind": "webexec"});
            assert_eq!(self.verify(&body).await.0, 200);
        }
        let uid: String =
            sqlx::query_scalar("SELECT uid FROM peerbook.account WHERE email_key = $1")
                .bind(email)
                .fetch_one(&self.pool)
                .await
                .unwrap();
        for fp in fps {
            self.approve_elsewhere(&uid, fp).await;
        }
        uid
    }

    /// Approves a peer as another process would.
    pub(crate) async fn approve_elsewhere(&self, uid: &str, fp: &str) {
        self.change_elsewhere(uid, "verified = true, verified_at = now()", fp).await;
    }

    /// Changes a peer as another process would: rows first, then the word.
    pub(crate) async fn change_elsewhere(&self, uid: &str, what: &str, fp: &str) {
        let mut tx = self.pool.begin().await.unwrap();
        let version: i64 = sqlx::query_scalar(
            "UPDATE peerbook.account SET version = version + 1, changed_at = clock_timestamp(),
             confirmed = true WHERE uid = $1 RETURNING version",
        )
        .bind(uid)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let statement = format!("UPDATE peerbook.peer SET {what} WHERE uid = $1 AND fp = $2");
        let done = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(uid).bind(fp);
        assert_eq!(done.execute(&mut *tx).await.unwrap().rows_affected(), 1);
        tx.commit().await.unwrap();
        sqlx::query("SELECT pg_notify('peerbook_changed', $1)")
            .bind(format!("{version} {uid}"))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// The sum of a metric over its labels, or over those in `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.cx.metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let wanted = metrics.iter().filter(|metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        });
        wanted.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }
}

impl Drop for Server {
    /// Lets go of the database, which the test is about to drop.
    fn drop(&mut self) {
        self.cx.stop.draining().cancel();
        self.cx.stop.killed().cancel();
    }
}

/// One client connection.
pub(crate) struct Peer(pub(crate) WebSocketStream<TcpStream>);

impl Peer {
    /// The next message.
    pub(crate) async fn recv(&mut self) -> Value {
        loop {
            let next =
                tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time");
            match next.expect("an open connection").expect("a whole message") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The close frame, and every message before it.
    pub(crate) async fn closed(&mut self) -> (Vec<Value>, Option<CloseFrame>) {
        let mut before = Vec::new();
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an end in time") {
                Some(Ok(Message::Text(text))) => before.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return (before, frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (before, None),
            }
        }
    }

    /// Sends a value.
    pub(crate) async fn send(&mut self, value: &Value) {
        self.send_text(&value.to_string()).await;
    }

    /// Sends a text as it is.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Sends a value and gives the next message.
    pub(crate) async fn ask(&mut self, value: &Value) -> Value {
        self.send(value).await;
        self.recv().await
    }

    /// Fails if a message has come: everything the server had to say before now is answered by one
    /// echo of our own.
    pub(crate) async fn has_nothing(&mut self) {
        let answer = self.ask(&json!({"target": "nobody-at-all", "offer": "marker"})).await;
        assert!(answer["code"].is_i64() && answer.get("uid").is_none(), "{answer}");
    }

    /// Closes it.
    pub(crate) async fn close(mut self) {
        let _ = self.0.close(None).await;
    }
}

/// Polls until `holds`, for at most twenty seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
