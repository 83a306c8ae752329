//! Peers of two users' books, let in and thrown out on pages of any replica.
//!
//! Invariants, besides that everything is in order 20 s after the fault:
//! 1. What is said on a page of one replica holds at all: who waits there is let in, who was thrown out is
//!    told and closed.
//! 2. Nothing reaches a revoked peer any more once it was told; nor what is sent, after the page's answer,
//!    from the replica that gave it; nor what is sent from anywhere once everything is in order.
//! 3. Nothing ever reaches a peer of another user, or one that waits.
//! 4. A connection hears each envelope once, and what another connection sent in order.
//! 5. Every list says who is connected, at whichever replica, and whoever is connected is reached from
//!    every replica.

mod peer;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rand::RngExt as _;
use serde_json::json;
use testkit::book_client::{BookPeer, Dialect, escaped, tick};
use testkit::http_client::HttpClient;
use testkit::process::Builder;
use testkit::smtp_sink::SmtpSink;

use crate::drama::{Players, answered, leased, soon};
use crate::stage::Stage;
use peer::{Connection, Envelope, Member, Standing};

const USERS: usize = 2;
const PEERS: usize = 3;
const MEMBERS: usize = USERS * PEERS;

/// Envelopes of one operation.
const BURST: usize = 5;

/// How long a mail may take before another is asked for.
const MAIL_WITHIN: Duration = Duration::from_secs(3);

/// How long a probe may take before another is sent.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Two users and their peers.
#[derive(Debug)]
pub struct Books {
    mail: SmtpSink,
    /// Addresses, and the token of the next page if it is known.
    users: Vec<(String, Option<String>)>,
    members: Vec<Member>,
    /// All that was ever sent, by number.
    envelopes: Vec<Envelope>,
    connections: u64,
}

