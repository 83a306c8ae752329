//! A self-signed certificate per public name: made once, kept, so that clients may pin it.

use std::path::PathBuf;

use anyhow::Context as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::layout::Layout;
use crate::secrets::write_private;

const DAY: u64 = 86_400;
/// Nobody renews a certificate whose fingerprint others have written down.
const YEARS: i64 = 20;

/// Files of a certificate, and how to recognise it.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// PEM.
    pub(crate) certificate: PathBuf,
    /// PEM, 0600.
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them; 0600.
    pub(crate) both: PathBuf,
    /// What its description file says.
    pub(crate) facts: Facts,
}

/// What is worth knowing without reading the certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The name or address it is for.
    pub(crate) host: String,
    /// SHA-256 of the certificate, as openssl prints it.
    pub(crate) sha256: String,
    /// Last second of its validity, since the epoch.
    pub(crate) valid_until_s: u64,
}

/// The certificate for `host`, made when there is none.
pub(crate) fn keep(layout: &Layout, host: &str) -> anyhow::Result<Certificate> {
    if let Some(found) = load(layout, host) {
        if !found.both.exists() {
            let [chain, key] = [&found.certificate, &found.key].map(std::fs::read);
            write_private(&found.both, &[chain?, key?].concat(), layout.account())?;
        }
        return Ok(found);
    }
    let mut names = vec![host.to_owned()];
    for own in ["localhost", "127.0.0.1", "::1"] {
        if host != own {
            names.push(own.to_owned());
        }
    }
    let mut params =
        CertificateParams::new(names).with_context(|| format!("`{host}` is no name or address"))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, host);
    let now_s = clock::since_epoch().as_secs();
    let (year, month, day) = clock::civil(i64::try_from(now_s / DAY)?);
    let date = |year: i64| anyhow::Ok((i32::try_from(year)?, u8::try_from(month)?));
    let ((from, month), (until, _)) = (date(year - 1)?, date(year + YEARS)?);
    // A day every month has; clocks that are behind by less than a year still accept it.
    let day = u8::try_from(day.min(28))?;
    params.not_before = rcgen::date_time_ymd(from, month, day);
    params.not_after = rcgen::date_time_ymd(until, month, day);
    let valid_until_s = u64::try_from(params.not_after.unix_timestamp())?;
    let key = KeyPair::generate()?; // ECDSA P-256: the cheapest handshake clients agree on
    let certificate = params.self_signed(&key)?;
    let facts =
        Facts { host: host.to_owned(), sha256: fingerprint(certificate.der()), valid_until_s };
    let account = layout.account();
    let (chain, key) = (certificate.pem(), key.serialize_pem());
    let made = files(layout, host, facts);
    write_private(&made.key, key.as_bytes(), account)?;
    write_private(&made.certificate, chain.as_bytes(), account)?;
    write_private(&made.both, (chain + &key).as_bytes(), account)?;
    // Last: what has this file is complete.
    write_private(&facts_file(layout, host), &serde_json::to_vec_pretty(&made.facts)?, account)?;
    Ok(made)
}

/// The certificate for `host`, if one was made.
pub(crate) fn load(layout: &Layout, host: &str) -> Option<Certificate> {
    let facts = std::fs::read(facts_file(layout, host)).ok()?;
    let found = files(layout, host, serde_json::from_slice(&facts).ok()?);
    (found.certificate.exists() && found.key.exists()).then_some(found)
}

/// Every certificate there is.
pub(crate) fn all(layout: &Layout) -> Vec<Certificate> {
    let entries = std::fs::read_dir(layout.tls()).into_iter().flatten().flatten();
    let facts = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "json"));
    let facts =
        facts.filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok());
    facts.filter_map(|facts: Facts| load(layout, &facts.host)).collect()
}

fn files(layout: &Layout, host: &str, facts: Facts) -> Certificate {
    let [certificate, key, both] = ["crt", "key", "pem"].map(|kind| file(layout, host, kind));
    Certificate { certificate, key, both, facts }
}

fn facts_file(layout: &Layout, host: &str) -> PathBuf {
    file(layout, host, "json")
}

fn file(layout: &Layout, host: &str, kind: &str) -> PathBuf {
    // A host is a name or an address: the only character a file name needs replaced is the colon.
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    let stem: String = host.chars().map(safe).collect();
    layout.tls().join(format!("{stem}.{kind}"))
}

fn fingerprint(der: &[u8]) -> String {
    let digest = Sha256::digest(der);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_look_like_openssls() {
        assert!(fingerprint(b"").starts_with("E3:B0:C4:42:98:FC"));
    }
}
