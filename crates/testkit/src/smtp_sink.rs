//! A mail server that keeps what it is given: the other end of a service's real SMTP conversation.
//!
//! Speaks RFC 5321 with SIZE and 8BITMIME, and when asked to STARTTLS (RFC 3207) and AUTH PLAIN and
//! LOGIN (RFC 4954). Relays nothing.

mod mail;
mod session;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use mail::Mail;

/// How long an expected mail may take; generous, because tests share a machine.
pub const MAIL_WITHIN: Duration = Duration::from_secs(20);
/// Conversations at the same time; more wait.
const SESSIONS: usize = 64;

/// What the server asks of its clients.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Offer STARTTLS with this certificate, and take mail only after it.
    pub tls: Option<Arc<ServerConfig>>,
    /// Take mail only from who knows this name and password.
    pub login: Option<(String, String)>,
}

/// A running server; ends with its owner.
#[derive(Debug)]
pub struct SmtpSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    taken: Mutex<HashSet<usize>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    mails: watch::Sender<Vec<Arc<Mail>>>,
    /// So many mails are put off with 451 before one is taken.
    put_off: AtomicUsize,
}

impl SmtpSink {
    /// Takes mail from anybody, without TLS.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(Rules::default()).await
    }

    /// Takes mail by these rules.
    pub async fn with(rules: Rules) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mails = watch::Sender::new(Vec::new());
        let shared = Arc::new(Shared { rules, mails, put_off: AtomicUsize::new(0) });
        let serving = Arc::clone(&shared);
        #[expect(clippy::disallowed_methods, reason = "a test's server has no service context")]
        let accepting = tokio::spawn(accept(listener, serving));
        Ok(Self { address, shared, taken: Mutex::default(), accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts off the next `count` mails with 451, as a busy server does.
    pub fn put_off(&self, count: usize) {
        self.shared.put_off.store(count, Ordering::Relaxed);
    }

    /// Every mail so far, oldest first.
    pub fn all(&self) -> Vec<Arc<Mail>> {
        self.shared.mails.borrow().clone()
    }

    /// The oldest mail to `address` that no call has returned yet; waits for it.
    pub async fn next_to(&self, address: &str) -> anyhow::Result<Arc<Mail>> {
        self.next_to_within(MAIL_WITHIN, address)
            .await?
            .with_context(|| format!("no mail to {address} within {MAIL_WITHIN:?}"))
    }

    /// As [`SmtpSink::next_to`], with none when nothing comes within `limit`.
    pub async fn next_to_within(
        &self,
        limit: Duration,
        address: &str,
    ) -> anyhow::Result<Option<Arc<Mail>>> {
        let mut mails = self.shared.mails.subscribe();
        let found = |all: &Vec<Arc<Mail>>| {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let to = |mail: &Mail| mail.to.iter().any(|to| to.eq_ignore_ascii_case(address));
            let at = (0..all.len()).find(|at| !taken.contains(at) && to(&all[*at]))?;
            taken.insert(at);
            Some(Arc::clone(&all[at]))
        };
        let mut mail = None;
        let arrived = mails.wait_for(|all| {
            mail = found(all);
            mail.is_some()
        });
        match timeout(limit, arrived).await {
            Ok(waited) => drop(waited?),
            Err(_) => return Ok(None),
        }
        Ok(mail)
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(SESSIONS));
    // Dropped with this task, and every conversation with it.
    let mut sessions = tokio::task::JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            let _place = place;
            // A client that breaks off has nothing more to say.
            let _ = session::serve(stream, &shared).await;
        });
        while sessions.try_join_next().is_some() {}
    }
}
