//! Bytes of a socket to packets and back, for both generations.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use edge::ws::{
    Frame,
    codec::{Decoder, Item, Violation},
};
use proto::pad::{
    cipher::{self, FRAME_HEADER_BYTES, Key, Nonces, Refused},
    tcp, ws,
};

use crate::{Packet, Wire, line::Queued, metrics::Metrics, packet::Carrier};

/// What a client sent.
pub(crate) enum Incoming {
    Packet(Packet),
    /// A message of generation A that is no packet and is answered Error with id 0.
    Malformed,
    /// Nothing that is answered.
    Nothing,
    Ping(Bytes),
    Pong,
    Close(Option<(u16, Bytes)>),
}

/// One connection's decoding and encoding.
pub(crate) enum Codec {
    WebSocket(Decoder),
    /// Boxed: the key's schedule is large beside everything else.
    Encrypted(Box<Encrypted>),
}

pub(crate) struct Encrypted {
    buffer: BytesMut,
    /// `None` inside TLS: a frame's IV and tag mean nothing there.
    seal: Option<(Key, Nonces)>,
    last_id: u8,
}

impl Codec {
    /// For a WebSocket, after its handshake; `early` came right behind it.
    pub(crate) fn websocket(early: BytesMut) -> Self {
        let mut decoder = Decoder::opaque(ws::PACKET_MAX);
        *decoder.buffer_mut() = early;
        Self::WebSocket(decoder)
    }

    /// For an encrypted connection, after its handshake; `early` came right behind it.
    pub(crate) fn encrypted(key: Key, nonces: Nonces, early: BytesMut) -> Self {
        Self::framed(early, Some((key, nonces)))
    }

    /// For packets of the WebSocket generation from another server; nobody masks them.
    pub(crate) fn of_server() -> Self {
        Self::WebSocket(Decoder::of_server(ws::PACKET_MAX))
    }

    /// For packets of the encrypted generation inside TLS.
    pub(crate) fn within_tls(early: BytesMut) -> Self {
        Self::framed(early, None)
    }

    fn framed(buffer: BytesMut, seal: Option<(Key, Nonces)>) -> Self {
        Self::Encrypted(Box::new(Encrypted { buffer, seal, last_id: 0 }))
    }

    pub(crate) fn wire(&self) -> Wire {
        match self {
            Self::WebSocket(_) => Wire::WebSocket,
            Self::Encrypted(_) => Wire::Encrypted,
        }
    }

    /// What has been read and not been decoded yet.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        match self {
            Self::WebSocket(decoder) => decoder.buffer_mut(),
            Self::Encrypted(encrypted) => &mut encrypted.buffer,
        }
    }

    /// How many more bytes the frame that has begun needs, at least.
    pub(crate) fn missing(&self) -> usize {
        match self {
            Self::WebSocket(decoder) => decoder.missing(),
            Self::Encrypted(encrypted) => cipher::frame_bytes(&encrypted.buffer)
                .map_or(1, |bytes| bytes.saturating_sub(encrypted.buffer.len())),
        }
    }

    /// The next thing a client sent; `None` until more is read.
    pub(crate) fn next(&mut self, metrics: &Metrics) -> Result<Option<Incoming>, Violation> {
        match self {
            Self::WebSocket(decoder) => {
                Ok(decoder.next_item()?.map(|item| incoming(item, metrics)))
            }
            Self::Encrypted(encrypted) => Ok(encrypted.next(metrics)),
        }
    }

    /// Appends the bytes of one packet.
    pub(crate) fn encode(&mut self, queued: Queued, out: &mut VecDeque<Bytes>) {
        match (self, queued.carrier) {
            (_, Carrier::WebSocket(frame)) => out.push_back(frame.into_bytes()),
            (Self::Encrypted(encrypted), Carrier::Encrypted(mut frame)) => {
                encrypted.address(&mut frame, queued.own_id);
                // Every packet has a header and none is longer than a frame takes.
                if encrypted.close(&mut frame).is_ok() {
                    out.push_back(frame.freeze());
                }
            }
            (Self::WebSocket(_), Carrier::Encrypted(_)) => {}
        }
    }

    /// The frame of a ping, a pong or a close; generation B has none.
    pub(crate) fn frame(&self, frame: impl FnOnce() -> Frame) -> Option<Bytes> {
        match self {
            Self::WebSocket(_) => Some(frame().into_bytes()),
            Self::Encrypted(_) => None,
        }
    }
}

impl Encrypted {
    fn open(&self, frame: &mut [u8]) -> Result<(), Refused> {
        self.seal.as_ref().map_or(Ok(()), |(key, _)| key.open(frame))
    }

    fn close(&mut self, frame: &mut [u8]) -> Result<(), Refused> {
        match &mut self.seal {
            Some((key, nonces)) => key.seal(nonces, frame),
            None => cipher::put_length(frame),
        }
    }

    fn next(&mut self, metrics: &Metrics) -> Option<Incoming> {
        let mut frame = cipher::split_frame(&mut self.buffer)?;
        Some(match self.open(&mut frame) {
            Ok(()) => match Packet::from_frame(frame) {
                Ok(packet) => Incoming::Packet(packet),
                Err(_) => {
                    metrics.malformed.inc();
                    Incoming::Nothing
                }
            },
            Err(_) => {
                metrics.unreadable.inc();
                Incoming::Nothing
            }
        })
    }

    /// Gives the packet its size and, if it is ours to number, its id.
    fn address(&mut self, frame: &mut [u8], own_id: bool) {
        let begin = FRAME_HEADER_BYTES + tcp::HEADER_BYTES;
        let body_bytes = frame.len().saturating_sub(begin);
        let Some(packet) = frame.get_mut(FRAME_HEADER_BYTES..begin) else { return };
        if own_id {
            self.last_id = tcp::next_id(self.last_id);
        }
        let id = if own_id { self.last_id } else { packet[1] };
        if let Ok(header) = tcp::header(packet[0], id, body_bytes) {
            packet.copy_from_slice(&header);
        }
    }
}

fn incoming(item: Item, metrics: &Metrics) -> Incoming {
    match item {
        Item::Whole(frame) if frame.as_payload().is_empty() => Incoming::Nothing,
        Item::Whole(frame) => match Packet::from_message(frame) {
            Ok(packet) => Incoming::Packet(packet),
            Err(_) => {
                metrics.malformed.inc();
                Incoming::Malformed
            }
        },
        Item::Oversized => {
            metrics.malformed.inc();
            Incoming::Malformed
        }
        Item::Ping(payload) => Incoming::Ping(payload),
        Item::Pong => Incoming::Pong,
        Item::Close(said) => Incoming::Close(said),
        // Not from an opaque decoder.
        Item::Text(_) | Item::Binary(_) => Incoming::Nothing,
    }
}
