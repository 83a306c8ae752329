//! User certificates from files, for `switchyard session-key` and `session-key-util`.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use proto::pad::certificate;

/// The certificate of the content in a file. The content ends before its first NUL, as in the
/// original: it reaches the verifier as an argument, which cannot hold one.
pub(crate) fn issue(secret: &Path, content: &Path) -> anyhow::Result<Vec<u8>> {
    let (secret, mut content) = (read(secret)?, read(content)?);
    if let Some(end) = content.iter().position(|byte| *byte == 0) {
        content.truncate(end);
    }
    Ok(certificate::issue(&secret, &content))
}

/// Whether the certificate in a file was made with the secret in the other.
pub(crate) fn is_valid(secret: &Path, certificate: &Path) -> anyhow::Result<bool> {
    let (secret, certificate) = (read(secret)?, read(certificate)?);
    Ok(certificate::verify(&secret, &certificate).is_ok())
}

/// Writes a certificate to the standard output and nothing behind it: an added newline would be
/// part of the content.
pub(crate) fn print(certificate: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(certificate).and_then(|()| out.flush()).context("cannot write the certificate")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
