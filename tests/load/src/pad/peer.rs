//! One connection of either generation, or none at all: as little of each as a generator needs.

use anyhow::{Context as _, bail, ensure};
use proto::pad::cipher::{FRAME_HEADER_BYTES, HANDSHAKE_BYTES, Key, Nonces, Secret, frame_bytes};
use proto::pad::{kind, tcp, ws as packets};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::target::Target;
use crate::ws;

/// What is spoken over a connection.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Nothing but the payload: for the copy relay.
    Bare,
    /// Generation A: WebSocket messages.
    Websocket,
    /// Generation B: encrypted frames over TCP.
    Encrypted,
}

/// A connection, activated unless it is bare.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    talk: Talk,
}

enum Talk {
    Bare,
    Websocket,
    Encrypted(Box<(Key, Nonces)>),
}

/// A packet as both generations have them.
#[derive(Debug, PartialEq)]
pub(crate) struct Packet {
    pub(crate) kind: u16,
    pub(crate) id: u32,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    /// Bytes on the wire when the server delivers a payload of `bytes`.
    pub(crate) fn delivered(self, bytes: usize) -> usize {
        match self {
            Self::Bare => bytes,
            Self::Websocket if packets::HEADER_BYTES + bytes < 126 => {
                2 + packets::HEADER_BYTES + bytes
            }
            Self::Websocket => 4 + packets::HEADER_BYTES + bytes,
            Self::Encrypted => FRAME_HEADER_BYTES + tcp::HEADER_BYTES + bytes,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "copy loop",
            Self::Websocket => "WebSocket",
            Self::Encrypted => "encrypted",
        }
    }
}

impl Peer {
    /// Connects, shakes hands and activates.
    pub(crate) async fn open(
        target: &Target,
        nth: usize,
        wire: Wire,
        program: &str,
    ) -> anyhow::Result<Self> {
        Self::over(target.connect(nth).await?, wire, program).await
    }

    /// As [`Peer::open`], over a connection that is there.
    pub(crate) async fn over(
        mut stream: TcpStream,
        wire: Wire,
        program: &str,
    ) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        let talk = match wire {
            Wire::Bare => Talk::Bare,
            Wire::Websocket => {
                buffer = ws::upgrade(&mut stream, "/", Some(program)).await?;
                Talk::Websocket
            }
            Wire::Encrypted => {
                let secret = Secret::new(rand::random());
                stream.write_all(&secret.hello()).await?;
                let mut hello = [0; HANDSHAKE_BYTES];
                stream.read_exact(&mut hello).await.context("no key")?;
                Talk::Encrypted(Box::new((secret.agree(&hello)?, Nonces::new(rand::random()))))
            }
        };
        let mut peer = Self { stream, buffer, talk };
        if wire != Wire::Bare {
            let certificate = if wire == Wire::Encrypted { &[0, 0][..] } else { &[] };
            peer.ask(kind::ACTIVATE, 1, certificate).await.context("activating")?;
        }
        Ok(peer)
    }

    /// The bytes that carry a packet; WebSocket frames may be sent again and again, and so may
    /// encrypted ones, as no server looks for repetitions.
    pub(crate) fn frame(&mut self, kind: u16, id: u32, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        match &mut self.talk {
            Talk::Bare => Ok(body.to_vec()),
            Talk::Websocket => {
                let mut packet = Vec::new();
                packets::Packet { kind, id, body }.encode(&mut packet)?;
                Ok(ws::message(0x82, &packet))
            }
            Talk::Encrypted(keys) => {
                let mut frame = vec![0; FRAME_HEADER_BYTES];
                let (kind, id) = (u8::try_from(kind)?, u8::try_from(id)?);
                tcp::Packet { kind, id, body }.encode(&mut frame)?;
                keys.0.seal(&mut keys.1, &mut frame)?;
                Ok(frame)
            }
        }
    }

    /// The bytes that carry a payload to the linked peer.
    pub(crate) fn payload(&mut self, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let kind = if matches!(self.talk, Talk::Encrypted(_)) { tcp::linker::PAYLOAD } else { 12 };
        self.frame(kind, 9, body)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Sends a request and waits for its Success.
    pub(crate) async fn ask(&mut self, kind: u16, id: u32, body: &[u8]) -> anyhow::Result<()> {
        let frame = self.frame(kind, id, body)?;
        self.send(&frame).await?;
        let answer = self.packet().await?;
        ensure!(answer.kind == kind::SUCCESS && answer.id == id, "{answer:?}");
        Ok(())
    }

    /// Waits for the next packet.
    pub(crate) async fn packet(&mut self) -> anyhow::Result<Packet> {
        loop {
            let taken = match &self.talk {
                Talk::Bare => bail!("a bare connection has no packets"),
                Talk::Websocket => self.take_message()?,
                Talk::Encrypted(_) => self.take_frame()?,
            };
            if let Some(packet) = taken {
                return Ok(packet);
            }
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server hung up");
        }
    }

    fn take_message(&mut self) -> anyhow::Result<Option<Packet>> {
        let Some((opcode, start, end)) = ws::frame(&self.buffer) else { return Ok(None) };
        ensure!(opcode == 2, "a frame of type {opcode}");
        let packet = packets::Packet::parse(&self.buffer[start..end])?;
        let packet = Packet { kind: packet.kind, id: packet.id, body: packet.body.to_vec() };
        self.buffer.drain(..end);
        Ok(Some(packet))
    }

    fn take_frame(&mut self) -> anyhow::Result<Option<Packet>> {
        let Talk::Encrypted(keys) = &self.talk else { return Ok(None) };
        let Some(length) = frame_bytes(&self.buffer) else { return Ok(None) };
        if self.buffer.len() < length {
            return Ok(None);
        }
        keys.0.open(&mut self.buffer[..length])?;
        let packet = tcp::Packet::parse(&self.buffer[FRAME_HEADER_BYTES..length])?;
        let (kind, id) = (packet.kind.into(), packet.id.into());
        let packet = Packet { kind, id, body: packet.body.to_vec() };
        self.buffer.drain(..length);
        Ok(Some(packet))
    }

    /// Nothing has been read that was not asked for.
    pub(crate) fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_delivery_is_known_beforehand() {
        assert_eq!(Wire::Bare.delivered(64), 64);
        assert_eq!(Wire::Websocket.delivered(64), 2 + 8 + 64);
        assert_eq!(Wire::Websocket.delivered(65_499), 4 + 8 + 65_499);
        assert_eq!(Wire::Encrypted.delivered(65_499), 65_537);
    }
}
