//! ICE servers for clients that ask in their register.

use std::time::Duration;

use proto::{
    js::{self, Str},
    signal::PeerId,
};
use sha2::{Digest, Sha256};

/// What clients are told about TURN.
pub(crate) struct IceServers {
    pub(crate) source: turn::Source,
    pub(crate) urls: Vec<String>,
    pub(crate) ttl: Duration,
}

impl IceServers {
    /// The `iceServers` array of `RTCPeerConnection`, with a credential for `peer`.
    pub(crate) fn for_peer(&self, peer: &PeerId, now_ms: i64) -> Vec<u8> {
        // coturn's logs and quotas need one name per peer, not the peer's own.
        let credential = self.source.credential(&short(peer.json()), self.ttl, now_ms);
        self.list(&credential, &[])
    }

    /// The same for the connectivity page: STUN besides, and a credential that works for `ttl` to twice
    /// that. Whoever asks from `address` meanwhile gets the same one.
    pub(crate) fn for_check(&self, address: &str, ttl: Duration, now_ms: i64) -> String {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 4).max(1);
        let since_ms = now_ms - now_ms.rem_euclid(ttl_ms);
        let name = short([b"check ", address.as_bytes()].concat());
        let credential = self.source.credential(&name, ttl * 2, since_ms);
        String::from_utf8_lossy(&self.list(&credential, &self.stun())).into_owned()
    }

    /// Where STUN is: a TURN server over UDP answers it too.
    fn stun(&self) -> Vec<String> {
        let hosts = self.urls.iter().filter_map(|url| {
            let (host, query) = url.strip_prefix("turn:")?.split_once('?').unwrap_or((url, ""));
            let host = host.strip_prefix("turn:").unwrap_or(host);
            (!query.contains("tcp")).then(|| format!("stun:{host}"))
        });
        let mut all: Vec<String> = hosts.collect();
        all.dedup();
        all
    }

    fn list(&self, credential: &turn::Credential, stun: &[String]) -> Vec<u8> {
        let mut out = b"[".to_vec();
        for url in stun {
            out.extend_from_slice(b"{\"urls\":");
            js::string(&Str::from(url.as_str()), &mut out);
            out.extend_from_slice(b"},");
        }
        out.extend_from_slice(b"{\"urls\":[");
        for (index, url) in self.urls.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            js::string(&Str::from(url.as_str()), &mut out);
        }
        out.extend_from_slice(b"],\"username\":");
        js::string(&Str::from(credential.username.as_str()), &mut out);
        out.extend_from_slice(b",\"credential\":");
        js::string(&Str::from(credential.credential.as_str()), &mut out);
        out.extend_from_slice(b"}]");
        out
    }
}

/// One short name for what is long or private.
fn short(of: impl AsRef<[u8]>) -> String {
    Sha256::digest(of).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_the_shape_browsers_take() {
        let ice = IceServers {
            source: turn::Source::Secret("secret".to_owned()),
            urls: vec!["turn:a:3478".into(), "turns:a:5349".into()],
            ttl: Duration::from_secs(3600),
        };
        let json = ice.for_peer(&PeerId::from_wtf8(b"p"), 1_000);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json[0]["urls"], serde_json::json!(["turn:a:3478", "turns:a:5349"]));
        let name = json[0]["username"].as_str().unwrap();
        assert!(name.starts_with("3601:") && name.len() == 5 + 16, "{name}");
        assert_eq!(json[0]["credential"].as_str().unwrap().len(), 28);
    }

    #[test]
    fn a_static_pair_stands_where_a_credential_would() {
        let source = turn::Source::Pair { user: "u\"".to_owned(), password: "p".to_owned() };
        let ice = IceServers { source, urls: vec!["turn:a:3478".into()], ttl: Duration::ZERO };
        let json = ice.for_peer(&PeerId::from_wtf8(b"p"), 1_000);
        let expected = br#"[{"urls":["turn:a:3478"],"username":"u\"","credential":"p"}]"#;
        assert_eq!(json, expected, "{}", String::from_utf8_lossy(&json));
        // Two pages hours apart are told the same.
        let check = |now_ms| ice.for_check("192.0.2.1", Duration::from_mins(2), now_ms);
        assert_eq!(check(0), check(7_200_000));
    }

    #[test]
    fn an_address_that_checks_often_has_one_credential_for_a_while() {
        let ice = IceServers {
            source: turn::Source::Secret("secret".to_owned()),
            urls: ["turn:a:3478", "turn:a:3478?transport=tcp", "turns:a:5349"]
                .map(Into::into)
                .into(),
            ttl: Duration::from_hours(12),
        };
        let check =
            |address, now_s: i64| ice.for_check(address, Duration::from_mins(2), now_s * 1000);
        let first = check("192.0.2.1", 1_210);
        assert_eq!(first, check("192.0.2.1", 1_319));
        assert_ne!(first, check("192.0.2.1", 1_320));
        assert_ne!(first, check("192.0.2.2", 1_210));
        let json: serde_json::Value = serde_json::from_str(&first).unwrap();
        assert_eq!(json[0], serde_json::json!({"urls": "stun:a:3478"}));
        assert_eq!(json[1]["urls"].as_array().unwrap().len(), 3);
        assert!(json[1]["username"].as_str().unwrap().starts_with("1440:"), "{json}");
        assert!(json.get(2).is_none());
    }
}
