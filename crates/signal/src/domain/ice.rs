//! ICE servers for clients that ask in their register.

use std::time::Duration;

use proto::{
    js::{self, Str},
    signal::PeerId,
};
use sha2::{Digest, Sha256};

/// Mints TURN credentials from the secret shared with coturn.
pub(crate) struct IceServers {
    pub(crate) secret: Vec<u8>,
    pub(crate) urls: Vec<String>,
    pub(crate) ttl: Duration,
}

impl IceServers {
    /// The `iceServers` array of `RTCPeerConnection`, with a credential for `peer`.
    pub(crate) fn for_peer(&self, peer: &PeerId, now_ms: i64) -> Vec<u8> {
        // coturn's logs and quotas need one name per peer, not the peer's own.
        let name: String =
            Sha256::digest(peer.json()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let credential = turn::mint(&self.secret, &name, self.ttl, now_ms);
        let mut out = b"[{\"urls\":[".to_vec();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_the_shape_browsers_take() {
        let ice = IceServers {
            secret: b"secret".to_vec(),
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
}
