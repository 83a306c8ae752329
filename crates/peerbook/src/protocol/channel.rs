//! One data channel's conversation: the commands of today's clients.

use std::{ops::ControlFlow, sync::Arc};

use edge::{
    meter::{Exceeded, Limiter, Meter},
    ws::Frame,
};
use proto::{
    book::{
        Dialect, Email, Fingerprint, Label, Message, Name,
        channel::{Answers, Ask, Request},
    },
    js::Str,
};

use crate::{
    domain::{
        Introduction,
        book::{self, Admission, Book},
        connection::Connection,
        delivery::Delivery,
        ice::Ice,
        line::Line,
        mail::Mail,
        page_metrics::PageMetrics,
        totp::{Authenticators, Place, Verdict},
    },
    error::Error,
};

/// What clients take for a wrong code: any text with `invalid` in it.
const INVALID: &str = "invalid OTP";
/// What a registered peer is shown where the original showed a QR code, which it gave to whoever
/// named an address: ours is behind the link in that address's mail.
const CHECK_INBOX: &str = "Please check your inbox to approve this device";

/// What conversations over data channels need.
pub(crate) struct Desk {
    pub(crate) book: Arc<Book>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) mail: Arc<Mail>,
    pub(crate) codes: Authenticators,
    pub(crate) ice: Ice,
    pub(crate) metrics: Arc<PageMetrics>,
    /// A user without one-time passwords approves nothing by command.
    pub(crate) require_totp: bool,
}

/// One data channel's conversation.
pub(crate) struct ChannelConversation {
    desk: Arc<Desk>,
    meter: Meter,
    connection: Arc<Connection>,
    answers: Answers,
}

/// Why a command was not obeyed.
enum Refusal {
    /// As the peer is told.
    Told(&'static str),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(why: Error) -> Self {
        Self::Failed(why)
    }
}

impl From<pg::Error> for Refusal {
    fn from(why: pg::Error) -> Self {
        Self::Failed(Error::Storage(why))
    }
}

type Obeyed = Result<String, Refusal>;

impl ChannelConversation {
    /// Opens the connection of an admission.
    pub(crate) fn open(desk: Arc<Desk>, admission: Admission, line: Line) -> Self {
        let connection = desk.book.open(admission, line);
        let meter = Meter::new(connection.address);
        Self { desk, meter, connection, answers: Answers::default() }
    }

    /// Handles one message; breaks when the channel is to be closed.
    pub(crate) async fn hear(&mut self, text: &[u8]) -> ControlFlow<()> {
        let Some(request) = Request::read(text) else { return ControlFlow::Break(()) };
        let obeyed = match self.meter.spend(&self.desk.limiter, text.len()) {
            Ok(()) => self.obey(request.ask).await,
            Err(Exceeded::RetryIn(_)) => {
                self.desk.book.metrics.limited.inc();
                Err(Refusal::Told("Too many messages"))
            }
            Err(Exceeded::OutOfPatience) => return ControlFlow::Break(()),
        };
        let now_ms = self.desk.book.clock.now_ms();
        let answer = match obeyed {
            Ok(body) => self.answers.ack(request.number, &body, now_ms),
            Err(Refusal::Told(why)) => self.answers.nack(request.number, why, now_ms),
            Err(Refusal::Failed(why)) => self.answers.nack(request.number, told(&why), now_ms),
        };
        self.connection.tell(&Frame::text(answer));
        ControlFlow::Continue(())
    }

    async fn obey(&self, ask: Ask<'_>) -> Obeyed {
        let book = &self.desk.book;
        if !matches!(ask, Ask::Signal(_) | Ask::IceServers | Ask::Unknown) {
            book.pay_errand(&self.connection.fp)?;
        }
        match ask {
            Ask::Ping { otp: None } => self.whose().await,
            Ask::Ping { otp: Some(otp) } => self.let_me_in(text(&otp)).await,
            Ask::Register { email, name } => self.register(email, name).await,
            Ask::Verify { target, otp } => self.verify(target, otp).await,
            Ask::Rename { target, name } => {
                const NOT_OURS: &str = "target does not belong to the user";
                let (uid, target) = (self.uid()?, fingerprint(target.as_ref(), NOT_OURS)?);
                let name = Name::lenient(name.as_ref().map_or("", text));
                match book.rename(uid, &target, name).await {
                    Err(Error::UnknownPeer) => Err(Refusal::Told(NOT_OURS)),
                    done => Ok(done.map(|_| String::new())?),
                }
            }
            Ask::Delete { target, otp } => self.delete(target, otp).await,
            Ask::Signal(message) => self.pass_on(&message).await,
            Ask::IceServers => match self.connection.circle() {
                Some(circle) => Ok(self.desk.ice.text(&circle.uid)),
                None if self.desk.ice.is_open() => Ok(self.desk.ice.text("pb")),
                None => Err(Refusal::Told("peer is not verified")),
            },
            Ask::Unknown => Ok(String::new()),
        }
    }

    /// The user this peer was let in for.
    fn uid(&self) -> Result<&str, Refusal> {
        let circle = self.connection.circle();
        let circle = circle.filter(|circle| circle.is_open_to(&self.connection));
        circle.map(|circle| circle.uid.as_str()).ok_or(Refusal::Told("peer is not verified"))
    }

    async fn whose(&self) -> Obeyed {
        let known = self.desk.book.known(&self.connection.fp).await?;
        Ok(known.map_or_else(|| "TBD".to_owned(), |(user, _)| user.uid))
    }

    /// The user's code lets in the peer that shows it.
    async fn let_me_in(&self, otp: &str) -> Obeyed {
        let fp = &self.connection.fp;
        let Some((user, _)) = self.desk.book.known(fp).await? else {
            return Err(Refusal::Told("peer does not exist"));
        };
        if self.judge(&user.uid, otp).await? != Verdict::Right {
            return Err(Refusal::Told(INVALID));
        }
        self.desk.book.approve(&user.uid, fp).await?;
        Ok("1".to_owned())
    }

