//! Mail: who may cause one, the outbox, and its way out.
//!
//! A request only leaves an order in the outbox, the same for known and unknown addresses; whether
//! the address has an address book is looked up when the mail is made, so that neither the answer
//! nor its time tells. The link is made then too and is nowhere but in the mail.
//!
//! An order is claimed for [`LEASE`] and removed when the mail server has taken the mail: a crash
//! between the two sends it twice, never not at all.

mod args;
mod courier;
mod letter;

use std::sync::Arc;
use std::time::Duration;

use edge::LimitKey;
use lettre::message::Mailbox;
use proto::book::Email;
use service::Clock;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::Account;
use crate::domain::book::Book;
use crate::domain::page_metrics::PageMetrics;
use crate::domain::secret;
use crate::domain::token::{Grant, Tokens};
use crate::error::Error;
use crate::store::{self, mail::Claimed, mail::Order, throttle::Pace};

pub(crate) use args::MailArgs;
use courier::{Courier, CourierError};
use letter::{LetterError, Letterhead};

pub(crate) use crate::store::mail::Kind;

/// How long one process has for the mails it claimed.
const LEASE: Duration = Duration::from_secs(180);
/// Mails one process works on at once.
const AT_ONCE: u32 = 4;
/// Longest pause between two looks into the outbox.
const POLL: Duration = Duration::from_secs(2);
/// Attempts before a mail is given up; their pauses add up to 20 minutes.
const MOST_ATTEMPTS: i32 = 7;
/// Pause after the first failure; each further one is three times as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Longest address (RFC 5321, 4.5.3.1.3, without the brackets).
const LONGEST_ADDRESS: usize = 254;
/// Pause between two rounds of forgetting what is over.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What became of a wish for a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is in the outbox.
    Queued,
    /// This address or this client had enough for now; try again after so long.
    Throttled(Duration),
    /// The outbox is full.
    Full,
    /// This is no mail address.
    NoAddress,
    /// This server sends no mail, or none of this kind.
    Off,
}

/// Takes orders for mail and carries them out.
pub(crate) struct Mail {
    pool: PgPool,
    book: Arc<Book>,
    tokens: Tokens,
    args: MailArgs,
    public_url: String,
    head: Letterhead,
    courier: Courier,
    clock: Clock,
    metrics: Arc<PageMetrics>,
    ordered: Notify,
}

impl Mail {
    /// A mail for a server that users reach at `public_url`.
    pub(crate) fn new(
        book: Arc<Book>,
        tokens: Tokens,
        args: MailArgs,
        public_url: &str,
        metrics: Arc<PageMetrics>,
    ) -> anyhow::Result<Self> {
        let public_url = public_url.to_owned();
        let uri: http::Uri = public_url.parse()?;
        let host = uri.host().unwrap_or("localhost").to_owned();
        let courier = Courier::new(&args, &host)?;
        if let Courier::Off = courier {
            tracing::warn!("no mail server and no mail directory: links are not mailed");
        }
        let (pool, clock) = (book.pool.clone(), book.clock.clone());
        let head = Letterhead { from: sender(&args, &host)?, host };
        let ordered = Notify::new();
        Ok(Self { pool, book, tokens, args, public_url, head, courier, clock, metrics, ordered })
    }

    /// What every link begins with, without a slash at the end.
    pub(crate) fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Has the user of `account` mailed a link to their review page, unless they were a moment ago.
    /// `from` is who caused it.
    pub(crate) async fn review(
        &self,
        account: &Account,
        from: Option<LimitKey>,
    ) -> Result<(), Error> {
        self.review_of(&account.email, from).await.map(drop).map_err(Error::from)
    }

    /// Mails the review link to `address`, if it has an address book by then. `client` is who
    /// asked, as far as an address is known.
    pub(crate) async fn review_of(
        &self,
        address: &str,
        client: Option<LimitKey>,
    ) -> Result<Asked, pg::Error> {
        self.to_user(Kind::Review, address, None, client).await
    }

    /// Mails the link that approves the peer `fp` of whoever has `address`.
    pub(crate) async fn login(
        &self,
        address: &str,
        fp: &str,
        client: Option<LimitKey>,
    ) -> Result<Asked, pg::Error> {
        self.to_user(Kind::Login, address, Some(fp), client).await
    }

