//! Two peers whose pads are linked.

use anyhow::{Context as _, ensure};
use proto::pad::{kind, tcp, ws};
use tokio::net::{TcpListener, TcpStream};

use super::peer::{Packet, Peer, Wire};
use crate::target::Target;

/// Both ends of a link.
pub(crate) struct Pair {
    pub(crate) one: Peer,
    pub(crate) other: Peer,
}

impl Pair {
    /// Opens and links a pair; `nth` decides the addresses.
    pub(crate) async fn open(target: &Target, wire: Wire, nth: usize) -> anyhow::Result<Self> {
        let one = Peer::open(target, 2 * nth, wire, "peer-linker").await?;
        let other = Peer::open(target, 2 * nth + 1, wire, "peer-linker").await?;
        Self::link(one, other, wire).await
    }

    /// Links two peers.
    pub(crate) async fn link(one: Peer, other: Peer, wire: Wire) -> anyhow::Result<Self> {
        let mut pair = Self { one, other };
        match wire {
            Wire::Bare => {}
            Wire::Websocket => pair.link_websocket().await.context("linking")?,
            Wire::Encrypted => pair.link_encrypted().await.context("linking")?,
        }
        ensure!(pair.one.is_drained() && pair.other.is_drained(), "too many packets");
        Ok(pair)
    }

    async fn link_websocket(&mut self) -> anyhow::Result<()> {
        use ws::linker as kinds;
        let (one, other) = names();
        self.one.ask(kinds::REGISTER, 2, one.as_bytes()).await?;
        self.other.ask(kinds::REGISTER, 2, other.as_bytes()).await?;
        let mut link = Vec::new();
        ws::Link { name: other.as_bytes(), secret: b"s" }.encode(&mut link)?;
        self.one.ask(kinds::LINK, 3, &link).await?;
        let asked = self.other.packet().await?;
        ensure!(asked.kind == kinds::LINK_AUTH, "{asked:?}");
        let mut verdict = Vec::new();
        ws::Verdict { ok: 1, name: one.as_bytes() }.encode(&mut verdict);
        self.other.ask(kinds::LINK_AUTH_RESPONSE, 3, &verdict).await?;
        let linked = self.one.packet().await?;
        ensure!(linked.kind == kinds::LINK_SUCCESS, "{linked:?}");
        Ok(())
    }

    async fn link_encrypted(&mut self) -> anyhow::Result<()> {
        use tcp::linker as kinds;
        let (one, other) = names();
        let mut name = Vec::new();
        tcp::push_string(one.as_bytes(), &mut name)?;
        self.one.ask(kinds::REGISTER_PAD, 2, &name).await?;
        name.clear();
        tcp::push_string(other.as_bytes(), &mut name)?;
        self.other.ask(kinds::REGISTER_PAD, 2, &name).await?;
        let mut link = Vec::new();
        tcp::Link { name: other.as_bytes(), secret: b"s" }.encode(&mut link)?;
        let frame = self.one.frame(kinds::LINK, 3, &link)?;
        self.one.send(&frame).await?;
        let asked = self.other.packet().await?;
        ensure!(asked.kind == kinds::AUTH, "{asked:?}");
        let mut response = Vec::new();
        tcp::AuthResponse { requester: one.as_bytes(), ok: true }.encode(&mut response)?;
        let frame = self.other.frame(kinds::AUTH_RESPONSE, 1, &response)?;
        self.other.send(&frame).await?;
        let linked = self.one.packet().await?;
        ensure!(linked == Packet { kind: kind::SUCCESS, id: 3, body: Vec::new() }, "{linked:?}");
        Ok(())
    }
}

/// Names that no other pair has: those of the pair before may not be free yet.
fn names() -> (String, String) {
    let run: u64 = rand::random();
    (format!("bench-{run:016x}-one"), format!("bench-{run:016x}-other"))
}

/// Both ends of a connection with nothing between them.
pub(crate) async fn direct() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (one, (other, _)) = (one?, other?);
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}
