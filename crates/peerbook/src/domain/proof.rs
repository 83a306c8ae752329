//! Proof that a connection holds the key of its fingerprint: a signature over our nonce.

use std::sync::Arc;

use proto::book::Fingerprint;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, ring};

use super::{
    Peer,
    book::{Book, has_bearer},
    change::Change,
    connection::Connection,
    secret,
};
use crate::{error::Error, store};

/// First part of what is signed; the parts are separated by a zero byte.
const CONTEXT: &str = "peerbook-pop-v1";
/// Longest certificate looked at, in bytes.
const CERTIFICATE_MAX: usize = 8 * 1024;

/// Signatures taken, with the key kinds WebRTC uses (RFC 8827) and Ed25519.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 4] = [
    ring::ECDSA_P256_SHA256,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
];

/// What a proof is made over: context, host, fingerprint and nonce, separated by zero bytes.
pub(crate) fn statement(host: &str, fp: &Fingerprint, nonce: &str) -> Vec<u8> {
    [CONTEXT, host, fp.as_str(), nonce].join("\0").into_bytes()
}

/// Whether `signature` over `statement` was made by the key of `certificate`, and that is the one
/// of `fp`. The certificate is self-signed: nothing in it is believed but its key.
pub(crate) fn is_valid(
    fp: &Fingerprint,
    certificate: &[u8],
    signature: &[u8],
    statement: &[u8],
) -> bool {
    if certificate.len() > CERTIFICATE_MAX || fp.digest() != Some(secret::hash(certificate)) {
        return false;
    }
    let certificate = CertificateDer::from(certificate);
    let Ok(holder) = EndEntityCert::try_from(&certificate) else { return false };
    ALGORITHMS.iter().any(|kind| holder.verify_signature(*kind, statement, signature).is_ok())
}

impl Book {
    /// Takes a signed proof on a connection; `false` when it proves nothing.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn prove(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        certificate: &[u8],
        signature: &[u8],
    ) -> Result<bool, Error> {
        let fp = &connection.fp;
        let statement = statement(&self.settings.host, fp, &connection.nonce);
        if !is_valid(fp, certificate, signature, &statement) {
            self.metrics.proofs_failed.inc();
            return Ok(false);
        }
        self.take_proof(connection, "challenge").await?;
        Ok(true)
    }

    /// Takes the secret of an earlier approval; `false` when it is not that.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn prove_by_token(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        token: &str,
    ) -> Result<bool, Error> {
        let known = self.verified(&connection.fp).await?;
        if !known.is_some_and(|(_, peer)| has_bearer(&peer, Some(token))) {
            self.metrics.proofs_failed.inc();
            return Ok(false);
        }
        self.take_proof(connection, "bearer").await?;
        Ok(true)
    }

    /// The user a fingerprint is a verified peer of, or else the one it asked last.
    ///
    /// # Errors
    /// The database's.
    #[cfg(feature = "webrtc")]
    pub(crate) async fn known(
        &self,
        fp: &Fingerprint,
    ) -> Result<Option<(super::Account, Peer)>, Error> {
        let known = store::peer::find(&self.pool, fp).await?;
        Ok(known.map(|known| (known.account, known.peer)))
    }

    /// Notes how a peer has proven its fingerprint, for its user to see before and after it is let in.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn note_proof(
        self: &Arc<Self>,
        uid: &str,
        peer: &Peer,
        proof: &'static str,
    ) -> Result<(), Error> {
        if peer.proof.as_deref() == Some(proof) {
            return Ok(());
        }
        self.change(uid, Change::Proven(peer.fp.clone(), proof)).await.map(drop)
    }

    async fn take_proof(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        proof: &'static str,
    ) -> Result<(), Error> {
        connection.set_proven();
        self.metrics.proofs.inc();
        let fp = &connection.fp;
        let Some(known) = store::peer::find(&self.pool, fp).await? else { return Ok(()) };
        let uid = &known.account.uid;
        // Lets the connection in if the proof was all that was missing.
        self.change(uid, Change::Proven(fp.clone(), proof)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_another_fingerprint_or_no_certificate_proves_nothing() {
        let fp = Fingerprint::new(&"AB".repeat(32)).unwrap();
        assert!(!is_valid(&fp, b"", b"", b""));
        assert!(!is_valid(&Fingerprint::new("A").unwrap(), b"x", b"y", b"z"));
        let digest: String =
            secret::hash(b"no certificate").iter().map(|byte| format!("{byte:02X}")).collect();
        let fp = Fingerprint::new(&digest).unwrap();
        assert!(!is_valid(&fp, b"no certificate", b"", b""));
    }

    #[test]
    fn the_parts_of_a_statement_cannot_run_into_each_other() {
        let fp = |text| Fingerprint::new(text).unwrap();
        assert_ne!(statement("a", &fp("bc"), "d"), statement("ab", &fp("c"), "d"));
    }
}
