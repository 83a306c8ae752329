//! What the replicas of one signal service tell each other.
//!
//! ```text
//! news = tag:u8  field*        number = 8 or 16 bytes, big-endian        text = length:u32  bytes
//! ```
//! Numbers first, then texts, in the order in which the variants name them. Peer ids are JSON text.

use bytes::{Buf, BufMut, Bytes};

/// Frames one [`News::Kept`] may hold.
const FRAMES_MAX: usize = 65_536;

/// One message between two replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A peer registered at the sender.
    Online {
        /// The registration.
        session: u128,
        /// Its place among all registrations: of two of one peer the higher holds it.
        generation: i64,
        /// Who.
        peer: Bytes,
    },
    /// A session of the sender is over.
    Offline {
        /// Which.
        session: u128,
        /// When, in milliseconds since the epoch.
        at_ms: i64,
        /// It may be resumed there: what is sent to the peer is kept.
        kept: bool,
        /// Who.
        peer: Bytes,
    },
    /// A signal for a peer at the receiver.
    Signal {
        /// Replicas that passed it on before.
        hops: u8,
        /// The recipient.
        to: Bytes,
        /// The replica whose peer sent it, for [`News::Unreached`].
        origin: u128,
        /// Who sent it.
        from: Bytes,
        /// The `error` frame the sender is to get when nobody receives it.
        complaint: Bytes,
        /// The `signal` frame.
        frame: Bytes,
    },
    /// A signal did not reach anybody.
    Unreached {
        /// Who sent it.
        from: Bytes,
        /// The `error` frame for it.
        complaint: Bytes,
    },
    /// A peer came back at the sender with a token of the receiver: it wants what was kept.
    Resume {
        /// Names the answer.
        ask: u128,
        /// The new registration.
        session: u128,
        /// Its place.
        generation: i64,
        /// Who.
        peer: Bytes,
        /// The token.
        token: Bytes,
    },
    /// The answer to [`News::Resume`].
    Kept {
        /// As asked.
        ask: u128,
        /// How many of the frames were handed to the connection that is gone; `None` when the token
        /// stands for nothing.
        sent: Option<u64>,
        /// Who.
        peer: Bytes,
        /// The token.
        token: Bytes,
        /// The frames, oldest first.
        frames: Vec<Bytes>,
    },
}

