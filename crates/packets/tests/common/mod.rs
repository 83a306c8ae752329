//! A service that shows everything connections can do, served in this process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    io::Write as _,
    net::SocketAddr,
    ops::ControlFlow,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use edge::{Body, ListenArgs, ws::Ended};
use http::{Request, Response};
use hyper::body::Incoming;
use packets::{Client, Close, Id, Line, Opened, Packet, PacketArgs, Packets, Service};
use service::{Clock, Context};
use testkit::pad_client::{Generation, PadClient, Program};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

/// How long anything in a test may take before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// To the other client of the pair, as payload.
pub const PASS: u16 = 16;
/// To the other client, as the service's own packet of the same type.
pub const CONTROL: u16 = 17;
/// As [`CONTROL`], but not before payload.
pub const ORDERED: u16 = 18;
/// Answered with the session's identity.
pub const WHO: u16 = 19;
/// The service closes the connection.
pub const QUIT: u16 = 20;

/// Pairs clients in the order in which they come.
#[derive(Clone)]
pub struct Pairs {
    lines: Arc<Mutex<Vec<Line>>>,
    gone: mpsc::Sender<Ended>,
}

pub struct One {
    pairs: Pairs,
    place: usize,
    identity: Vec<u8>,
}

impl Service for Pairs {
    type Client = One;
    const SUBPROTOCOL: &'static str = "peer-linker";

    fn connect(&self, opened: Opened) -> One {
        let mut lines = self.lines.lock().unwrap();
        lines.push(opened.line);
        let identity = opened.identity.map(|identity| identity.content().to_vec());
        One { pairs: self.clone(), place: lines.len() - 1, identity: identity.unwrap_or_default() }
    }

    async fn http(&self, request: Request<Incoming>) -> Response<Body> {
        Response::new(Body::from(format!("you asked for {}", request.uri().path())))
    }
}

impl Client for One {
    async fn packet(&mut self, packet: Packet, line: &Line) -> ControlFlow<Close> {
        let other = self.pairs.lines.lock().unwrap().get(self.place ^ 1).cloned();
        match (packet.kind, other) {
            (WHO, _) => line.control(WHO, Id::Of(packet.id), &self.identity).unwrap(),
            (QUIT, _) => return ControlFlow::Break(Close::new(4000, "as you wish")),
            (PASS, Some(other)) => {
                if other.payload(packet).is_ok() {
                    let _ = other.ready().await;
                }
            }
            (kind @ CONTROL, Some(other)) => {
                let _ = other.control(kind, Id::Own, packet.body());
            }
            (kind @ ORDERED, Some(other)) => {
                let _ = other.ordered(kind, Id::Own, packet.body());
            }
            (_, _) => line.control(1, Id::Of(packet.id), b"").unwrap(),
        }
        ControlFlow::Continue(())
    }

    async fn gone(&mut self, how: Ended) {
        let _ = self.pairs.gone.try_send(how);
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub cx: Context,
    pairs: Pairs,
    gone: mpsc::Receiver<Ended>,
}

pub async fn start(args: PacketArgs) -> Server {
    start_on(ListenArgs::at("127.0.0.1:0"), args, Clock::system()).await
}

pub async fn start_on(listen: ListenArgs, args: PacketArgs, clock: Clock) -> Server {
    let cx = Context::for_tests().with_clock(clock);
    let listener = edge::bind(&listen, &cx).await.unwrap();
    let address = listener.local_addr();
    let (gone_to, gone) = mpsc::channel(64);
    let pairs = Pairs { lines: Arc::default(), gone: gone_to };
    let packets = Packets::new(&args, &cx).unwrap();
    let (serving, service) = (cx.clone(), pairs.clone());
    cx.spawn("serve", async move {
        packets.serve(listener, service, &serving).await.unwrap();
    });
    Server { address, cx, pairs, gone }
}

impl Server {
    /// A client that has not activated its session.
    pub async fn connect(&self, generation: Generation) -> PadClient {
        PadClient::connect(generation, Program::PeerLinker, self.address).await.unwrap()
    }

    /// An active client.
    pub async fn client(&self, generation: Generation) -> PadClient {
        let mut client = self.connect(generation).await;
        assert!(client.activate(b"").await.unwrap());
        client
    }

    /// A connection that begins with these bytes.
    pub async fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// How the next session ended.
    pub async fn gone(&mut self) -> Ended {
        soon(self.gone.recv()).await.unwrap()
    }

    /// The line of the session that was activated as number `place`.
    pub fn line(&self, place: usize) -> Line {
        self.pairs.lines.lock().unwrap()[place].clone()
    }

    /// The value of one metric, labels included in `name`.
    pub fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus::TextEncoder::new().encode_utf8(&self.cx.metrics.gather(), &mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }

    /// Waits for what only shows in the metrics.
    pub async fn metric_reaches(&self, name: &str, value: u64) {
        soon(async {
            while self.metric(name) < value {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

/// Everything until the end of the stream; a reset counts as one.
pub async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    bytes
}

/// A directory of its own, gone with the value.
pub struct Files(PathBuf);

impl Files {
    pub fn new() -> Self {
        let name = format!("packets-{}-{:x}", std::process::id(), rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// An executable shell script.
    pub fn script(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.0.join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "#!/bin/sh\n{lines}\n").unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
