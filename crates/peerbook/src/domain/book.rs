//! What everybody asks: users, their peers, and the connections of this process.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use edge::{
    LimitKey,
    limit::{Keyed, Rate},
};
use moka::sync::Cache;
use parking_lot::Mutex;
use proto::book::{Dialect, Email, Fingerprint, Name};
use service::{Clock, Context};
use sqlx::PgPool;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::{
    Account, Peer, RequireProof,
    change::{Change, Changed},
    circle::{Circle, UNVERIFIED},
    connection::Connection,
    line::Line,
    lobby::Lobby,
    presence::{Place, Presence},
    secret,
};
use crate::{
    error::Error,
    metrics::Metrics,
    store::{self, peer::Introduction},
};

/// On which processes tell each other that a user changed: `<version> <uid>`.
pub(crate) const CHANNEL: &str = "peerbook_changed";

/// Fingerprints remembered as somebody else's or nobody's.
const STRANGERS: u64 = 10_000;
/// For how long.
const STRANGER_AGE: Duration = Duration::from_secs(30);
/// Addresses counted at the same time.
const ADDRESSES: usize = 65_536;
/// Commands of one fingerprint that reach the database.
const ERRANDS: Rate = Rate { burst: 200, per_second: 20 };
/// Times peers were last seen that may wait to be written; more are left out.
const MAX_SEEN: usize = 100_000;

/// Bounds of one process.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Verified peers of one user.
    pub(crate) max_peers_per_user: i64,
    /// Unverified ones.
    pub(crate) max_requests_per_user: i64,
    /// Requests of all users that may wait for an answer.
    pub(crate) max_requests: i64,
    /// How long a request waits.
    pub(crate) request_age: Duration,
    /// New requests from one address.
    pub(crate) request_rate: Rate,
    /// How long a connection's request is not mailed about again.
    pub(crate) remind_after: Duration,
    /// How long a pairing code is good.
    pub(crate) pairing_age: Duration,
    /// Host clients know us by, with its port if it has one; part of what a proof signs.
    pub(crate) host: String,
    /// Whether offers and answers have to carry their sender's fingerprint.
    pub(crate) check_sdp: bool,
}

/// Every user's peers, as far as this process knows them. Shared by all connections and pages.
pub(crate) struct Book {
    pub(crate) pool: PgPool,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) settings: Settings,
    pub(super) cx: Context,
    pub(super) presence: Arc<Presence>,
    /// Nobody here needs the other replicas any more.
    pub(super) presence_over: CancellationToken,
    pub(super) lobby: Lobby,
    /// Users with a connection here; swept when quiet.
    pub(super) circles: Mutex<HashMap<String, Arc<Circle>>>,
    /// New requests by address.
    requests_by_address: Keyed<LimitKey>,
    /// Pairing codes tried, by user.
    pub(super) guesses: Keyed<String>,
    /// Commands that reach the database, by fingerprint.
    errands: Keyed<Fingerprint>,
    /// Whether a fingerprint is a verified peer of somebody.
    strangers: Cache<Fingerprint, bool>,
    /// When peers were last connected, to be written.
    pub(super) seen: Mutex<HashMap<Fingerprint, i64>>,
    /// Requests waiting in the table, counted now and then.
    pub(super) waiting_requests: AtomicI64,
}

/// Somebody who asks to be known.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) who: Introduction,
    /// The user, by id.
    pub(crate) uid: Option<String>,
    /// Or by address.
    pub(crate) email: Option<Email>,
    /// Where it comes from.
    pub(crate) address: LimitKey,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) account: Account,
    pub(crate) peer: Peer,
    /// It was not known to this user.
    pub(crate) is_new: bool,
}

/// A peer as pages show it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) peer: Peer,
    /// A connection of it is open and let in.
    pub(crate) online: bool,
    /// A connection of it waits for approval.
    pub(crate) waiting: bool,
    /// Another of the user's peers has the same name.
    pub(crate) clashes: bool,
}

/// What a handshake asks for.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) ask: Ask,
    pub(crate) dialect: Dialect,
    /// The secret of an earlier approval.
    pub(crate) token: Option<String>,
    /// The certificate the client showed at the TLS handshake has this SHA-256.
    pub(crate) certificate: Option<[u8; 32]>,
    /// It comes over a data channel, whose handshake has checked the fingerprint.
    pub(crate) by_dtls: bool,
}

