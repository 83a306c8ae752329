//! A node in the hands of a test: it links as any other, and then sends what it likes.

use anyhow::{Context as _, bail};
use ed25519_dalek::{Signer as _, SigningKey};
use futures_util::{SinkExt as _, StreamExt as _};
use proto::mesh::link::{Frame, Paid, Post};
use proto::mesh::proof::Challenge;
use proto::mesh::token::{Secret, Token};
use proto::mesh::{NodeKey, Room, hex, identity, unhex};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::impostor::{descriptor, now_s};
use super::{Node, ROOM, WITHIN};

/// One link, its other side being a real node.
pub(crate) struct Rogue {
    signing: SigningKey,
    socket: WebSocketStream<TcpStream>,
}

/// What makes a post other than an honest one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Odd {
    /// Seconds its token is old.
    pub(crate) age_s: u32,
    /// Its largest first word; 8 bits of work unless given.
    pub(crate) target: Option<u64>,
    pub(crate) unsigned: bool,
    pub(crate) hop: u8,
    /// With a body no client may send.
    pub(crate) long: bool,
}

impl Rogue {
    /// Links as a node that only dials; `network_key` as the test likes.
    pub(crate) async fn link(
        seed: u8,
        to: &Node,
        network_key: Option<[u8; 32]>,
    ) -> anyhow::Result<Self> {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let tcp = TcpStream::connect(to.service.address()).await?;
        let url = format!("ws://{}/mesh/link", to.service.address());
        let (socket, _) = client_async(url, tcp).await?;
        let mut rogue = Self { signing, socket };
        let Frame::Hi { k, c } = rogue.next().await? else { bail!("no hi") };
        let key: NodeKey = unhex(&k).context("a key")?;
        let theirs: [u8; 32] = unhex(&c).context("a challenge")?;
        let ours = [9; 32];
        let line = identity::link(&key, &theirs, &ours);
        let sig = hex(&rogue.signing.sign(line.as_bytes()).to_bytes());
        let mac = network_key.map(|key| identity::network_mac(&key, &line));
        let item = descriptor(seed, "test", None)?;
        rogue.send(&Frame::Auth { item, c: hex(&ours), sig, mac }).await?;
        match rogue.next().await? {
            Frame::Ok { .. } => Ok(rogue),
            other => bail!("{other:?}"),
        }
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(frame.encode())).await?)
    }

    /// Sends any text.
    pub(crate) async fn send_text(&mut self, text: String) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// The next frame that is no sign of life; an error when the link has ended.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Frame> {
        loop {
            let message =
                timeout(WITHIN, self.socket.next()).await?.context("the link has ended")??;
            match message {
                Message::Text(text) => match Frame::decode(text.as_bytes())? {
                    Frame::Ping(_) | Frame::Pong(_) | Frame::Peers { .. } => {}
                    frame => return Ok(frame),
                },
                Message::Close(_) => bail!("the link was closed"),
                _ => {}
            }
        }
    }

    /// A post that is honest but for `odd`.
    pub(crate) fn post(&self, body: &str, odd: Odd) -> anyhow::Result<Post> {
        let body = if odd.long { &format!("{body:1025}") } else { body };
        let key = self.signing.verifying_key().to_bytes();
        let room = Room::parse(ROOM)?;
        let made_s = u32::try_from(now_s())? - odd.age_s;
        let token = Token::mint(&Secret::new([7; 32]), &key, made_s, rand::random(), None);
        let challenge =
            Challenge::new("POST", &format!("/room/{ROOM}"), &token, &[body.as_bytes()]);
        let target = odd.target.unwrap_or(u64::MAX >> 11);
        let mined = challenge.mine(target, rand::random(), 1 << 24);
        let (nonce, proof) = mined.context("too dear")?;
        let signature = match odd.unsigned {
            true => [7; 64],
            false => self.signing.sign(&identity::post("test", &proof)).to_bytes(),
        };
        let paid = Paid { room: &room, token: &token, nonce, body: body.as_bytes() };
        let post = Post::new(paid, now_s() * 1000, &key, &signature);
        Ok(Post { hop: if odd.hop == 0 { 1 } else { odd.hop }, ..post })
    }
}