impl Players for Books {
    const SERVICES: &'static [&'static str] = &["peerbook"];
    const LIVING: &'static str = "SELECT count(*) FROM peerbook.node";
    const ON_BUS: &'static [&'static str] = &["peerbook"];
    const SKEW_S: i64 = 3_600;

    async fn gather(seed: u64) -> anyhow::Result<Self> {
        let email = |user: usize| format!("user-{user}@seed-{seed}.test");
        let users = (0..USERS).map(|user| (email(user), None)).collect();
        let member = |nth: usize| {
            let user = nth / PEERS;
            Member::new(user, BookPeer::new(&format!("peer-{nth}"), "webexec", &email(user)))
        };
        let members = (0..MEMBERS).map(member).collect();
        let mail = SmtpSink::start().await?;
        Ok(Self { mail, users, members, envelopes: Vec::new(), connections: 0 })
    }

    fn set(&self, _name: &'static str, service: Builder) -> Builder {
        let service =
            leased(service).set("PUBLIC_URL", "http://book.test").set("SMTP_HOST", "127.0.0.1");
        let service = service.set("SMTP_PORT", self.mail.address().port());
        // Links that got lost with a process are asked for again.
        service.set("MAIL_INTERVAL", "1s").set("MAIL_PER_DAY", 1_000).set("MAIL_PER_CLIENT", 1_000)
    }

    async fn enter(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        for one in 0..MEMBERS {
            let address = stage.anywhere();
            self.connect(address, one).await;
        }
        Ok(())
    }

    async fn act(&mut self, stage: &mut Stage, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let one = stage.rng.random_range(0..MEMBERS);
            let other = stage.rng.random_range(0..MEMBERS);
            match stage.rng.random_range(0..10) {
                0..3 => {
                    let address = stage.anywhere();
                    self.connect(address, one).await;
                }
                3 => self.members[one].connection = None,
                4..8 => {
                    for _ in 0..stage.rng.random_range(1..=BURST) {
                        self.send(one, other).await;
                    }
                }
                _ => {
                    self.members[one].wanted = stage.rng.random_bool(0.6);
                    let address = stage.anywhere();
                    self.decide(address, self.members[one].user).await;
                }
            }
            self.read(other).await?;
        }
        Ok(())
    }

    async fn brace(&mut self, stage: &mut Stage, victim: usize) -> anyhow::Result<()> {
        for (one, replica) in stage.all().into_iter().chain([victim]).enumerate().take(PEERS) {
            self.members[one].wanted = true;
            self.connect(stage.address(replica), one).await;
        }
        self.agree(stage.address(victim)).await?;
        for one in 0..PEERS {
            for other in 0..PEERS {
                self.send(one, other).await;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, stage: &mut Stage, living: &[usize]) -> anyhow::Result<()> {
        self.agree(stage.address(living[0])).await?;
        self.everyone_is_reached().await?;
        self.strangers_hear_nothing().await
    }
}

impl Books {
    async fn connect(&mut self, address: SocketAddr, one: usize) {
        self.connections += 1;
        let member = &mut self.members[one];
        member.connection = None;
        let socket = answered(member.peer.connect(address, Dialect::Readme)).await;
        let number = self.connections;
        member.connection = socket.map(|socket| Connection::new(socket, address, number));
    }

    /// Sends an envelope, if one is connected; its number.
    async fn send(&mut self, one: usize, other: usize) -> Option<usize> {
        let [target, user] = [&self.members[other], &self.members[one]];
        let barred = target.user != user.user
            || match (target.standing, &user.connection) {
                (Standing::Out { by }, Some(from)) => by.is_none_or(|by| by == from.address),
                _ => false,
            };
        let target = target.peer.fp.clone();
        let connection = self.members[one].connection.as_mut()?;
        let number = self.envelopes.len();
        self.envelopes.push(Envelope { from: connection.number, to: other, barred });
        let envelope = json!({"target": target, "offer": {"n": number}});
        if answered(connection.socket.send(&envelope)).await.is_none() {
            self.members[one].connection = None;
        }
        Some(number)
    }

    async fn read(&mut self, one: usize) -> anyhow::Result<()> {
        let member = &mut self.members[one];
        let Some(connection) = &mut member.connection else { return Ok(()) };
        let open = connection.read(one, &self.envelopes).await;
        if !open.with_context(|| format!("at {}", member.peer.name))? {
            member.connection = None;
        }
        Ok(())
    }

    async fn read_all(&mut self) -> anyhow::Result<()> {
        for one in 0..MEMBERS {
            self.read(one).await?;
        }
        Ok(())
    }

    /// Lets in whom a user wants, and nobody else, on a page of this replica.
    async fn decide(&mut self, address: SocketAddr, user: usize) -> bool {
        let Some(token) = self.users[user].1.take() else { return false };
        let own = |member: &&mut Member| member.user == user;
        let wanted = self.members.iter().filter(|member| member.user == user && member.wanted);
        let wanted: Vec<&BookPeer> = wanted.map(|member| &member.peer).collect();
        let http = HttpClient::plain(address).new_connections();
        let next = answered(tick(&http, &token, &wanted)).await;
        for member in self.members.iter_mut().filter(own) {
            member.standing = match (&next, member.wanted) {
                (None, _) => Standing::Unknown,
                (Some(_), true) => Standing::In,
                (Some(_), false) => member.standing.out(address),
            };
        }
        self.users[user].1 = next;
        self.users[user].1.is_some()
    }

    /// Decides for every user, with a new link where the last got lost, and waits until every
    /// connection and every list agrees.
    async fn agree(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        for user in 0..USERS {
            soon(async || {
                if self.users[user].1.is_none() {
                    self.ask_for_link(address, user).await?;
                }
                ensure!(self.decide(address, user).await, "the page does not answer");
                Ok(())
            })
            .await?;
        }
        soon(async || {
            self.read_all().await?;
            for member in &self.members {
                let Some(connection) = &member.connection else { continue };
                let (name, is_in) = (&member.peer.name, member.standing == Standing::In);
                ensure!(
                    connection.let_in == is_in,
                    "{name}: {connection:?}, {:?}",
                    member.standing
                );
            }
            self.lists_agree().await
        })
        .await?;
        for member in &mut self.members {
            member.standing.is_known_everywhere();
        }
        Ok(())
    }

    async fn ask_for_link(&mut self, address: SocketAddr, user: usize) -> anyhow::Result<()> {
        let (email, token) = &mut self.users[user];
        let mail = match self.mail.next_to_within(Duration::ZERO, email).await? {
            Some(mail) => Some(mail),
            None => {
                let form = [("content-type", "application/x-www-form-urlencoded")];
                let body = Bytes::from(format!("email={}", escaped(email)));
                let http = HttpClient::plain(address).new_connections();
                http.send(http::Method::POST, "/hitme", &form, body).await?;
                self.mail.next_to_within(MAIL_WITHIN, email).await?
            }
        };
        let link = mail.context("no mail")?.link_path();
        *token = link.rsplit('/').next().map(str::to_owned);
        Ok(())
    }

    /// Whether every list shows who is in, and who of them is connected.
    async fn lists_agree(&mut self) -> anyhow::Result<()> {
        for one in 0..MEMBERS {
            let Member { user, connection, peer, .. } = &mut self.members[one];
            let (user, name) = (*user, peer.name.clone());
            let Some(asking) = connection.as_mut().filter(|connection| connection.let_in) else {
                continue;
            };
            let Some(list) = answered(asking.list()).await else {
                *connection = None;
                anyhow::bail!("{name} is not answered");
            };
            for other in self.members.iter().filter(|member| member.user == user) {
                let mut listed = list.iter();
                let listed = listed.find(|listed| listed["fp"] == other.peer.fp.as_str());
                let is_in = other.standing == Standing::In;
                let agrees = match listed {
                    Some(listed) => {
                        listed["verified"] == is_in && listed["online"] == other.is_let_in()
                    }
                    // Who is out need not be there at all.
                    None => !is_in,
                };
                ensure!(agrees, "{name} sees {listed:?}, but {other:?}");
            }
        }
        Ok(())
    }

    async fn everyone_is_reached(&mut self) -> anyhow::Result<()> {
        let pairs = (0..MEMBERS).flat_map(|one| (0..MEMBERS).map(move |other| (one, other)));
        for (one, other) in pairs.filter(|(one, other)| one != other) {
            if self.members[one].user != self.members[other].user
                || !self.members[one].is_let_in()
                || !self.members[other].is_let_in()
            {
                continue;
            }
            soon(async || {
                let number = self.send(one, other).await.context("the sender has gone")?;
                crate::drama::within(HEARD_WITHIN, async || {
                    self.read(other).await?;
                    let there = self.members[other].connection.as_ref();
                    let there = there.context("the receiver has gone")?;
                    let last = there.heard.get(&self.envelopes[number].from);
                    ensure!(
                        last.is_some_and(|&last| last >= number),
                        "{one} does not reach {other}"
                    );
                    Ok(())
                })
                .await
            })
            .await?;
        }
        Ok(())
    }

    /// Sends what must not arrive; reading it fails, now or later.
    async fn strangers_hear_nothing(&mut self) -> anyhow::Result<()> {
        for one in 0..MEMBERS {
            for other in 0..MEMBERS {
                let out = self.members[other].standing != Standing::In;
                if out || self.members[one].user != self.members[other].user {
                    self.send(one, other).await;
                }
            }
        }
        // Behind the answers, so that it had its time.
        for one in 0..MEMBERS {
            self.read(one).await?;
            if let Some(there) = &mut self.members[one].connection
                && there.let_in
            {
                answered(there.list()).await.context("no list")?;
            }
        }
        self.read_all().await
    }
}