impl News {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.capacity());
        match self {
            Self::Online { session, generation, peer } => {
                out.put_u8(0);
                out.put_u128(*session);
                out.put_i64(*generation);
                text(peer, &mut out);
            }
            Self::Offline { session, at_ms, kept, peer } => {
                out.put_u8(1);
                out.put_u128(*session);
                out.put_i64(*at_ms);
                out.put_u8(u8::from(*kept));
                text(peer, &mut out);
            }
            Self::Signal { hops, to, origin, from, complaint, frame } => {
                out.put_u8(2);
                out.put_u8(*hops);
                out.put_u128(*origin);
                [to, from, complaint, frame].into_iter().for_each(|part| text(part, &mut out));
            }
            Self::Unreached { from, complaint } => {
                out.put_u8(3);
                text(from, &mut out);
                text(complaint, &mut out);
            }
            Self::Resume { ask, session, generation, peer, token } => {
                out.put_u8(4);
                out.put_u128(*ask);
                out.put_u128(*session);
                out.put_i64(*generation);
                text(peer, &mut out);
                text(token, &mut out);
            }
            Self::Kept { ask, sent, peer, token, frames } => {
                out.put_u8(5);
                out.put_u128(*ask);
                out.put_u64(sent.unwrap_or(u64::MAX));
                text(peer, &mut out);
                text(token, &mut out);
                frames.iter().for_each(|frame| text(frame, &mut out));
            }
        }
        out.into()
    }

    fn capacity(&self) -> usize {
        const NUMBERS: usize = 64;
        NUMBERS
            + match self {
                Self::Online { peer, .. } | Self::Offline { peer, .. } => peer.len(),
                Self::Signal { to, from, complaint, frame, .. } => {
                    to.len() + from.len() + complaint.len() + frame.len()
                }
                Self::Unreached { from, complaint } => from.len() + complaint.len(),
                Self::Resume { peer, token, .. } => peer.len() + token.len(),
                Self::Kept { peer, token, frames, .. } => {
                    let frames: usize = frames.iter().map(|frame| frame.len() + 4).sum();
                    peer.len() + token.len() + frames
                }
            }
    }

    /// Reads what [`News::encode`] wrote; shares its memory. `None` for anything else.
    #[must_use]
    pub fn decode(mut raw: Bytes) -> Option<Self> {
        let news = match raw.try_get_u8().ok()? {
            0 => Self::Online {
                session: raw.try_get_u128().ok()?,
                generation: raw.try_get_i64().ok()?,
                peer: take(&mut raw)?,
            },
            1 => Self::Offline {
                session: raw.try_get_u128().ok()?,
                at_ms: raw.try_get_i64().ok()?,
                kept: raw.try_get_u8().ok()? != 0,
                peer: take(&mut raw)?,
            },
            2 => Self::Signal {
                hops: raw.try_get_u8().ok()?,
                origin: raw.try_get_u128().ok()?,
                to: take(&mut raw)?,
                from: take(&mut raw)?,
                complaint: take(&mut raw)?,
                frame: take(&mut raw)?,
            },
            3 => Self::Unreached { from: take(&mut raw)?, complaint: take(&mut raw)? },
            4 => Self::Resume {
                ask: raw.try_get_u128().ok()?,
                session: raw.try_get_u128().ok()?,
                generation: raw.try_get_i64().ok()?,
                peer: take(&mut raw)?,
                token: take(&mut raw)?,
            },
            5 => Self::Kept {
                ask: raw.try_get_u128().ok()?,
                sent: Some(raw.try_get_u64().ok()?).filter(|sent| *sent != u64::MAX),
                peer: take(&mut raw)?,
                token: take(&mut raw)?,
                frames: {
                    let mut frames = Vec::new();
                    while !raw.is_empty() && frames.len() < FRAMES_MAX {
                        frames.push(take(&mut raw)?);
                    }
                    frames
                },
            },
            _ => return None,
        };
        raw.is_empty().then_some(news)
    }
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

fn take(raw: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(raw.try_get_u32().ok()?).ok()?;
    (length <= raw.len()).then(|| raw.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_come_back_as_they_were_and_cut_ones_do_not() {
        let text = Bytes::from_static;
        let all = [
            News::Online { session: 1, generation: -2, peer: text(b"\"a\"") },
            News::Offline { session: 3, at_ms: 4, kept: true, peer: text(b"5") },
            News::Signal {
                hops: 1,
                to: text(b"\"b\""),
                origin: 6,
                from: text(b"\"a\""),
                complaint: text(b"{}"),
                frame: text(b"{\"v\":\"1\"}"),
            },
            News::Unreached { from: text(b"\"a\""), complaint: text(b"{}") },
            News::Resume { ask: 7, session: 8, generation: 9, peer: text(b"p"), token: text(b"t") },
            News::Kept {
                ask: 7,
                sent: None,
                peer: text(b"p"),
                token: text(b"t"),
                frames: Vec::new(),
            },
        ];
        for news in all {
            let raw = news.encode();
            assert_eq!(News::decode(raw.clone()), Some(news));
            for end in 0..raw.len() {
                assert_eq!(News::decode(raw.slice(..end)), None);
            }
        }
        let frames = vec![text(b"one"), text(b"")];
        let kept =
            News::Kept { ask: 1, sent: Some(1), peer: text(b"p"), token: text(b"t"), frames };
        assert_eq!(News::decode(kept.encode()), Some(kept));
    }
}
