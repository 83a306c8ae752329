//! One link: the handshake of either side, and what carries its frames until it ends.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edge::ws::Upgrading;
use futures_util::{SinkExt as _, StreamExt as _};
use proto::mesh::link::{FRAME_MAX, Frame};
use proto::mesh::{NodeKey, hex, identity, unhex};
use proto::sign::PublicKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::mesh::{Link, OUTBOX, Peer};
use crate::federation::verify::{self, Doubt};
use crate::federation::{carry, linker};
use crate::transport::outgoing::Failed;

/// How long a handshake may take, a look at the other's address included.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between signs of life, and after how much silence a link is dead.
const PING: Duration = Duration::from_secs(15);
const DEAD_MS: i64 = 45_000;
/// How long one write may take.
const WRITE: Duration = Duration::from_secs(20);
/// Bytes tungstenite reads at once; a link is never idle for long.
const READ_BUFFER: usize = 16 * 1024;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoLink {
    #[error(transparent)]
    Doubt(#[from] Doubt),
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("the handshake broke off")]
    Broken,
    #[error("the handshake took too long")]
    Time,
    #[error("the other side does not prove that it is {0}")]
    Proof(&'static str),
    #[error("there is another link to this node, or no room for one")]
    Full,
    #[error("this node cannot describe itself yet")]
    Early,
}

fn settings() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(FRAME_MAX))
        .max_frame_size(Some(FRAME_MAX))
}

/// Dials a node, and carries the link until it ends.
pub(crate) async fn dial(
    app: &Arc<App>,
    peer: &Peer,
    stop: CancellationToken,
) -> Result<(), NoLink> {
    let shaking = async {
        let mut socket = app.outgoing.websocket(&peer.url, "/mesh/link", settings()).await?;
        prove(app, &mut socket, &peer.key).await?;
        Ok::<_, NoLink>(socket)
    };
    let socket = timeout(HANDSHAKE, shaking).await.map_err(|_| NoLink::Time)??;
    run(app, socket, Party { key: peer.key, url: Some(peer.url.clone()), dialled: true }, stop)
        .await
}

/// Accepts a link on a socket that is being upgraded.
pub(crate) async fn accept(app: Arc<App>, upgrading: Upgrading) {
    let stop = app.stop.draining().child_token();
    let shaking = async {
        let (stream, early) = upgrading.socket().await.map_err(|_| NoLink::Broken)?.into_parts();
        let early = early.to_vec();
        let role = Role::Server;
        let mut socket =
            WebSocketStream::from_partially_read(stream, early, role, Some(settings())).await;
        let party = check(&app, &mut socket).await?;
        Ok::<_, NoLink>((socket, party))
    };
    let shaken = match timeout(HANDSHAKE, shaking).await {
        Ok(Ok((socket, party))) => run(&app, socket, party, stop).await,
        Ok(Err(why)) => Err(why),
        Err(_) => Err(NoLink::Time),
    };
    if let Err(why) = shaken {
        tracing::debug!(%why, "a link was refused");
    }
}

/// Who is on the other side.
struct Party {
    key: NodeKey,
    url: Option<String>,
    dialled: bool,
}

/// The dialler's side: shows who we are, and has the other prove that it is `key`.
async fn prove<S>(app: &App, socket: &mut WebSocketStream<S>, key: &NodeKey) -> Result<(), NoLink>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let item = app.descriptor.read().clone().ok_or(NoLink::Early)?;
    let Frame::Hi { k, c } = next(socket).await? else { return Err(NoLink::Broken) };
    let theirs: [u8; 32] = unhex(&c).ok_or(NoLink::Broken)?;
    if unhex(&k) != Some(*key) {
        return Err(NoLink::Proof("who it is said to be"));
    }
    let ours: [u8; 32] = rand::random();
    let line = identity::link(key, &theirs, &ours);
    let sig = hex(&app.node.sign(line.as_bytes()));
    let network_key = app.mesh.rules.network_key;
    let mac = network_key.map(|network_key| identity::network_mac(&network_key, &line));
    send(socket, &Frame::Auth { item, c: hex(&ours), sig, mac }).await?;
    let Frame::Ok { sig, mac } = next(socket).await? else { return Err(NoLink::Broken) };
    let line = identity::link_ok(&app.mesh.rules.key, &ours, &theirs);
    authentic(app, key, &line, &sig, mac.as_deref())
}

/// The acceptor's side: has the other prove who it is, and shows who we are.
async fn check<S>(app: &Arc<App>, socket: &mut WebSocketStream<S>) -> Result<Party, NoLink>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (own, ours) = (app.mesh.rules.key, rand::random::<[u8; 32]>());
    send(socket, &Frame::Hi { k: hex(&own), c: hex(&ours) }).await?;
    let Frame::Auth { item, c, sig, mac } = next(socket).await? else {
        return Err(NoLink::Broken);
    };
    let described = verify::admit(app, &item).await?;
    let theirs: [u8; 32] = unhex(&c).ok_or(NoLink::Broken)?;
    let line = identity::link(&own, &ours, &theirs);
    authentic(app, &described.key, &line, &sig, mac.as_deref())?;
    if let Some(url) = &described.url {
        verify::remember(app, &item, &described).await?;
        let all = app.mesh.view.all();
        if !all.iter().any(|peer| peer.key == described.key && peer.url == *url && peer.fails == 0)
        {
            verify::hello(app, &described.key, url).await?;
        }
    }
    let line = identity::link_ok(&described.key, &theirs, &ours);
    let sig = hex(&app.node.sign(line.as_bytes()));
    let network_key = app.mesh.rules.network_key;
    let mac = network_key.map(|network_key| identity::network_mac(&network_key, &line));
    send(socket, &Frame::Ok { sig, mac }).await?;
    Ok(Party { key: described.key, url: described.url, dialled: false })
}

