//! Who signed, and whether that key may speak for the peer.

use identity::{Key, Pins, Proof as How};
use proto::base64;
use proto::js::Str;
use proto::relay::Proof;
use proto::sign::KeyCache;

use super::rules::Rules;
use crate::error::Error;

/// Decoded keys remembered; about 350 bytes each.
const KEYS_CACHED: usize = 20_000;

/// Checks signatures and owners.
pub(crate) struct Proofs {
    keys: KeyCache,
    pins: Pins,
    rules: Rules,
}

impl Proofs {
    /// Checks under `rules`, with the owners in `pins`.
    pub(crate) fn new(pins: Pins, rules: Rules) -> Self {
        Self { keys: KeyCache::new(KEYS_CACHED), pins, rules }
    }

    /// The key that signed `message`, given in pieces.
    pub(crate) fn verify(
        &self,
        proof: Option<Proof<'_, '_>>,
        message: &[&[u8]],
    ) -> Result<Key, Error> {
        let proof = proof.ok_or(Error::BadSignature)?;
        let (key, signature) = self.decode(proof)?;
        if !key.verify_parts(message, &signature) {
            return Err(Error::BadSignature);
        }
        Ok(Key::from(*key.as_bytes()))
    }

    /// The key and signature of a proof, not yet checked; for messages that come in pieces.
    pub(crate) fn decode(
        &self,
        proof: Proof<'_, '_>,
    ) -> Result<(proto::sign::PublicKey, Vec<u8>), Error> {
        self.rules.proof(&proof)?;
        let key = self.keys.decode(proof.key).ok_or(Error::BadSignature)?;
        // One signature under a weak key fits every message: it proves nothing.
        if key.is_weak() && !self.rules.open() {
            return Err(Error::BadSignature);
        }
        Ok((key, base64::decode_lenient(proof.signature)))
    }

    /// Lets `key` speak for `peer`, as the first or as before.
    pub(crate) async fn claim(&self, peer: &Str<'_>, key: &Key) -> Result<(), Error> {
        let granted = self.pins.claim(peer.as_bytes(), key, How::Store).await;
        if granted.map_err(storage)? { Ok(()) } else { Err(Error::NotOwnKey) }
    }

    /// Refuses `key` when another owns `peer`; an unowned peer stays unowned.
    pub(crate) async fn respect(&self, peer: &Str<'_>, key: &Key) -> Result<(), Error> {
        match self.pins.owner(peer.as_bytes()).await.map_err(storage)? {
            Some(owner) if owner != *key => Err(Error::NotOwnKey),
            _ => Ok(()),
        }
    }
}

fn storage(error: identity::Error) -> Error {
    match error {
        identity::Error::Storage(cause) => Error::Storage(cause),
        // The rules bound peer ids wherever pins matter.
        identity::Error::PeerLength => Error::BadSignature,
    }
}
