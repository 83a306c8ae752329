//! The encryption of generation B, written once more from its description: what the server's own
//! code gets wrong in both directions would not show otherwise.

use anyhow::{Context as _, ensure};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::{SecureRandom as _, SystemRandom};

const IV: usize = 16;
const TAG: usize = 16;

/// The client's half of a handshake.
pub(crate) struct Handshake {
    private: EphemeralPrivateKey,
    /// What goes to the server.
    pub(crate) public: Vec<u8>,
}

/// Seals and opens the frames of one connection.
pub(crate) struct Cipher {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Handshake {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new());
        let private = private.ok().context("no randomness")?;
        let public = private.compute_public_key().ok().context("no public key")?;
        Ok(Self { private, public: public.as_ref().to_vec() })
    }

    /// The shared secret is the key as it is.
    pub(crate) fn finish(self, server: &[u8]) -> anyhow::Result<Cipher> {
        let server = UnparsedPublicKey::new(&X25519, server);
        let agreed = agree_ephemeral(self.private, &server, |secret| secret.try_into());
        let secret: Result<[u8; 32], _> = agreed.ok().context("no key of the server's")?;
        Ok(Cipher::new(&secret?))
    }
}

impl Cipher {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, secret).expect("32 bytes are a key");
        Self { key: LessSafeKey::new(key), random: SystemRandom::new() }
    }

    /// A frame without its length: IV, tag, ciphertext.
    pub(crate) fn seal(&mut self, packet: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut iv = [0; IV];
        self.random.fill(&mut iv).ok().context("no randomness")?;
        let nonce = Nonce::try_assume_unique_for_key(&iv[..12]).ok().context("a nonce")?;
        let mut text = packet.to_vec();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut text);
        Ok([&iv[..], tag.ok().context("sealing")?.as_ref(), &text].concat())
    }

    /// The packet in a frame without its length.
    pub(crate) fn open(&mut self, frame: &[u8]) -> anyhow::Result<Vec<u8>> {
        ensure!(frame.len() > IV + TAG, "a frame of {} bytes", frame.len());
        let nonce = Nonce::try_assume_unique_for_key(&frame[..12]).ok().context("a nonce")?;
        let mut text = [&frame[IV + TAG..], &frame[IV..IV + TAG]].concat();
        let opened = self.key.open_in_place(nonce, Aad::empty(), &mut text);
        Ok(opened.ok().context("the tag does not fit")?.to_vec())
    }
}