/// Whether the other side signed a line, and knows the network's key where there is one.
fn authentic(
    app: &App,
    key: &NodeKey,
    line: &str,
    signature: &str,
    mac: Option<&str>,
) -> Result<(), NoLink> {
    let signature: [u8; 64] = unhex(signature).ok_or(NoLink::Broken)?;
    let public = PublicKey::from_bytes(key).ok_or(NoLink::Broken)?;
    if !public.verify_strict(line.as_bytes(), &signature) {
        return Err(NoLink::Proof("who it says it is"));
    }
    match &app.mesh.rules.network_key {
        Some(network_key)
            if !mac.is_some_and(|mac| identity::is_network_mac(network_key, line, mac)) =>
        {
            Err(NoLink::Proof("of this network"))
        }
        _ => Ok(()),
    }
}

/// Carries a link until it ends.
async fn run<S>(
    app: &Arc<App>,
    socket: WebSocketStream<S>,
    party: Party,
    stop: CancellationToken,
) -> Result<(), NoLink>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (outbox, frames) = mpsc::channel(OUTBOX);
    let now_ms = app.node.clock.now_ms();
    let link =
        Arc::new(Link::new(party.key, party.url, party.dialled, outbox, stop.clone(), now_ms));
    if !app.mesh.leads()
        || app.is_cut(&link.key)
        || !app.mesh.links.enter(&link, &app.mesh.rules.key)
    {
        return Err(NoLink::Full);
    }
    tracing::info!(node = %hex(&link.key[..8]), dialled = link.dialled, "linked");
    let heard_ms = AtomicI64::new(app.node.clock.now_ms());
    let pinged_ms = AtomicI64::new(0);
    let (mut sink, mut stream) = socket.split();
    let writing = write(&mut sink, frames);
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            let now_ms = app.node.clock.now_ms();
            heard_ms.store(now_ms, Ordering::Relaxed);
            let frame = match message {
                Message::Text(text) => Frame::decode(text.as_bytes()),
                Message::Close(why) => {
                    let spare = why.is_some_and(|why| why.code == CloseCode::Normal);
                    link.spare.store(spare, Ordering::Relaxed);
                    return ControlFlow::Continue(());
                }
                _ => continue,
            };
            let flow = match frame {
                Ok(frame) => {
                    if matches!(frame, Frame::Pong(_)) {
                        let rtt_ms = now_ms - pinged_ms.load(Ordering::Relaxed);
                        link.rtt_ms.store(rtt_ms, Ordering::Relaxed);
                    }
                    carry::receive(app, &link, frame)
                }
                Err(_) => carry::offend(app, &link, "malformed"),
            };
            if flow.is_break() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let living = async {
        let mut beat = interval(PING);
        loop {
            beat.tick().await;
            let now_ms = app.node.clock.now_ms();
            if now_ms - heard_ms.load(Ordering::Relaxed) > DEAD_MS {
                return;
            }
            pinged_ms.store(now_ms, Ordering::Relaxed);
            link.send(Bytes::from(Frame::Ping(carry::own_state(app)).encode()));
        }
    };
    let conversing = async {
        carry::deliver(app, &link);
        linker::greet(app, &link).await;
        tokio::select! {
            () = writing => {}
            flow = reading => if flow.is_break() {
                linker::ban(app, &link).await;
            },
            () = living => {}
        }
    };
    let _: Option<()> = stop.run_until_cancelled(conversing).await;
    let ended = app.mesh.links.leave(&link);
    tracing::info!(node = %hex(&link.key[..8]), "link ended");
    if let Ok(mut socket) = sink.reunite(stream) {
        // Whoever does not take it finds out by itself.
        let spare = link.spare.load(Ordering::Relaxed);
        let why = CloseFrame { code: CloseCode::Normal, reason: "of no use now".into() };
        let _ = timeout(Duration::from_secs(1), socket.close(spare.then_some(why))).await;
    }
    if ended {
        linker::part(app, &link).await;
    }
    Ok(())
}

type Sink<S> = futures_util::stream::SplitSink<WebSocketStream<S>, Message>;

/// Writes what is queued, as much at once as there is.
async fn write<S>(sink: &mut Sink<S>, mut frames: mpsc::Receiver<Bytes>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(first) = frames.recv().await {
        let batch = async {
            sink.feed(text(first)).await?;
            while let Ok(next) = frames.try_recv() {
                sink.feed(text(next)).await?;
            }
            sink.flush().await
        };
        if !matches!(timeout(WRITE, batch).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn text(frame: Bytes) -> Message {
    // Frames are JSON; what is not UTF-8 is none of ours.
    Message::Text(Utf8Bytes::try_from(frame).unwrap_or_default())
}

async fn send<S>(socket: &mut WebSocketStream<S>, frame: &Frame) -> Result<(), NoLink>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(Message::text(frame.encode())).await.map_err(|_| NoLink::Broken)
}

/// The next frame of a handshake.
async fn next<S>(socket: &mut WebSocketStream<S>) -> Result<Frame, NoLink>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return Frame::decode(text.as_bytes()).map_err(|_| NoLink::Broken);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return Err(NoLink::Broken),
        }
    }
}