    async fn to_user(
        &self,
        kind: Kind,
        address: &str,
        fp: Option<&str>,
        client: Option<LimitKey>,
    ) -> Result<Asked, pg::Error> {
        let Some(address) = readable(address) else { return Ok(Asked::NoAddress) };
        if let Courier::Off = self.courier {
            return Ok(Asked::Off);
        }
        let key = address.to_lowercase();
        let day = self.args.mail_per_day;
        let checks = [
            (self.client_digest(client), self.client_pace(), "client"),
            (
                Some(digest("address", key.as_bytes())),
                Pace { every: self.args.mail_interval, burst: 1 },
                "address",
            ),
            (Some(digest("day", key.as_bytes())), per(Duration::from_hours(24), day), "day"),
        ];
        for (digest, pace, by) in checks {
            let Some(digest) = digest else { continue };
            if let Err(wait) = store::throttle::spend(&self.pool, &digest, pace).await? {
                self.metrics.throttled.with_label_values(&[by]).inc();
                return Ok(Asked::Throttled(wait));
            }
        }
        let fp = fp.map(str::to_owned);
        self.order(Order { kind, address: address.to_owned(), fp, body: None }).await
    }

    /// Mails `body` to the operator, to be answered at `from`.
    pub(crate) async fn support(
        &self,
        from: &str,
        body: String,
        client: Option<LimitKey>,
    ) -> Result<Asked, pg::Error> {
        let Some(from) = readable(from) else { return Ok(Asked::NoAddress) };
        if matches!(self.courier, Courier::Off) || self.args.support_address.is_none() {
            return Ok(Asked::Off);
        }
        if let Some(client) = client {
            let pace = Pace { every: Duration::from_secs(60), burst: 1 };
            let digest = digest("support", &key_bytes(client));
            if let Err(wait) = store::throttle::spend(&self.pool, &digest, pace).await? {
                self.metrics.throttled.with_label_values(&["support"]).inc();
                return Ok(Asked::Throttled(wait));
            }
        }
        // Postgres takes no NUL, and a mail none either.
        let body = Some(body.replace('\0', " "));
        let order = Order { kind: Kind::Support, address: from.to_owned(), fp: None, body };
        self.order(order).await
    }

    async fn order(&self, order: Order) -> Result<Asked, pg::Error> {
        if !store::mail::insert(&self.pool, &order, self.args.mail_waiting).await? {
            self.metrics.throttled.with_label_values(&["outbox"]).inc();
            tracing::warn!(most = self.args.mail_waiting, "the outbox is full");
            return Ok(Asked::Full);
        }
        self.ordered.notify_one();
        Ok(Asked::Queued)
    }

    fn client_digest(&self, client: Option<LimitKey>) -> Option<[u8; 32]> {
        client.map(|client| digest("client", &key_bytes(client)))
    }

    fn client_pace(&self) -> Pace {
        per(Duration::from_hours(1), self.args.mail_per_client)
    }

