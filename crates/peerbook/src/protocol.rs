//! Messages to decisions, decisions to messages: one connection's conversation.

#[cfg(feature = "webrtc")]
pub(crate) mod channel;

use std::{ops::ControlFlow, sync::Arc};

use edge::{
    meter::{Exceeded, Limiter, Meter},
    ws::{Close, Frame},
};
use proto::book::{Command, Envelope, Message, Subject, encode::Extras};

use crate::{
    domain::{
        book::{Admission, Book},
        change::Change,
        connection::Connection,
        delivery::Delivery,
        line::Line,
        properties,
    },
    error::Error,
};

const BLOCKED: &str = "Peer is not verified, blocking request";
const FOREIGN: &str = "Target peer belongs to a different user";
const CONTRADICTED: &str = "Fingerprint in the SDP is not the sender's";
const MALFORMED: &str = "Bad command";
const LIMITED: &str = "Too many messages";
const UNAVAILABLE: &str = "Storage unavailable, please try again";

/// One connection's conversation.
pub(crate) struct Conversation {
    book: Arc<Book>,
    limiter: Arc<Limiter>,
    meter: Meter,
    connection: Arc<Connection>,
}

impl Conversation {
    /// Opens the connection of an admission.
    pub(crate) fn open(
        book: Arc<Book>,
        limiter: Arc<Limiter>,
        admission: Admission,
        line: Line,
    ) -> Self {
        let connection = book.open(admission, line);
        let meter = Meter::new(connection.address);
        Self { book, limiter, meter, connection }
    }

    /// Handles one message, text or binary alike.
    pub(crate) async fn hear(&mut self, text: &[u8]) -> ControlFlow<Close> {
        match self.meter.spend(&self.limiter, text.len()) {
            Ok(()) => {}
            Err(Exceeded::RetryIn(_)) => {
                self.book.metrics.limited.inc();
                self.status(429, LIMITED);
                return ControlFlow::Continue(());
            }
            Err(Exceeded::OutOfPatience) => {
                return ControlFlow::Break(Close::new(1008, LIMITED));
            }
        }
        let Some(message) = Message::read(text, self.connection.dialect) else {
            return ControlFlow::Break(Close::new(1007, "not a JSON object"));
        };
        match message {
            Message::Envelope(envelope) => self.pass_on(&envelope, text).await,
            Message::Command(command) => Box::pin(self.obey(command)).await,
            Message::Ignored(_) if !self.is_in() => self.status(401, BLOCKED),
            Message::Ignored(_) => {}
        }
        ControlFlow::Continue(())
    }

    fn is_in(&self) -> bool {
        self.connection.circle().is_some_and(|circle| circle.is_open_to(&self.connection))
    }

    /// Passes an envelope on; tells when it cannot be.
    async fn pass_on(&self, envelope: &Envelope<'_>, text: &[u8]) {
        match self.book.deliver(&self.connection, envelope, text).await {
            Ok(Delivery::Sent) => {}
            Ok(Delivery::Blocked) => self.status(401, BLOCKED),
            Ok(Delivery::Contradicted) => self.status(401, CONTRADICTED),
            Ok(Delivery::Foreign) => self.status(401, FOREIGN),
            Ok(Delivery::Offline | Delivery::Unknown) => {
                let target = envelope.target.as_ref().and_then(|target| target.as_str());
                self.not_found(target.unwrap_or(""));
            }
            Err(why) => self.failed(&why),
        }
    }

    async fn obey(&self, command: Command<'_>) {
        let (book, connection) = (&self.book, &self.connection);
        let is_errand = !matches!(command, Command::GetList | Command::Malformed);
        if is_errand && let Err(why) = book.pay_errand(&connection.fp) {
            return self.failed(&why);
        }
        let done = match command {
            Command::Prove { cert, signature } => {
                self.proven(book.prove(connection, &cert, &signature).await)
            }
            Command::ProveByToken(token) => {
                let token = token.as_str().unwrap_or("");
                self.proven(book.prove_by_token(connection, token).await)
            }
            Command::Pair if !self.is_in() => self.show_code().await,
            _ if !self.is_in() => {
                self.status(401, BLOCKED);
                Ok(())
            }
            Command::GetList => {
                if let Some(circle) = connection.circle() {
                    connection.tell(&circle.list(connection.dialect));
                }
                Ok(())
            }
            Command::ListRequests => self.list_requests().await,
            Command::Approve(subject) => self.decide(subject, true).await,
            Command::Refuse(subject) => self.decide(subject, false).await,
            Command::SetProperties(text) => self.set_properties(text).await,
            Command::Pair | Command::Malformed => {
                self.status(400, MALFORMED);
                Ok(())
            }
        };
        if let Err(why) = done {
            self.failed(&why);
        }
    }

