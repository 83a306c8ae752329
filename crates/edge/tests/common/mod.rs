//! A server in this process, and clients that speak raw bytes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{convert::Infallible, net::SocketAddr, ops::ControlFlow, sync::Arc, time::Duration};

use edge::{
    Body, Client, ListenArgs,
    ws::{self, Close, Ended, Frame, Limits, Message, Outbox, Session},
};
use http::{Request, Response};
use hyper::body::Incoming;
use service::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

/// How long anything in a test may take before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Server {
    pub address: SocketAddr,
    pub cx: Context,
    /// How sessions ended, in order.
    pub ended: mpsc::Receiver<Ended>,
    /// The outbox of each session, in order.
    pub opened: mpsc::Receiver<Outbox>,
}

/// Settings for a port of its own.
pub fn local() -> ListenArgs {
    ListenArgs::at("127.0.0.1:0")
}

pub fn limits() -> Limits {
    Limits { close_timeout: Duration::from_millis(500), ..Limits::default() }
}

/// Serves an echo socket at any path; `/who` answers the client's address, `/slow` after a while.
pub async fn start(args: ListenArgs, limits: Limits) -> Server {
    let cx = Context::for_tests();
    let listener = edge::bind(&args, &cx).await.expect("a free port");
    let address = listener.local_addr();
    let (ended_to, ended) = mpsc::channel(64);
    let (opened_to, opened) = mpsc::channel(64);
    let app = App { cx: cx.clone(), limits: Arc::new(limits), ended: ended_to, opened: opened_to };
    let service = tower::service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let serving = cx.clone();
    cx.spawn("serve", async move {
        edge::serve(listener, service, &serving).await.expect("serves");
    });
    Server { address, cx, ended, opened }
}

impl Server {
    pub async fn ended(&mut self) -> Ended {
        soon(self.ended.recv()).await.expect("a session ended")
    }

    pub async fn outbox(&mut self) -> Outbox {
        soon(self.opened.recv()).await.expect("a session opened")
    }

    /// The value of one metric, labels included in `name`.
    pub fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus::TextEncoder::new().encode_utf8(&self.cx.metrics.gather(), &mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().expect("a whole number")
    }
}

#[derive(Clone)]
struct App {
    cx: Context,
    limits: Arc<Limits>,
    ended: mpsc::Sender<Ended>,
    opened: mpsc::Sender<Outbox>,
}

impl App {
    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            "/who" => {
                let client = request.extensions().get::<Client>().expect("every request has one");
                return Response::new(Body::from(format!("{} {}", client.ip, client.tls)));
            }
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                return Response::new(Body::from("done"));
            }
            "/panic" => panic!("on purpose"),
            "/raw" => {
                let (body, connection) = Body::raw();
                self.cx.spawn("raw", async move {
                    let Ok(edge::Raw { head, mut stream }) = connection.await else { return };
                    stream.write_all(&head).await.expect("writes");
                    stream.write_all(b"all mine").await.expect("writes");
                    stream.shutdown().await.expect("ends");
                });
                return Response::new(body);
            }
            _ => {}
        }
        let (response, upgrading) = match ws::upgrade(request) {
            Ok(upgraded) => upgraded,
            Err(refusal) => return refusal,
        };
        let cx = self.cx.clone();
        cx.spawn("socket", async move {
            let Ok(socket) = upgrading.socket().await else { return };
            let session = |outbox: Outbox| {
                self.opened.try_send(outbox.clone()).expect("the test looks at few");
                Echo { outbox, ended: self.ended }
            };
            ws::pump(socket, self.limits, session, &self.cx).await;
        });
        response
    }
}

struct Echo {
    outbox: Outbox,
    ended: mpsc::Sender<Ended>,
}

impl Session for Echo {
    async fn message(&mut self, message: Message) -> ControlFlow<Close> {
        match message {
            Message::Text(text) if text == "bye" => {
                return ControlFlow::Break(Close::new(4001, "you said so"));
            }
            Message::Text(text) if text.starts_with(b"sleep ") => {
                let millis = std::str::from_utf8(&text[6..]).unwrap().parse().unwrap();
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            Message::Text(text) => drop(self.outbox.send(Frame::text(text))),
            Message::Binary(bytes) => drop(self.outbox.send(Frame::binary(bytes))),
        }
        ControlFlow::Continue(())
    }

    async fn ended(&mut self, how: Ended) {
        let _ = self.ended.try_send(how);
    }
}

pub async fn soon<F: IntoFuture>(what: F) -> F::Output {
    timeout(PATIENCE, what.into_future()).await.expect("in time")
}

/// A WebSocket client that says exactly what it is told.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut tcp = TcpStream::connect(address).await.expect("connects");
        tcp.write_all(HANDSHAKE.as_bytes()).await.expect("writes");
        let mut this = Self(tcp);
        let head = this.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        this
    }

    /// Reads up to the blank line behind a response head.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await.expect("a head"));
        }
        String::from_utf8(head).expect("text")
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.expect("writes");
    }

    /// One frame: its first byte and its payload; `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = soon(self.0.read_u8()).await.ok()?;
        let len = match soon(self.0.read_u8()).await.ok()? {
            126 => usize::from(soon(self.0.read_u16()).await.ok()?),
            127 => usize::try_from(soon(self.0.read_u64()).await.ok()?).unwrap(),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        soon(self.0.read_exact(&mut payload)).await.ok()?;
        Some((first, payload))
    }

    pub async fn text(&mut self) -> String {
        let (first, payload) = self.frame().await.expect("a frame");
        assert_eq!(first, 0x81);
        String::from_utf8(payload).unwrap()
    }

    /// The code of the close frame that comes next (1005 when it has none).
    pub async fn close_code(&mut self) -> u16 {
        match self.frame().await {
            Some((0x88, payload)) if payload.is_empty() => 1005,
            Some((0x88, payload)) => u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("expected a close frame, got {other:?}"),
        }
    }
}

pub const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// A client's frame, masked with a fixed key.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let key = [0x12, 0x34, 0x56, 0x78];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// One request on a connection of its own; the whole answer as text.
pub async fn http(address: SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.expect("connects");
    tcp.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    soon(tcp.read_to_end(&mut answer)).await.expect("reads");
    String::from_utf8(answer).expect("text")
}
