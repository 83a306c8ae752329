//! A client's side of peer-linker and channel-hub, in both generations.
//!
//! [`PadClient`] does what an upstream client does, under the same names for either generation:
//! [activate](PadClient::activate), then pads and links ([`linker`]) or channels and requests
//! ([`hub`]). Whatever an honest client would never send goes through [`PadClient::send`] and
//! [`PadClient::send_raw`].
//!
//! ```no_run
//! # use testkit::pad_client::{Generation, PadClient, Program};
//! # async fn example(linker: std::net::SocketAddr) -> anyhow::Result<()> {
//! let mut alice = PadClient::activated(Generation::Encrypted, Program::PeerLinker, linker).await?;
//! let mut bob = PadClient::activated(Generation::Encrypted, Program::PeerLinker, linker).await?;
//! alice.register_pad(b"alice").await?;
//! bob.register_pad(b"bob").await?;
//! alice.link_to(&mut bob, b"bob", b"our secret").await?;
//! alice.send_payload(b"hello").await?;
//! assert_eq!(&bob.next_payload().await?[..], b"hello");
//! # Ok(()) }
//! ```

mod halves;
pub mod hub;
pub mod linker;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use proto::pad::{kind, tcp};
use tokio::time::timeout;

pub use halves::{PadReceiver, PadSender};

/// How long an expected packet may take; generous, because tests share a machine.
pub const PACKET_WITHIN: Duration = Duration::from_secs(20);

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// A: packets in WebSocket messages.
    WebSocket,
    /// B: packets in encrypted TCP frames.
    Encrypted,
}

impl Generation {
    /// Both, for tests that hold for either.
    pub const BOTH: [Self; 2] = [Self::WebSocket, Self::Encrypted];
}

/// Which server a client talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Pads and links.
    PeerLinker,
    /// Channels and pad requests.
    ChannelHub,
}

impl Program {
    /// The WebSocket subprotocol that has to be asked for.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::PeerLinker => "peer-linker",
            Self::ChannelHub => "channel-hub",
        }
    }
}

/// One packet of either generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The type; the encrypted generation's fits a byte.
    pub kind: u16,
    /// The id; the encrypted generation's fits a byte.
    pub id: u32,
    /// What follows the header.
    pub body: Bytes,
}

/// One connection. Packets that a call was not waiting for are kept, in order, for later calls.
#[derive(Debug)]
pub struct PadClient {
    generation: Generation,
    sender: PadSender,
    receiver: PadReceiver,
    kept: VecDeque<Packet>,
    last_id: u32,
    patience: Duration,
}

impl PadClient {
    /// Connects without TLS; the session is not active yet.
    pub async fn connect(
        generation: Generation,
        program: Program,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let (sender, receiver) = match generation {
            Generation::WebSocket => halves::websocket(program, address).await?,
            Generation::Encrypted => halves::encrypted(address).await?,
        };
        Ok(Self::over(generation, sender, receiver))
    }

    /// Connects with a WebSocket over TLS and accepts any certificate, as upstream clients may.
    pub async fn connect_tls(program: Program, address: SocketAddr) -> anyhow::Result<Self> {
        let (sender, receiver) = halves::websocket_tls(program, address).await?;
        Ok(Self::over(Generation::WebSocket, sender, receiver))
    }

    /// Connects and activates the session with an empty certificate.
    pub async fn activated(
        generation: Generation,
        program: Program,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        Self::activated_with(generation, program, address, b"").await
    }

    /// Connects and activates the session with `certificate`.
    pub async fn activated_with(
        generation: Generation,
        program: Program,
        address: SocketAddr,
        certificate: &[u8],
    ) -> anyhow::Result<Self> {
        let mut client = Self::connect(generation, program, address).await?;
        ensure!(client.activate(certificate).await?, "the certificate is refused");
        Ok(client)
    }

    fn over(generation: Generation, sender: PadSender, receiver: PadReceiver) -> Self {
        let (kept, last_id) = Default::default();
        Self { generation, sender, receiver, kept, last_id, patience: PACKET_WITHIN }
    }

    /// Waits so long for an expected packet instead of [`PACKET_WITHIN`].
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Which protocol it speaks.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Asks the server to activate the session; `false` when it refuses.
    pub async fn activate(&mut self, certificate: &[u8]) -> anyhow::Result<bool> {
        let body = self.string(certificate)?;
        self.ask(kind::ACTIVATE, &body).await
    }