/// What was found out about a [`Hello`]; the connection can be opened.
pub(crate) struct Admission {
    hello: Hello,
    circle: Option<Arc<Circle>>,
    calls: u64,
    proven: bool,
    place: Place,
    /// Whom to mail about it.
    pub(crate) mail: Option<Account>,
}

impl Book {
    pub(crate) fn new(
        pool: PgPool,
        presence: Presence,
        settings: Settings,
        cx: &Context,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool,
            clock: cx.clock.clone(),
            metrics: Metrics::register(&cx.metrics)?,
            requests_by_address: Keyed::new(settings.request_rate, ADDRESSES),
            guesses: Keyed::new(Rate { burst: 10, per_second: 1 }, ADDRESSES),
            errands: Keyed::new(ERRANDS, ADDRESSES),
            settings,
            cx: cx.clone(),
            presence: Arc::new(presence),
            presence_over: CancellationToken::new(),
            lobby: Lobby::default(),
            circles: Mutex::default(),
            strangers: Cache::builder().max_capacity(STRANGERS).time_to_live(STRANGER_AGE).build(),
            seen: Mutex::default(),
            waiting_requests: AtomicI64::new(0),
        })
    }

    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now_ms() / 1000
    }

    /// The user of an address.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn user_by_email(&self, email: &Email) -> Result<Option<Account>, Error> {
        Ok(store::account::by_email(&self.pool, email).await?)
    }

    /// The user of an id.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn user_by_uid(&self, uid: &str) -> Result<Option<Account>, Error> {
        Ok(store::account::by_uid(&self.pool, uid).await?)
    }

    /// The user of an address, made when there is none. For requests and registrations only: pages
    /// that answer strangers must not make users.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn ensure_user(&self, email: &Email) -> Result<Account, Error> {
        Ok(store::account::ensure(&self.pool, &secret::uid(), email).await?)
    }

    /// Lets a peer in. Its waiting connections hear 200 and may send at once.
    ///
    /// # Errors
    /// [`Error::UnknownUser`], [`Error::UnknownPeer`], [`Error::Full`], [`Error::OwnedElsewhere`];
    /// the database's.
    pub(crate) async fn approve(
        self: &Arc<Self>,
        uid: &str,
        fp: &Fingerprint,
    ) -> Result<Changed, Error> {
        self.change(uid, Change::Approve(fp.clone())).await
    }

    /// Refuses a request, or revokes an approval: the peer's connections are closed and nothing is
    /// forwarded once this is committed.
    ///
    /// # Errors
    /// [`Error::UnknownUser`], [`Error::UnknownPeer`]; the database's.
    pub(crate) async fn revoke(
        self: &Arc<Self>,
        uid: &str,
        fp: &Fingerprint,
    ) -> Result<Changed, Error> {
        self.change(uid, Change::Refuse(fp.clone())).await
    }

    /// Calls a peer something else.
    ///
    /// # Errors
    /// As [`Book::revoke`].
    pub(crate) async fn rename(
        self: &Arc<Self>,
        uid: &str,
        fp: &Fingerprint,
        name: Name,
    ) -> Result<Changed, Error> {
        self.change(uid, Change::Rename(fp.clone(), name)).await
    }

    /// Forgets a peer or a request; its connections are closed.
    ///
    /// # Errors
    /// As [`Book::revoke`].
    pub(crate) async fn remove(
        self: &Arc<Self>,
        uid: &str,
        fp: &Fingerprint,
    ) -> Result<Changed, Error> {
        self.change(uid, Change::Remove(fp.clone())).await
    }

    /// Forgets all peers and requests of a user, who remains.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; the database's.
    pub(crate) async fn remove_all(self: &Arc<Self>, uid: &str) -> Result<Changed, Error> {
        self.change(uid, Change::RemoveAll).await
    }

    /// Forgets a user with everything they have.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; the database's.
    pub(crate) async fn remove_user(self: &Arc<Self>, uid: &str) -> Result<Changed, Error> {
        self.change(uid, Change::RemoveUser).await
    }

    /// Says whose fingerprints have to be proven; connections that are not are closed.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; the database's.
    pub(crate) async fn set_require_proof(
        self: &Arc<Self>,
        uid: &str,
        policy: RequireProof,
    ) -> Result<Changed, Error> {
        self.change(uid, Change::RequireProof(policy)).await
    }

    /// A peer asks to be known to a user. Makes the user when it is named by an address nobody has;
    /// changes nothing about a peer that has proven its fingerprint.
    ///
    /// Whether to write to the user is the caller's to decide, by [`Asked::peer`].
    ///
    /// # Errors
    /// [`Error::UnknownUser`] for an unknown id, [`Error::OwnedElsewhere`], [`Error::Full`],
    /// [`Error::TooMany`]; the database's.
    pub(crate) async fn request(self: &Arc<Self>, ask: &Ask) -> Result<Asked, Error> {
        let fp = &ask.who.fp;
        let known = store::peer::find(&self.pool, fp).await?;
        let account = match (&ask.uid, &ask.email) {
            (Some(uid), _) => self.user_by_uid(uid).await?.ok_or(Error::UnknownUser)?,
            (None, Some(email)) => match self.user_by_email(email).await? {
                Some(account) => account,
                None => {
                    self.admit_request(ask)?;
                    self.ensure_user(email).await?
                }
            },
            (None, None) => return Err(Error::UnknownUser),
        };
        if let Some(known) = known.filter(|known| known.peer.verified) {
            if known.account.uid != account.uid {
                return Err(Error::OwnedElsewhere);
            }
            return self.reintroduce(ask, known).await;
        }
        let shelf = store::peer::of(&self.pool, &account.uid).await?;
        let before = shelf.into_iter().find(|peer| peer.fp == *fp);
        if before.is_none() {
            self.admit_request(ask)?;
            self.waiting_requests.fetch_add(1, Ordering::Relaxed);
            self.metrics.requests.inc();
        }
        if let Some(peer) = before.as_ref().filter(|peer| says_nothing_new(&ask.who, peer)) {
            return Ok(Asked { account, peer: peer.clone(), is_new: false });
        }
        let changed = self.change(&account.uid, Change::Introduce(ask.who.clone())).await?;
        let shelf = changed.shelf.ok_or(Error::UnknownUser)?;
        let peer = shelf.peers.into_iter().find(|peer| peer.fp == *fp);
        let peer = peer.ok_or(Error::UnknownPeer)?;
        Ok(Asked { account: shelf.account, peer, is_new: before.is_none() })
    }

    /// A verified peer says its name again. The fingerprint is public: once it was proven, only its
    /// user, or the peer itself over a proven connection, may change the rest.
    async fn reintroduce(
        self: &Arc<Self>,
        ask: &Ask,
        known: store::peer::Known,
    ) -> Result<Asked, Error> {
        let store::peer::Known { account, peer } = known;
        let guarded = peer.proven_on.is_some() || says_nothing_new(&ask.who, &peer);
        let taken = |shelf: &[Peer], name: &Name| {
            shelf.iter().any(|other| other.fp != peer.fp && other.name == name.as_str())
        };
        if let Some(name) =
            ask.who.name.clone().filter(|name| !guarded && *name.as_str() != *peer.name)
        {
            let shelf = store::peer::of(&self.pool, &account.uid).await?;
            if !taken(&shelf, &name) {
                self.rename(&account.uid, &peer.fp, name.clone()).await?;
                let peer = Peer { name: name.as_str().to_owned(), ..peer };
                return Ok(Asked { account, peer, is_new: false });
            }
        }
        Ok(Asked { account, peer, is_new: false })
    }

    fn admit_request(&self, ask: &Ask) -> Result<(), Error> {
        if self.waiting_requests.load(Ordering::Relaxed) >= self.settings.max_requests {
            self.metrics.request_limits.inc();
            return Err(Error::TooMany { retry_after: Duration::from_secs(60) });
        }
        self.requests_by_address.check(&ask.address, 1).map_err(|retry_after| {
            self.metrics.request_limits.inc();
            Error::TooMany { retry_after }
        })
    }

    /// Notes that the user was written to about a request.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn note_mailed(&self, uid: &str, fp: &Fingerprint) -> Result<(), Error> {
        Ok(store::peer::mailed(&self.pool, uid, fp).await?)
    }

    /// The verified owner of a fingerprint, with the peer.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn verified(
        &self,
        fp: &Fingerprint,
    ) -> Result<Option<(Account, Peer)>, Error> {
        let known = store::peer::find(&self.pool, fp).await?;
        Ok(known.filter(|known| known.peer.verified).map(|known| (known.account, known.peer)))
    }

    /// Looks up who shakes hands, and records a request where there is something to record.
    ///
    /// # Errors
    /// The database's. That nobody can be asked is no error: the connection then just waits.
    pub(crate) async fn admit(self: &Arc<Self>, hello: Hello) -> Result<Admission, Error> {
        let calls = self.lobby.calls();
        let fp = &hello.ask.who.fp;
        let by_certificate = hello.certificate.is_some_and(|digest| fp.digest() == Some(digest));
        let known = store::peer::find(&self.pool, fp).await?;
        if let Some(known) = known.as_ref().filter(|known| known.peer.verified) {
            let by_token = has_bearer(&known.peer, hello.token.as_deref());
            let proof = match (hello.by_dtls, by_certificate, by_token) {
                (true, _, _) => Some("dtls"),
                (_, true, _) => Some("certificate"),
                (_, _, true) => Some("bearer"),
                _ => None,
            };
            let recorded = known.peer.proof.as_deref() == proof
                && (proof != Some("bearer") || known.peer.bearer_used);
            if let Some(proof) = proof.filter(|_| !recorded) {
                self.change(&known.account.uid, Change::Proven(fp.clone(), proof)).await?;
            }
            let (uid, proven) = (&known.account.uid, proof.is_some());
            let place = self.presence.arrive(fp, Some(uid), proven).await?;
            let circle = self.loaded_circle(uid).await?;
            return Ok(Admission { hello, circle: Some(circle), calls, proven, place, mail: None });
        }
        let proof = match (hello.by_dtls, by_certificate) {
            (true, _) => Some("dtls"),
            (false, true) => Some("certificate"),
            (false, false) => None,
        };
        let mail = self.ask_for(&hello, known.map(|known| known.account), proof).await?;
        let proven = proof.is_some();
        let place = self.presence.arrive(&hello.ask.who.fp, None, proven).await?;
        Ok(Admission { hello, circle: None, calls, proven, place, mail })
    }

    /// Records the request of an unknown peer; whom to write to about it.
    async fn ask_for(
        self: &Arc<Self>,
        hello: &Hello,
        known: Option<Account>,
        proof: Option<&'static str>,
    ) -> Result<Option<Account>, Error> {
        let mut ask = hello.ask.clone();
        if ask.uid.is_none() && ask.email.is_none() {
            let Some(account) = known else { return Ok(None) };
            ask.uid = Some(account.uid);
        }
        let asked = match self.request(&ask).await {
            Ok(asked) => asked,
            Err(Error::Storage(why)) => return Err(Error::Storage(why)),
            Err(why) => {
                tracing::debug!(%why, "request of a waiting connection not recorded");
                return Ok(None);
            }
        };
        if let Some(proof) = proof {
            self.note_proof(&asked.account.uid, &asked.peer, proof).await?;
        }
        let age = i64::try_from(self.settings.remind_after.as_secs()).unwrap_or(i64::MAX);
        let due = asked.peer.mailed_on.is_none_or(|at| self.now() - at >= age);
        Ok((due && !asked.peer.refused && !asked.peer.verified).then_some(asked.account))
    }

    /// Opens the connection of an admission: it is let in, or told to wait.
    pub(crate) fn open(self: &Arc<Self>, admission: Admission, line: Line) -> Arc<Connection> {
        let Admission { hello, circle, calls, proven, place, .. } = admission;
        let Hello { ask, dialect, .. } = hello;
        let nonce = secret::token();
        let held = (place, proven);
        let connection = Connection::new(ask.who, dialect, line, nonce, ask.address, held);
        let connection = Arc::new(connection);
        self.metrics.connections.inc();
        match circle {
            Some(circle) => {
                if circle.enter(&connection, &self.lobby, self.now()) {
                    self.note_seen(&connection.fp);
                }
            }
            None => {
                connection.wait(UNVERIFIED);
                self.lobby.enter(&connection);
                if self.lobby.calls() != calls {
                    self.look_again(&connection);
                }
            }
        }
        self.metrics.waiting.set(i64::try_from(self.lobby.len()).unwrap_or(i64::MAX));
        connection
    }

    /// Somebody was approved while this connection was on its way into the lobby.
    fn look_again(self: &Arc<Self>, connection: &Arc<Connection>) {
        let (book, connection) = (self.clone(), connection.clone());
        self.cx.spawn("look-again", async move {
            let Ok(Some((account, _))) = book.verified(&connection.fp).await else { return };
            let Ok(circle) = book.loaded_circle(&account.uid).await else { return };
            if book.lobby.leave(&connection) {
                circle.enter(&connection, &book.lobby, book.now());
            }
        });
    }

    /// A connection is over.
    pub(crate) fn close(&self, connection: &Arc<Connection>) {
        self.metrics.connections.dec();
        connection.place.leave();
        match connection.circle() {
            Some(circle) => {
                circle.leave(connection, self.now());
                self.note_seen(&connection.fp);
            }
            None => {
                if !self.lobby.leave(connection)
                    && let Some(circle) = connection.circle()
                {
                    circle.leave(connection, self.now());
                }
            }
        }
        self.metrics.waiting.set(i64::try_from(self.lobby.len()).unwrap_or(i64::MAX));
    }

    fn note_seen(&self, fp: &Fingerprint) {
        let mut seen = self.seen.lock();
        if seen.len() < MAX_SEEN || seen.contains_key(fp) {
            seen.insert(fp.clone(), self.now());
        }
    }

    /// Whether a fingerprint is a verified peer of anybody. Remembered for a while: asking about
    /// strangers is not a way to keep the database busy.
    pub(crate) async fn is_somebodys(&self, fp: &str) -> Result<bool, Error> {
        let Some(fp) = Fingerprint::new(fp) else { return Ok(false) };
        if let Some(known) = self.strangers.get(&fp) {
            return Ok(known);
        }
        let found = store::peer::owner(&self.pool, &fp).await?.is_some();
        self.strangers.insert(fp, found);
        Ok(found)
    }

    /// Pays for a command that reaches the database; what is decided in memory costs nothing here.
    ///
    /// # Errors
    /// [`Error::TooMany`]
    pub(crate) fn pay_errand(&self, fp: &Fingerprint) -> Result<(), Error> {
        self.errands.check(fp, 1).map_err(|retry_after| {
            self.metrics.request_limits.inc();
            Error::TooMany { retry_after }
        })
    }

    /// The circle of a user, empty when it is new.
    pub(super) fn circle(&self, uid: &str) -> Arc<Circle> {
        let mut circles = self.circles.lock();
        let circle = circles.entry(uid.to_owned());
        circle.or_insert_with(|| Arc::new(Circle::new(uid.to_owned()))).clone()
    }

    /// The circle of a user with connections here.
    pub(super) fn known_circle(&self, uid: &str) -> Option<Arc<Circle>> {
        self.circles.lock().get(uid).cloned()
    }

    /// The circle of a user, holding what the tables hold, with who is connected elsewhere now.
    pub(super) async fn loaded_circle(&self, uid: &str) -> Result<Arc<Circle>, Error> {
        // Entered before the tables are read: a change committed after that finds it.
        let circle = self.circle(uid);
        if circle.version() == 0 {
            let shelf = store::peer::shelf(&self.pool, uid).await?;
            circle.apply(shelf, &self.lobby, None, self.now());
        }
        self.look_elsewhere(&[uid.to_owned()]).await?;
        Ok(circle)
    }
}

/// Whether a request holds nothing that is not known.
fn says_nothing_new(who: &Introduction, peer: &Peer) -> bool {
    who.name.as_ref().is_none_or(|name| name.as_str() == peer.name)
        && who.kind.as_ref().is_none_or(|kind| kind.as_str() == peer.kind)
        && who.properties.as_ref().is_none_or(|text| {
            let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            json(text) == json(&peer.properties)
        })
}

/// Whether `token` is the secret the peer was given at approval.
pub(super) fn has_bearer(peer: &Peer, token: Option<&str>) -> bool {
    match (&peer.bearer_hash, token) {
        (Some(hash), Some(token)) => {
            bool::from(secret::hash(token.as_bytes()).as_slice().ct_eq(hash))
        }
        _ => false,
    }
}
