//! What an original keeps in Redis, read without changing anything.

use std::collections::BTreeMap;

use proto::book::{Email, Fingerprint, Label, Name};

use super::redis::Redis;

/// Everything worth taking over.
#[derive(Debug, Default)]
pub(super) struct Import {
    /// Users in the order of their addresses.
    pub(super) users: Vec<User>,
    /// Peers that belong to nobody: fingerprints that once connected.
    pub(super) unowned: u64,
    /// Users or peers with values that cannot be stored.
    pub(super) unusable: u64,
}

/// One user.
#[derive(Debug)]
pub(super) struct User {
    /// As the original had it, or a new one.
    pub(super) uid: String,
    pub(super) email: Email,
    /// Secret of one-time passwords, if it was confirmed.
    pub(super) secret: Option<Vec<u8>>,
    pub(super) peers: Vec<Peer>,
}

/// One peer. Times in seconds since the epoch.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) fp: Fingerprint,
    pub(super) name: Name,
    pub(super) kind: Label,
    pub(super) verified: bool,
    pub(super) created_on: f64,
    pub(super) last_seen: f64,
}

type Hash = BTreeMap<String, String>;

/// An original's database.
pub(super) struct Original(Redis);

impl Original {
    /// Connects to `redis://[user:password@]host[:port][/database]`.
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        Ok(Self(Redis::connect(url).await?))
    }

    /// Reads all users and peers.
    pub(super) async fn read(mut self) -> anyhow::Result<Import> {
        let mut import = Import::default();
        let mut users: BTreeMap<String, User> = BTreeMap::new();
        for key in self.0.keys("peer:*").await? {
            let Some(hash) = self.0.hash(&key).await? else { continue };
            let owner = hash.get("user").cloned().unwrap_or_default();
            if owner.is_empty() {
                import.unowned += 1;
                continue;
            }
            let (Some(peer), Some(user)) = (peer(&key, &hash), self.user(&owner).await?) else {
                import.unusable += 1;
                continue;
            };
            let user = users.entry(user.email.key()).or_insert(user);
            user.peers.push(peer);
        }
        // Users whose last peer is gone keep their id and secret.
        for key in self.0.keys("user:*").await? {
            let Some(uid) = key.strip_prefix("user:") else { continue };
            match self.user(uid).await? {
                Some(user) => drop(users.entry(user.email.key()).or_insert(user)),
                None => import.unusable += u64::from(self.0.hash(&key).await?.is_some()),
            }
        }
        import.users = users.into_values().collect();
        Ok(import)
    }

    /// The user a peer names: an address, or an id.
    async fn user(&mut self, owner: &str) -> anyhow::Result<Option<User>> {
        if owner.contains('@') {
            let email = Email::new(owner);
            return Ok(email.map(|email| User {
                uid: new_uid(),
                email,
                secret: None,
                peers: Vec::new(),
            }));
        }
        let Some(hash) = self.0.hash(&format!("user:{owner}")).await? else { return Ok(None) };
        let email = hash.get("email").and_then(|email| Email::new(email));
        let confirmed = hash.get("QRVerified").is_some_and(|flag| is_set(flag));
        let secret = hash.get("secret").filter(|_| confirmed).and_then(|text| base32(text));
        let usable = owner.len() <= 64 && !owner.chars().any(char::is_control);
        Ok(email.filter(|_| usable).map(|email| User {
            uid: owner.to_owned(),
            email,
            secret: secret.filter(|secret| secret.len() == 20),
            peers: Vec::new(),
        }))
    }
}

fn peer(key: &str, hash: &Hash) -> Option<Peer> {
    let text = |name: &str| hash.get(name).map(String::as_str).unwrap_or_default();
    let fp = match text("fp") {
        "" => key.strip_prefix("peer:")?,
        fp => fp,
    };
    let seconds = |name: &str| text(name).parse::<u32>().map_or(0.0, f64::from);
    Some(Peer {
        fp: Fingerprint::new(fp)?,
        name: Name::lenient(text("name")),
        kind: Label::lenient(text("kind")),
        verified: is_set(text("verified")),
        created_on: seconds("created_on"),
        last_seen: seconds("last_connect"),
    })
}

fn is_set(flag: &str) -> bool {
    matches!(flag, "1" | "true")
}

/// Sixteen letters of base32, as the service makes them.
fn new_uid() -> String {
    let bytes: [u8; 16] = rand::random();
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Base32 (RFC 4648), padded or not.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let place = ALPHABET.iter().position(|known| *known == letter.to_ascii_uppercase())?;
        held = held << 5 | u32::try_from(place).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_authenticators_read_them() {
        let secret = base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
        assert_eq!(secret, b"12345678901234567890");
        assert_eq!(base32("MZXW6==="), Some(b"foo".to_vec()));
        assert_eq!(base32("0"), None);
    }
}