    async fn register(&self, email: Option<Str<'_>>, name: Option<Str<'_>>) -> Obeyed {
        let email = email.as_ref().and_then(|email| Email::new(text(email)));
        let Some(email) = email else {
            return Err(Refusal::Told("Failed to add peer: Bad email"));
        };
        let (fp, address) = (&self.connection.fp, self.connection.address);
        let who = Introduction {
            fp: fp.clone(),
            name: name.as_ref().map(|name| Name::lenient(text(name))),
            kind: Some(Label::lenient("terminal7")),
            properties: None,
        };
        let ask = book::Ask { who, uid: None, email: Some(email), address };
        let asked = self.desk.book.request(&ask).await?;
        let uid = asked.account.uid.as_str();
        self.desk.book.note_proof(uid, &asked.peer, "dtls").await?;
        if !asked.peer.verified {
            self.desk.mail.review(&asked.account, Some(address)).await?;
            self.desk.book.note_mailed(uid, fp).await?;
        }
        let shown = if asked.peer.verified { "" } else { CHECK_INBOX };
        Ok(serde_json::json!({ "ID": uid, "QR": shown }).to_string())
    }

    /// A peer lets another one in, which it may name before that was ever heard of.
    async fn verify(&self, target: Option<Str<'_>>, otp: Option<Str<'_>>) -> Obeyed {
        const NOT_OURS: &str = "target peer is not owned by client";
        let (uid, target) = (self.uid()?, fingerprint(target.as_ref(), NOT_OURS)?);
        self.may_decide(uid, otp.as_ref(), "Invalid OTP").await?;
        let who = Introduction {
            fp: target.clone(),
            name: None,
            kind: Some(Label::lenient("webexec")),
            properties: None,
        };
        let known = self.desk.book.list(uid).await?.iter().any(|one| one.peer.fp == target);
        if !known {
            let (uid, address) = (Some(uid.to_owned()), self.connection.address);
            let asked = self.desk.book.request(&book::Ask { who, uid, email: None, address }).await;
            match asked {
                Err(Error::OwnedElsewhere) => return Err(Refusal::Told(NOT_OURS)),
                asked => asked.map(drop)?,
            }
        }
        match self.desk.book.approve(uid, &target).await {
            Err(Error::OwnedElsewhere) => Err(Refusal::Told(NOT_OURS)),
            done => Ok(done.map(|_| String::new())?),
        }
    }

    async fn delete(&self, target: Option<Str<'_>>, otp: Option<Str<'_>>) -> Obeyed {
        const NOT_OURS: &str = "target does not belong to the user";
        let (uid, target) = (self.uid()?, fingerprint(target.as_ref(), NOT_OURS)?);
        self.may_decide(uid, otp.as_ref(), INVALID).await?;
        match self.desk.book.remove(uid, &target).await {
            Err(Error::UnknownPeer) => Err(Refusal::Told(NOT_OURS)),
            done => Ok(done.map(|_| String::new())?),
        }
    }

    /// Whether a peer may decide about others: with its user's code, if that has codes.
    async fn may_decide(
        &self,
        uid: &str,
        otp: Option<&Str<'_>>,
        wrong: &'static str,
    ) -> Result<(), Refusal> {
        match self.judge(uid, otp.map_or("", text)).await? {
            Verdict::Right => Ok(()),
            Verdict::NotEnrolled if !self.desk.require_totp => Ok(()),
            Verdict::NotEnrolled | Verdict::Wrong | Verdict::Locked => Err(Refusal::Told(wrong)),
        }
    }

    async fn judge(&self, uid: &str, otp: &str) -> Result<Verdict, Refusal> {
        let verdict = self.desk.codes.check(uid, Place::Command, otp).await?;
        self.desk.metrics.count_code(verdict);
        Ok(verdict)
    }

    async fn pass_on(&self, message: &[u8]) -> Obeyed {
        let Some(Message::Envelope(envelope)) = Message::read(message, Dialect::Readme) else {
            return Err(Refusal::Told("peer does not exist"));
        };
        let done = self.desk.book.deliver(&self.connection, &envelope, message).await?;
        Err(Refusal::Told(match done {
            Delivery::Sent => return Ok(String::new()),
            Delivery::Blocked => "peers are not verified",
            Delivery::Contradicted => "fingerprint in the SDP is not the sender's",
            Delivery::Foreign => "peers are not owned by the same user",
            Delivery::Unknown | Delivery::Offline => "peer does not exist",
        }))
    }

    /// The channel is over.
    pub(crate) fn end(&mut self) {
        self.desk.book.close(&self.connection);
    }
}

fn text<'a>(text: &'a Str<'_>) -> &'a str {
    text.as_str().unwrap_or("")
}

fn fingerprint(target: Option<&Str<'_>>, missing: &'static str) -> Result<Fingerprint, Refusal> {
    let fp = target.and_then(|target| Fingerprint::new(text(target)));
    fp.ok_or(Refusal::Told(missing))
}

/// What a peer is told of a failure.
fn told(why: &Error) -> &'static str {
    match why {
        Error::UnknownUser => "user does not exist",
        Error::UnknownPeer => "peer does not exist",
        Error::Full => "Failed to add peer: User has too many peers",
        Error::OwnedElsewhere => "Failed to add peer: Fingerprint is associated to another user",
        Error::TooMany { .. } => "Too many requests, please try again",
        Error::Storage(cause) => {
            tracing::error!(error = cause as &dyn std::error::Error, "command failed");
            "Storage unavailable, please try again"
        }
    }
}
