//! A client of STUN and TURN over UDP, TCP and TLS.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use md5::{Digest as _, Md5};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::wire::{self, Message};
use crate::doctor::reach::Stream;
use crate::secrets;

/// One question's answer may take this long; over UDP the question is repeated meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// First wait before a question over UDP is repeated; doubles each time (RFC 8489, 6.2.1).
const REPEAT: Duration = Duration::from_millis(500);
/// UDP, as the kind of the relayed side.
const RELAY_UDP: [u8; 4] = [17, 0, 0, 0];

/// Why something did not work.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nothing came back.
    Silent,
    /// The connection failed.
    Broken(String),
    /// The server said no, with this code and reason.
    Refused(u16, String),
    /// The answer makes no sense.
    Nonsense(&'static str),
}

impl From<std::io::Error> for Trouble {
    fn from(why: std::io::Error) -> Self {
        Self::Broken(why.to_string())
    }
}

/// An open way to the server.
pub(super) enum Wire {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>),
}

/// What the server gave.
#[derive(Debug)]
pub(super) struct Allocation {
    /// Where the server would relay from.
    pub(super) relayed: SocketAddr,
}

impl Wire {
    /// A socket towards `server`.
    pub(super) async fn udp(server: SocketAddr) -> Result<Self, Trouble> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        Ok(Self::Udp(socket))
    }

    /// The address the server sees us by.
    pub(super) async fn reflexive(&mut self) -> Result<SocketAddr, Trouble> {
        let question = Message::ask(wire::BINDING, secrets::random());
        let answer = self.ask(question.transaction, &question.encode()).await?;
        let answer = success(answer, wire::BINDING)?;
        answer.address(wire::XOR_MAPPED_ADDRESS).ok_or(Trouble::Nonsense("no address in it"))
    }

    /// Asks for a relayed address with a name and its password, and gives it back.
    pub(super) async fn allocate(
        &mut self,
        name: &str,
        password: &str,
    ) -> Result<Allocation, Trouble> {
        let (realm, mut nonce) = self.challenge().await?;
        let key = key(name, &realm, password);
        let mut tries = 0;
        let granted = loop {
            let question = Message::ask(wire::ALLOCATE, secrets::random())
                .with(wire::REQUESTED_TRANSPORT, RELAY_UDP);
            let answer = self.signed(question, name, &realm, &nonce, &key).await?;
            match answer.error() {
                // The nonce's time ran out between the two questions.
                Some((438, _)) if tries < 2 => {
                    tries += 1;
                    nonce = answer.get(wire::NONCE).unwrap_or_default().to_vec();
                }
                _ => break success(answer, wire::ALLOCATE)?,
            }
        };
        if !granted.is_signed_with(&key) {
            return Err(Trouble::Nonsense("it is not signed by who knows the secret"));
        }
        let relayed = granted.address(wire::XOR_RELAYED_ADDRESS);
        let relayed = relayed.ok_or(Trouble::Nonsense("no relayed address in it"))?;
        let farewell = Message::ask(wire::REFRESH, secrets::random()).with(wire::LIFETIME, [0; 4]);
        self.signed(farewell, name, &realm, &nonce, &key).await?;
        Ok(Allocation { relayed })
    }

    /// Realm and nonce: what the first question without a name is refused with.
    async fn challenge(&mut self) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
        let question = Message::ask(wire::ALLOCATE, secrets::random())
            .with(wire::REQUESTED_TRANSPORT, RELAY_UDP);
        let answer = self.ask(question.transaction, &question.encode()).await?;
        match answer.error() {
            Some((401, _)) => {}
            Some((code, reason)) => return Err(Trouble::Refused(code, reason)),
            None => return Err(Trouble::Nonsense("it relays for anybody")),
        }
        let (realm, nonce) = (answer.get(wire::REALM), answer.get(wire::NONCE));
        let (Some(realm), Some(nonce)) = (realm, nonce) else {
            return Err(Trouble::Nonsense("no realm or nonce in it"));
        };
        Ok((realm.to_vec(), nonce.to_vec()))
    }

    async fn signed(
        &mut self,
        question: Message,
        name: &str,
        realm: &[u8],
        nonce: &[u8],
        key: &[u8],
    ) -> Result<Message, Trouble> {
        let question =
            question.with(wire::USERNAME, name).with(wire::REALM, realm).with(wire::NONCE, nonce);
        self.ask(question.transaction, &question.encode_signed(key)).await
    }

    /// Sends a question and waits for the answer that belongs to it.
    async fn ask(&mut self, transaction: [u8; 12], question: &[u8]) -> Result<Message, Trouble> {
        let asking = async {
            match self {
                Self::Udp(socket) => ask_udp(socket, transaction, question).await,
                Self::Stream(stream) => ask_stream(stream, transaction, question).await,
            }
        };
        timeout(PATIENCE, asking).await.map_err(|_| Trouble::Silent)?
    }
}

async fn ask_udp(
    socket: &UdpSocket,
    transaction: [u8; 12],
    question: &[u8],
) -> Result<Message, Trouble> {
    let mut wait = REPEAT;
    loop {
        socket.send(question).await?;
        if let Ok(answer) = timeout(wait, answer_udp(socket, transaction)).await {
            return answer;
        }
        wait *= 2;
    }
}

async fn answer_udp(socket: &UdpSocket, transaction: [u8; 12]) -> Result<Message, Trouble> {
    let mut bytes = [0; wire::LONGEST];
    loop {
        let size = socket.recv(&mut bytes).await?;
        // Anybody may send us a datagram; an answer knows its question.
        if let Some(answer) = Message::decode(&bytes[..size])
            && answer.transaction == transaction
        {
            return Ok(answer);
        }
    }
}

async fn ask_stream(
    stream: &mut Box<dyn Stream>,
    transaction: [u8; 12],
    question: &[u8],
) -> Result<Message, Trouble> {
    stream.write_all(question).await?;
    stream.flush().await?;
    loop {
        let mut bytes = vec![0; wire::HEADER];
        stream.read_exact(&mut bytes).await?;
        let length = wire::length(&bytes).ok_or(Trouble::Nonsense("it is no STUN"))?;
        bytes.resize(wire::HEADER + length, 0);
        stream.read_exact(&mut bytes[wire::HEADER..]).await?;
        let answer = Message::decode(&bytes).ok_or(Trouble::Nonsense("it is no STUN"))?;
        if answer.transaction == transaction {
            return Ok(answer);
        }
    }
}

fn success(answer: Message, method: u16) -> Result<Message, Trouble> {
    if let Some((code, reason)) = answer.error() {
        return Err(Trouble::Refused(code, reason));
    }
    match answer.kind {
        kind if kind == method | wire::SUCCESS => Ok(answer),
        kind if kind == method | wire::ERROR => Err(Trouble::Nonsense("an error without a code")),
        _ => Err(Trouble::Nonsense("it answers another question")),
    }
}

/// The key of a long-term credential (RFC 8489, 9.2.2).
fn key(name: &str, realm: &[u8], password: &str) -> [u8; 16] {
    let mut digest = Md5::new();
    for (index, part) in [name.as_bytes(), realm, password.as_bytes()].into_iter().enumerate() {
        if index > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    digest.finalize().into()
}
