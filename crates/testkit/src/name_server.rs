//! A name server that answers as a test likes, differently each time it is asked.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A query's head, and the longest answer without an extension (RFC 1035, sections 4.1.1, 4.2.1).
const HEAD: usize = 12;
const LONGEST: usize = 512;
/// A question for IPv4 addresses (TYPE A, CLASS IN).
const ADDRESSES: [u8; 4] = [0, 1, 0, 1];

/// The server; ends with this.
#[derive(Debug)]
pub struct NameServer {
    asked: Arc<Mutex<HashMap<String, usize>>>,
    serving: JoinHandle<()>,
}

impl NameServer {
    /// Answers questions for IPv4 addresses with what `answer` says to a name, in lower case, and to how often
    /// it was asked for before; others with nothing. Nobody is told to remember anything.
    ///
    /// # Errors
    /// When the address is taken, or not this user's to listen at.
    pub async fn start(
        at: SocketAddr,
        answer: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(at).await.context("no place for a name server")?;
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let counts = asked.clone();
        #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
        let serving = tokio::spawn(async move {
            let mut query = [0; LONGEST];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let Some((name, question)) = read(&query[..length]) else { continue };
                let mut found = Vec::new();
                if question.ends_with(&ADDRESSES) {
                    let mut counts = counts.lock();
                    let before = counts.entry(name.clone()).or_default();
                    found = answer(&name, *before);
                    *before += 1;
                }
                // Who asked may have gone.
                let _ = socket.send_to(&written(&query[..2], question, &found), from).await;
            }
        });
        Ok(Self { asked, serving })
    }

    /// How often a name's addresses were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().get(name).copied().unwrap_or(0)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The name asked for, and the question as it is repeated in the answer.
fn read(query: &[u8]) -> Option<(String, &[u8])> {
    let rest = query.get(HEAD..)?;
    let (mut labels, mut at) = (Vec::new(), 0);
    loop {
        let length = usize::from(*rest.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(str::from_utf8(rest.get(at..at + length)?).ok()?.to_ascii_lowercase());
        at += length;
    }
    Some((labels.join("."), rest.get(..at + ADDRESSES.len())?))
}

/// An answer: the query's number, its question, an address each.
fn written(number: &[u8], question: &[u8], found: &[Ipv4Addr]) -> Vec<u8> {
    let count = u16::try_from(found.len()).unwrap_or(0).to_be_bytes();
    // An answer of authority, recursion asked for and given.
    let flags = [0x85, 0x80];
    let mut answer = [number, &flags, &[0, 1], &count, &[0, 0, 0, 0], question].concat();
    for address in found {
        // The name as in the question; good for no time at all.
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&ADDRESSES);
        answer.extend_from_slice(&[0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_answered() {
        let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x01a\x04TEST\0\0\x01\0\x01\0\0";
        let (name, question) = read(query).unwrap();
        assert_eq!((name.as_str(), question), ("a.test", &b"\x01a\x04TEST\0\0\x01\0\x01"[..]));
        let answer = written(&query[..2], question, &[Ipv4Addr::new(192, 0, 2, 7)]);
        assert!(answer.starts_with(b"\x12\x34\x85\x80\0\x01\0\x01\0\0\0\0\x01a"));
        assert!(answer.ends_with(b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\xc0\0\x02\x07"));
        assert_eq!(read(&query[..20]), None);
    }
}
