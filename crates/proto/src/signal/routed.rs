//! Payloads about other peers: `signal` and `presence_subscribe`.

use std::borrow::Cow;

use super::{
    Code, PeerId, Refusal, Request, Rules,
    peer_id::{is_truthy, lookup_key},
};
use crate::js::{self, Kind, Raw, Value};

/// A signal with a recipient, ready to be passed on.
#[derive(Debug)]
pub struct Signal<'a> {
    /// The whole payload.
    pub payload: Raw<'a>,
    to: Raw<'a>,
}

impl<'a> Signal<'a> {
    /// Checks the payload of a `signal` frame sent by the registered peer `sender`.
    ///
    /// # Errors
    /// `INVALID_SIGNAL`: no `to` (spec 3.5), or under [`Rules::check_from`] another peer's `from`.
    pub fn read(request: &Request<'a>, rules: &Rules, sender: &PeerId) -> Result<Self, Refusal> {
        let to = request.member("to").filter(|to| is_truthy(*to));
        let (Some(payload), Some(to)) = (request.payload, to) else {
            return Err(Refusal::new(Code::InvalidSignal, "Missing \"to\" in payload"));
        };
        let is_other =
            |from: Raw<'_>| from.kind() != Kind::Null && *lookup_key(from) != *sender.json();
        if rules.check_from && request.member("from").is_some_and(is_other) {
            let message = "\"from\" must be the registered peerId";
            return Err(Refusal::new(Code::InvalidSignal, message));
        }
        Ok(Self { payload, to })
    }

    /// The recipient, as [`PeerId`]s are looked up.
    #[must_use]
    pub fn to(&self) -> Cow<'a, [u8]> {
        lookup_key(self.to)
    }

    /// The refusal when nobody of that name is connected.
    #[must_use]
    pub fn not_found(&self) -> Refusal {
        let mut message = b"Peer ".to_vec();
        js::display(Some(&self.to.value()), &mut message);
        message.extend_from_slice(b" not connected");
        Refusal { code: Code::PeerNotFound, message: Cow::Owned(message) }
    }
}

/// Whose comings and goings a socket wants to hear of.
#[derive(Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Everybody's: what every socket starts with.
    Everyone,
    /// Those of these peers.
    Peers(Vec<PeerId>),
}

impl Subscription {
    /// Reads `{"peerIds":[…]}` or `{"all":true}`; repeated ids count once.
    ///
    /// # Errors
    /// `INVALID_SUBSCRIBE`: neither is there, an entry is not a peer id, or there are more than
    /// `max_peers`.
    pub fn read(request: &Request<'_>, rules: &Rules, max_peers: usize) -> Result<Self, Refusal> {
        const LIST: Refusal =
            Refusal::new(Code::InvalidSubscribe, "peerIds must be an array of peer ids");
        if request.member("all").is_some_and(|all| all.text() == b"true") {
            return Ok(Self::Everyone);
        }
        let Some(Value::Array(items)) = request.member("peerIds").map(|list| list.value()) else {
            return Err(LIST);
        };
        if items.len() > max_peers {
            return Err(Refusal::new(Code::InvalidSubscribe, "too many peerIds"));
        }
        let mut peers = Vec::with_capacity(items.len());
        for item in &items {
            let peer = item.as_str().filter(|text| !text.is_empty()).ok_or(LIST)?;
            let peer = PeerId::from_wtf8(peer.as_bytes());
            if peer.json().len() > rules.max_peer_id_bytes {
                return Err(LIST);
            }
            peers.push(peer);
        }
        peers.sort_unstable();
        peers.dedup();
        Ok(Self::Peers(peers))
    }
}