    /// Sends what is in the outbox, and forgets what is over, until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(why) => tracing::warn!(error = &why as &dyn std::error::Error, "outbox unread"),
            }
            tokio::select! {
                () = self.ordered.notified() => {}
                () = tokio::time::sleep(POLL) => {}
                _ = sweep.tick() => self.sweep().await,
                () = stop.cancelled() => {}
            }
        }
    }

    async fn sweep(&self) {
        let swept: Result<(), pg::Error> = async {
            store::token::sweep(&self.pool).await?;
            store::throttle::sweep(&self.pool).await?;
            store::totp::sweep(&self.pool).await?;
            let waiting = store::mail::waiting(&self.pool, self.args.mail_waiting).await?;
            self.metrics.outbox.set(waiting);
            Ok(())
        }
        .await;
        if let Err(why) = swept {
            tracing::warn!(error = &why as &dyn std::error::Error, "sweep failed");
        }
    }

    /// Works on what is due; how many orders that were.
    async fn round(&self) -> Result<usize, pg::Error> {
        let claimed = store::mail::claim(&self.pool, AT_ONCE, LEASE).await?;
        let count = claimed.len();
        futures_util::future::join_all(claimed.iter().map(|order| self.carry_out(order))).await;
        Ok(count)
    }

    async fn carry_out(&self, claimed: &Claimed) {
        let outcome = self.send(&claimed.order).await;
        let kind = claimed.order.kind.name();
        let (label, again) = match &outcome {
            Ok(true) => ("sent", false),
            Ok(false) => ("unknown", false),
            Err(SendError::Courier(CourierError::Refused(_)) | SendError::Letter(_)) => {
                ("refused", false)
            }
            Err(_) if claimed.attempts >= MOST_ATTEMPTS => ("given_up", false),
            Err(_) => ("postponed", true),
        };
        self.metrics.mails.with_label_values(&[kind, label]).inc();
        if let Err(why) = &outcome {
            let error = why as &dyn std::error::Error;
            tracing::warn!(error, kind, attempts = claimed.attempts, again, "mail not sent");
        }
        let ended = if again {
            store::mail::postpone(&self.pool, claimed.id, pause(claimed.attempts)).await
        } else {
            store::mail::remove(&self.pool, claimed.id).await
        };
        if let Err(why) = ended {
            // Due again when the lease has passed.
            tracing::warn!(error = &why as &dyn std::error::Error, "outbox not updated");
        }
    }

    /// `false` when there is nobody to mail to.
    async fn send(&self, order: &Order) -> Result<bool, SendError> {
        let now_ms = self.clock.now_ms();
        if order.kind == Kind::Support {
            let Some(to) = &self.args.support_address else { return Ok(false) };
            let body = order.body.clone().unwrap_or_default();
            let mail = self.head.support(to, &order.address, body, now_ms)?;
            self.courier.send(mail, None, now_ms).await?;
            return Ok(true);
        }
        let Some(email) = Email::new(&order.address) else { return Ok(false) };
        let Some(user) = self.book.user_by_email(&email).await? else { return Ok(false) };
        let grant = Grant { uid: user.uid, fp: order.fp.clone() };
        let token = self.tokens.mint(&grant).await?;
        let path = if grant.fp.is_some() { "verify" } else { "pb" };
        let link = format!("{}/{path}/{token}", self.public_url);
        let mail = match order.kind {
            Kind::Login => self.head.login(&order.address, &link, self.tokens.ttl(), now_ms)?,
            Kind::Review | Kind::Support => {
                self.head.review(&order.address, &link, self.tokens.ttl(), now_ms)?
            }
        };
        self.courier.send(mail, Some(&link), now_ms).await?;
        Ok(true)
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Letter(#[from] LetterError),
    #[error(transparent)]
    Courier(#[from] CourierError),
    #[error(transparent)]
    Storage(#[from] pg::Error),
    #[error(transparent)]
    Book(#[from] Error),
}

fn sender(args: &MailArgs, host: &str) -> anyhow::Result<Mailbox> {
    if let Some(mailbox) = &args.mail_from {
        return Ok(mailbox.clone());
    }
    // An address needs a domain; a host that is a number does not make one.
    let domain = if host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[') {
        "localhost"
    } else {
        host
    };
    Ok(Mailbox::new(Some("PeerBook".to_owned()), format!("peerbook@{domain}").parse()?))
}

/// The address without blanks around it, if it is one.
fn readable(address: &str) -> Option<&str> {
    let address = address.trim();
    let fits = address.len() <= LONGEST_ADDRESS && !address.contains('\0');
    (fits && address.parse::<lettre::Address>().is_ok()).then_some(address)
}

fn pause(attempts: i32) -> Duration {
    let exponent = u32::try_from(attempts - 1).unwrap_or_default().min(10);
    (FIRST_PAUSE * 3_u32.pow(exponent)).min(LONGEST_PAUSE)
}

fn per(period: Duration, count: u32) -> Pace {
    Pace { every: period / count.max(1), burst: count.max(1) }
}

fn key_bytes(key: LimitKey) -> Vec<u8> {
    match key {
        LimitKey::V4(octets) => octets.to_vec(),
        LimitKey::V6(octets) => octets.to_vec(),
    }
}

/// One key per purpose and subject.
fn digest(purpose: &str, subject: &[u8]) -> [u8; 32] {
    secret::hash(&[purpose.as_bytes(), b"\0", subject].concat())
}
