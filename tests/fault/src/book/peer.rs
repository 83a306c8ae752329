//! One peer, how it stands, and what its connection may hear.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::book_client::BookPeer;
use testkit::json_socket::JsonSocket;

/// Silence after which all that came has been read.
const QUIET: Duration = Duration::from_millis(20);

/// A peer of a user.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) user: usize,
    pub(super) peer: BookPeer,
    /// What its user thinks of it.
    pub(super) wanted: bool,
    pub(super) standing: Standing,
    pub(super) connection: Option<Connection>,
}

/// What the last page's answer made of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    In,
    /// The replica that said so; none when all know.
    Out {
        by: Option<SocketAddr>,
    },
    /// A page was not answered.
    Unknown,
}

impl Standing {
    /// Not let in by a page of this replica.
    pub(super) fn out(self, by: SocketAddr) -> Self {
        match self {
            Self::Out { by: None } => self,
            _ => Self::Out { by: Some(by) },
        }
    }

    /// Every replica has shown that it knows.
    pub(super) fn is_known_everywhere(&mut self) {
        if let Self::Out { by } = self {
            *by = None;
        }
    }
}

/// One that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    /// The connection it came from.
    pub(super) from: u64,
    /// The member it was for.
    pub(super) to: usize,
    /// Must not arrive.
    pub(super) barred: bool,
}

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: JsonSocket,
    pub(super) address: SocketAddr,
    /// No other connection ever had it.
    pub(super) number: u64,
    pub(super) let_in: bool,
    revoked: bool,
    /// The last envelope from each connection.
    pub(super) heard: HashMap<u64, usize>,
}

impl Member {
    pub(super) fn new(user: usize, peer: BookPeer) -> Self {
        Self { user, peer, wanted: true, standing: Standing::Unknown, connection: None }
    }

    pub(super) fn is_let_in(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.let_in)
    }
}

impl Connection {
    pub(super) fn new(socket: JsonSocket, address: SocketAddr, number: u64) -> Self {
        let heard = HashMap::new();
        Self { socket, address, number, let_in: false, revoked: false, heard }
    }

    /// Reads what has come for this member; `false` when the connection is over.
    pub(super) async fn read(&mut self, own: usize, sent: &[Envelope]) -> anyhow::Result<bool> {
        let (frames, open) = self.socket.read_within(QUIET).await;
        for frame in frames {
            self.take(&frame, own, sent).with_context(|| frame.to_string())?;
        }
        Ok(open)
    }

    fn take(&mut self, frame: &Value, own: usize, sent: &[Envelope]) -> anyhow::Result<()> {
        if frame["code"] == 200 {
            self.let_in = true;
        } else if frame["text"] == "peer's verification was revoked" {
            (self.let_in, self.revoked) = (false, true);
        }
        let Some(number) = frame["offer"]["n"].as_u64() else { return Ok(()) };
        let number = usize::try_from(number)?;
        let envelope = sent.get(number).context("nobody sent this")?;
        ensure!(envelope.to == own, "for another peer");
        ensure!(!envelope.barred, "sent when it was out");
        ensure!(self.let_in && !self.revoked, "heard although out");
        let before = self.heard.insert(envelope.from, number);
        ensure!(before.is_none_or(|before| before < number), "twice, or out of order");
        Ok(())
    }

    /// The peers of this one's user, as the server says now.
    pub(super) async fn list(&mut self) -> anyhow::Result<Vec<Value>> {
        self.socket.send(&json!({"command": "get_list"})).await?;
        let list = self.socket.wait_for(|frame| frame["peers"].is_array()).await?;
        list["peers"].as_array().cloned().context("a list")
    }
}
