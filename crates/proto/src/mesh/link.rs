//! What nodes say to each other: JSON text frames on one WebSocket per pair.
//!
//! ```text
//! acceptor                        dialler
//!   hi {k, c}            ──►
//!                        ◄──      auth {item, c, sig}
//!   ok {sig}             ──►
//!   sub, unsub, post, ack, peers, ping, pong      both ways
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::descriptor::Signed;
use super::proof::{Challenge, Nonce, Proof};
use super::token::{AHEAD_S, LIFE_S, Token};
use super::{BODY_MAX, NodeKey, Room, hex, identity, unhex};
use crate::sign::PublicKey;

/// Bytes a frame may have.
pub const FRAME_MAX: usize = 4_096;
/// Rooms of one `sub` or `unsub`.
pub const ROOMS_PER_FRAME: usize = 50;
/// Seconds of posts a `sub` may ask for again, and how many.
pub const SINCE_MAX_S: u32 = 60;
/// See [`SINCE_MAX_S`].
pub const SINCE_POSTS: usize = 50;
/// How often a post may be passed on.
pub const HOPS_MAX: u8 = 2;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum Frame {
    /// Who accepts the link, and a challenge.
    Hi {
        /// Its key.
        k: String,
        /// 32 random bytes.
        c: String,
    },
    /// Who dials it, with proof.
    Auth {
        /// Its descriptor.
        item: Signed,
        /// A challenge back.
        c: String,
        /// Over [`identity::link`].
        sig: String,
        /// In private networks: over the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    },
    /// The acceptor's proof.
    Ok {
        /// Over [`identity::link_ok`].
        sig: String,
        /// In private networks: over the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    },
    /// Send me what is posted there.
    Sub {
        /// Rooms.
        r: Vec<String>,
        /// And what was in the last so many seconds.
        #[serde(default)]
        since: u32,
    },
    /// No more of these.
    Unsub {
        /// Rooms.
        r: Vec<String>,
    },
    /// A post.
    Post(Post),
    /// What became of a post that was sent with `hop` 1.
    Ack {
        /// Its proof's hash.
        id: String,
        /// Whether it was taken.
        ok: bool,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Posts of the last minute in its room, there.
        n: u32,
    },
    /// Other nodes.
    Peers {
        /// Their descriptors.
        items: Vec<Signed>,
    },
    /// A sign of life.
    Ping(State),
    /// Its answer.
    Pong(State),
}

/// How a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Height of a post to an idle room.
    pub h: u8,
    /// Streams of clients.
    pub subs: u32,
}

/// A post on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The room.
    pub r: String,
    /// The token its client paid with, and the nonce.
    pub tok: String,
    /// See `tok`.
    pub n: String,
    /// The body, base64.
    pub b: String,
    /// When its origin took it, in milliseconds since the epoch.
    pub at: i64,
    /// Key of the origin.
    pub o: String,
    /// The origin's signature over [`identity::post`].
    pub s: String,
    /// 1 from its origin, 2 from a home.
    pub hop: u8,
    /// The homes its origin sent it to: the first 8 bytes of their keys.
    #[serde(default)]
    pub hs: Vec<String>,
}

/// A post that was read; nothing of it is checked but its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The room.
    pub room: Room,
    /// What its client paid with.
    pub token: Token,
    /// The body.
    pub body: Vec<u8>,
    /// When its origin took it.
    pub at_ms: i64,
    /// Who took it.
    pub origin: NodeKey,
    /// That it did.
    pub signature: [u8; 64],
    /// The proof's hash, computed from the rest.
    pub proof: Proof,
}

/// It cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame is malformed")]
pub struct Malformed;

impl Frame {
    /// From a text frame.
    ///
    /// # Errors
    /// When it is too long, no JSON, or of another form.
    pub fn decode(text: &[u8]) -> Result<Self, Malformed> {
        if text.len() > FRAME_MAX {
            return Err(Malformed);
        }
        serde_json::from_slice(text).map_err(|_| Malformed)
    }

    /// To a text frame.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a post's client paid with, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Paid<'p> {
    /// The room.
    pub room: &'p Room,
    /// The token.
    pub token: &'p str,
    /// The nonce.
    pub nonce: Nonce,
    /// The body.
    pub body: &'p [u8],
}

impl Post {
    /// A post on its way out, not addressed yet.
    pub fn new(paid: Paid<'_>, at_ms: i64, origin: &NodeKey, signature: &[u8; 64]) -> Self {
        Self {
            r: paid.room.to_string(),
            tok: paid.token.to_owned(),
            n: hex(&paid.nonce),
            b: STANDARD.encode(paid.body),
            at: at_ms,
            o: hex(origin),
            s: hex(signature),
            hop: 1,
            hs: Vec::new(),
        }
    }

    /// Reads it, and computes its proof's hash.
    ///
    /// # Errors
    /// When a part of it is no such thing, or too long.
    pub fn open(&self) -> Result<Carried, Malformed> {
        let room = Room::parse(&self.r).map_err(|_| Malformed)?;
        let token = Token::read(&self.tok).map_err(|_| Malformed)?;
        let nonce: Nonce = unhex(&self.n).ok_or(Malformed)?;
        let body = STANDARD.decode(&self.b).map_err(|_| Malformed)?;
        if body.len() > BODY_MAX {
            return Err(Malformed);
        }
        let challenge = Challenge::new("POST", &format!("/room/{room}"), &self.tok, &[&body]);
        Ok(Carried {
            proof: challenge.hash(nonce),
            origin: unhex(&self.o).ok_or(Malformed)?,
            signature: unhex(&self.s).ok_or(Malformed)?,
            at_ms: self.at,
            room,
            token,
            body,
        })
    }
}

/// Seconds a token's age may exceed what its own node grants, and its time be ahead.
const LATE_S: u32 = 30;
const EARLY_S: u32 = 30;

impl Carried {
    /// Whether its token is of its origin, and not too old or from the future. Its MAC is for
    /// nobody but the origin to check.
    pub fn is_current(&self, now_s: u32) -> bool {
        const { assert!(AHEAD_S <= EARLY_S) };
        let recent = now_s.saturating_sub(LIFE_S + LATE_S)..=now_s.saturating_add(EARLY_S);
        self.token.is_current()
            && self.token.node == self.origin[..8]
            && recent.contains(&self.token.made_s)
    }

    /// Whether its origin signed it.
    pub fn is_signed(&self, network: &str) -> bool {
        PublicKey::from_bytes(&self.origin).is_some_and(|key| {
            key.verify_strict(&identity::post(network, &self.proof), &self.signature)
        })
    }
}