    fn proven(&self, outcome: Result<bool, Error>) -> Result<(), Error> {
        match outcome? {
            true => self.status(202, "Fingerprint is proven"),
            false => self.status(401, "Proof is not valid"),
        }
        Ok(())
    }

    async fn show_code(&self) -> Result<(), Error> {
        let (code, age) = self.book.pairing_code(&self.connection).await?;
        let (first, second) = code.split_at(4);
        let text = serde_json::json!({
            "pairing_code": format!("{first}-{second}"), "expires_in": age.as_secs(),
        });
        self.connection.tell(&Frame::text(text.to_string()));
        Ok(())
    }

    async fn list_requests(&self) -> Result<(), Error> {
        let Some(circle) = self.connection.circle() else { return Ok(()) };
        let listed = self.book.list(&circle.uid).await?;
        let waiting = listed.iter().filter(|one| !one.peer.verified && !one.peer.refused);
        let requests: Vec<serde_json::Value> = waiting
            .map(|one| {
                serde_json::json!({
                    "fp": one.peer.fp.as_str(), "name": one.peer.name, "kind": one.peer.kind,
                    "created_on": one.peer.created_on, "waiting": one.waiting,
                    "proven": one.peer.proven_on.is_some(), "name_clash": one.clashes,
                })
            })
            .collect();
        let text = serde_json::json!({ "requests": requests });
        self.connection.tell(&Frame::text(text.to_string()));
        Ok(())
    }

    async fn decide(&self, subject: Subject<'_>, approve: bool) -> Result<(), Error> {
        let Some(circle) = self.connection.circle() else { return Ok(()) };
        let uid = circle.uid.clone();
        let fp = match (subject, approve) {
            (Subject::Code(code), true) => {
                let code = code.as_str().unwrap_or("").to_owned();
                self.book.approve_by_code(&uid, &code).await?
            }
            (Subject::Fingerprint(fp), true) => {
                self.book.approve(&uid, &fp).await?;
                Some(fp)
            }
            (Subject::Fingerprint(fp), false) => {
                self.refuse(&uid, &fp).await?;
                Some(fp)
            }
            (Subject::Code(_), false) => {
                self.status(400, MALFORMED);
                return Ok(());
            }
        };
        let verdict = if approve { "approved" } else { "refused" };
        let text = serde_json::json!({ verdict: fp.as_ref().map(|fp| fp.as_str()) });
        self.connection.tell(&Frame::text(text.to_string()));
        Ok(())
    }

    /// A peer may refuse requests; ending an approval is its user's to do, on the page.
    async fn refuse(&self, uid: &str, fp: &proto::book::Fingerprint) -> Result<(), Error> {
        let listed = self.book.list(uid).await?;
        if listed.iter().any(|one| one.peer.fp == *fp && one.peer.verified) {
            return Err(Error::UnknownPeer);
        }
        self.book.revoke(uid, fp).await.map(drop)
    }

    async fn set_properties(&self, text: &[u8]) -> Result<(), Error> {
        let Some(circle) = self.connection.circle() else { return Ok(()) };
        let Some(text) = properties::check(text) else {
            self.status(400, "Bad properties");
            return Ok(());
        };
        let change = Change::SetProperties(self.connection.fp.clone(), text);
        self.book.change(&circle.uid, change).await?;
        self.connection.tell(&circle.list(self.connection.dialect));
        Ok(())
    }

    fn failed(&self, why: &Error) {
        match why {
            Error::UnknownUser | Error::UnknownPeer => self.status(404, "No such request"),
            Error::Full => self.status(403, "User has too many peers"),
            Error::OwnedElsewhere => {
                self.status(409, "Fingerprint is associated to another user");
            }
            Error::TooMany { .. } => self.status(429, "Too many requests"),
            Error::Storage(cause) => {
                tracing::error!(error = cause as &dyn std::error::Error, "message failed");
                self.status(503, UNAVAILABLE);
            }
        }
    }

    fn not_found(&self, target: &str) {
        // Long or strange targets are not worth repeating.
        let cut: String = target.chars().take(128).collect();
        self.status(400, &format!("Target peer not found: {cut}"));
    }

    fn status(&self, code: u16, text: &str) {
        self.connection.status(code, text, Extras::default());
    }

    /// The connection is over.
    pub(crate) fn end(&mut self) {
        self.book.close(&self.connection);
    }
}