    /// Sends a request and returns its id.
    pub async fn send_request(&mut self, kind: u16, body: &[u8]) -> anyhow::Result<u32> {
        let id = self.next_id();
        self.send(kind, id, body).await?;
        Ok(id)
    }

    /// Sends a request that is answered with Success or Error, and returns which.
    pub async fn ask(&mut self, kind: u16, body: &[u8]) -> anyhow::Result<bool> {
        let id = self.send_request(kind, body).await?;
        self.answer_to(id).await
    }

    /// Whether the request of this id succeeds.
    pub async fn answer_to(&mut self, id: u32) -> anyhow::Result<bool> {
        let answers = |packet: &Packet| packet.kind <= kind::ERROR && packet.id == id;
        Ok(self.wait_for(answers).await?.kind == kind::SUCCESS)
    }

    /// Sends one packet, whatever it is.
    pub async fn send(&mut self, kind: u16, id: u32, body: &[u8]) -> anyhow::Result<()> {
        self.sender.send(kind, id, body).await
    }

    /// Sends these bytes as one WebSocket message, or encrypted as one frame.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.sender.send_raw(bytes).await
    }

    /// Sends these bytes to the socket as they are: no message, no frame, no encryption. Not over TLS.
    pub async fn send_wire(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.sender.send_wire(bytes).await
    }

    /// The next packet, kept ones first.
    pub async fn next(&mut self) -> anyhow::Result<Packet> {
        match self.kept.pop_front() {
            Some(packet) => Ok(packet),
            None => self.receive().await,
        }
    }

    /// The next packet that is `wanted`; others are kept.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Packet) -> bool) -> anyhow::Result<Packet> {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return self.kept.remove(at).context("it is there");
        }
        loop {
            let packet = self.receive().await?;
            if wanted(&packet) {
                return Ok(packet);
            }
            self.kept.push_back(packet);
        }
    }

    /// The next packet of this type; others are kept.
    pub async fn next_of(&mut self, kind: u16) -> anyhow::Result<Packet> {
        self.wait_for(|packet| packet.kind == kind).await
    }

    /// Packets that arrived while others were waited for.
    pub fn kept(&self) -> impl Iterator<Item = &Packet> {
        self.kept.iter()
    }

    /// Waits until the server has ended the connection; packets that come before are dropped. The
    /// code of its close frame, if it sent one.
    pub async fn closed(&mut self) -> anyhow::Result<Option<u16>> {
        let end = async {
            while let Ok(Some(_)) = self.receiver.next().await {}
            self.receiver.close_code()
        };
        timeout(PACKET_WITHIN, end).await.context("the connection stays open")
    }

    /// Says goodbye: a close frame, then the end of the stream.
    pub async fn close(self) -> anyhow::Result<()> {
        self.sender.close().await
    }

    /// Both directions on their own, for streams that go both ways at once. Kept packets are lost.
    pub fn into_halves(self) -> (PadSender, PadReceiver) {
        (self.sender, self.receiver)
    }

    /// The client that two halves of one connection belong to. Its ids begin anew.
    pub fn from_halves(generation: Generation, sender: PadSender, receiver: PadReceiver) -> Self {
        Self::over(generation, sender, receiver)
    }

    /// A body of one string: raw in the WebSocket generation.
    pub fn string(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        match self.generation {
            Generation::WebSocket => Ok(bytes.to_vec()),
            Generation::Encrypted => {
                let mut body = Vec::with_capacity(2 + bytes.len());
                tcp::push_string(bytes, &mut body)?;
                Ok(body)
            }
        }
    }

    fn next_id(&mut self) -> u32 {
        self.last_id = match self.generation {
            Generation::WebSocket => self.last_id.wrapping_add(1),
            Generation::Encrypted => (self.last_id + 1) % 256,
        };
        self.last_id
    }

    async fn receive(&mut self) -> anyhow::Result<Packet> {
        let next = timeout(self.patience, self.receiver.next());
        let next = next.await.with_context(|| format!("no packet; kept {:?}", self.kept))?;
        next?.context("the connection was closed")
    }
}
