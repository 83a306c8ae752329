//! The cryptography behind data channels: DTLS by dimpl, hashes by RustCrypto.
//!
//! str0m's own backends reach a second TLS library. Media is never negotiated here, so of SRTP
//! there is what every DTLS handshake does, the derivation of keys, and no cipher.

use std::{sync::Arc, time::Instant};

use aes::cipher::{Block, BlockCipherEncrypt, KeyInit as _};
use hmac::{Hmac, Mac};
use sha1::{Digest, Sha1};
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, CryptoProvider,
    Sha1HmacProvider, Sha1Provider, Sha256Provider, SrtpProvider, SupportedAeadAes128Gcm,
    SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
    dtls::{
        DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion,
        ProtocolVersion,
    },
};

/// Everything str0m asks for.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        srtp_provider: &NoMedia,
        sha1_hmac_provider: &Hashes,
        sha1_provider: &Hashes,
        sha256_provider: &Hashes,
        dtls_provider: &Dtls,
    }
}

/// A certificate for this process: clients know it by the fingerprint in the answer they got.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn certificate() -> Result<DtlsCert, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let made = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?;
    Ok(DtlsCert { certificate: made.der().to_vec(), private_key: key.serialize_der() })
}

#[derive(Debug)]
struct Hashes;

impl Sha1HmacProvider for Hashes {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
        payloads.iter().for_each(|payload| mac.update(payload));
        mac.finalize().into_bytes().into()
    }
}

impl Sha1Provider for Hashes {
    fn sha1(&self, data: &[u8]) -> [u8; 20] {
        Sha1::digest(data).into()
    }
}

impl Sha256Provider for Hashes {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        sha2::Sha256::digest(data).into()
    }
}

#[derive(Debug)]
struct Dtls;

impl DtlsProvider for Dtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        certificate().ok()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        // ICE has seen that the address answers; a cookie would only ask again.
        let mut builder = dimpl::Config::builder().use_server_cookie(false);
        if let Some(mtu) = mtu {
            builder = builder.mtu(mtu);
        }
        let config = builder.build().map_err(|why| CryptoError::Other(why.to_string()))?;
        let (config, cert) = (Arc::new(config), cert.clone());
        let made = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, cert, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, cert, now),
            _ => dimpl::Dtls::new_auto(config, cert, now),
        };
        Ok(Box::new(Handshake(made)))
    }
}

struct Handshake(dimpl::Dtls);

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshake")
    }
}

impl DtlsInstance for Handshake {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buffer)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

/// SRTP as far as a connection without media needs it.
#[derive(Debug)]
struct NoMedia;

impl SrtpProvider for NoMedia {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &NoMedia
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &NoMedia
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &NoMedia
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        encrypt_block::<aes::Aes128>(key, input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        encrypt_block::<aes::Aes256>(key, input, output);
    }
}

fn encrypt_block<C: BlockCipherEncrypt + aes::cipher::KeyInit>(
    key: &[u8],
    input: &[u8],
    output: &mut [u8],
) {
    let cipher = C::new_from_slice(key).expect("a key of this cipher's length");
    let mut block = Block::<C>::try_from(input).expect("one block");
    cipher.encrypt_block(&mut block);
    output[..block.len()].copy_from_slice(&block);
}

/// There is no media: nothing is ever encrypted or decrypted as such.
fn no_media() -> CryptoError {
    CryptoError::Other("no media was negotiated".to_owned())
}

impl SupportedAes128CmSha1_80 for NoMedia {
    fn create_cipher(&self, _: [u8; 16], _: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(Self)
    }
}

impl SupportedAeadAes128Gcm for NoMedia {
    fn create_cipher(&self, _: [u8; 16], _: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Self)
    }
}

impl SupportedAeadAes256Gcm for NoMedia {
    fn create_cipher(&self, _: [u8; 32], _: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Self)
    }
}

impl Aes128CmSha1_80Cipher for NoMedia {
    fn encrypt(&mut self, _: &[u8; 16], _: &[u8], _: &mut [u8]) -> Result<(), CryptoError> {
        Err(no_media())
    }

    fn decrypt(&mut self, _: &[u8; 16], _: &[u8], _: &mut [u8]) -> Result<(), CryptoError> {
        Err(no_media())
    }
}

impl AeadAes128GcmCipher for NoMedia {
    fn encrypt(
        &mut self,
        _: &[u8; 12],
        _: &[u8],
        _: &[u8],
        _: &mut [u8],
    ) -> Result<(), CryptoError> {
        Err(no_media())
    }

    fn decrypt(
        &mut self,
        _: &[u8; 12],
        _: &[&[u8]],
        _: &[u8],
        _: &mut [u8],
    ) -> Result<usize, CryptoError> {
        Err(no_media())
    }
}

impl AeadAes256GcmCipher for NoMedia {
    fn encrypt(
        &mut self,
        _: &[u8; 12],
        _: &[u8],
        _: &[u8],
        _: &mut [u8],
    ) -> Result<(), CryptoError> {
        Err(no_media())
    }

    fn decrypt(
        &mut self,
        _: &[u8; 12],
        _: &[&[u8]],
        _: &[u8],
        _: &mut [u8],
    ) -> Result<usize, CryptoError> {
        Err(no_media())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix C.1 and C.3.
    #[test]
    fn a_block_is_encrypted_as_the_standard_says() {
        let key: Vec<u8> = (0..32).collect();
        let input: Vec<u8> = (0..16).map(|byte| byte * 0x11).collect();
        let mut output = [0; 16];
        NoMedia.srtp_aes_128_ecb_round(&key[..16], &input, &mut output);
        assert_eq!(u128::from_be_bytes(output), 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a);
        NoMedia.srtp_aes_256_ecb_round(&key, &input, &mut output);
        assert_eq!(u128::from_be_bytes(output), 0x8ea2_b7ca_5167_45bf_eafc_4990_4b49_6089);
    }

    /// RFC 2202, case 2.
    #[test]
    fn parts_are_signed_as_one_text() {
        let mac = Hashes.sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..4], [0xef, 0xfc, 0xdf, 0x6a]);
    }
}
