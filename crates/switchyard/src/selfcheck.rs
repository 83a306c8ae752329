//! Proof that the stack works: what two clients would do, done once.
//!
//! Two identities made for the occasion sign everything they send. One leaves a message the other
//! fetches and acknowledges; then both register and one signals the other. Afterwards their pins
//! are released, so that starting often leaves nothing behind.

mod channels;
mod identity;
mod mesh;
mod pads;
mod peerbook;
mod relay;
mod signal;

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::Instant;

use self::identity::Peer;
use crate::ports::{Place, Service};

/// How long each step may take; far more than it does.
const STEP: Duration = Duration::from_secs(10);

/// How long the round trips took, in milliseconds; nothing for a service that does not run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Proof {
    /// Store, fetch and acknowledge.
    pub(crate) relay_ms: Option<f64>,
    /// Two registrations and a signal.
    pub(crate) signal_ms: Option<f64>,
    /// A link between two pads and a packet through it.
    pub(crate) linker_ms: Option<f64>,
    /// A channel, a request for a pad and its answer.
    pub(crate) hub_ms: Option<f64>,
    /// A peer let in by another's word, and an offer between them.
    pub(crate) peerbook_ms: Option<f64>,
    /// A post to a room, paid with work.
    pub(crate) mesh_ms: Option<f64>,
}

impl Proof {
    /// For people.
    pub(crate) fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(ms) = self.relay_ms {
            parts.push(format!("a message was stored, fetched and acknowledged in {ms:.1} ms"));
        }
        if let Some(ms) = self.signal_ms {
            parts.push(format!("two peers registered and one signalled the other in {ms:.1} ms"));
        }
        if let Some(ms) = self.linker_ms {
            parts.push(format!("two pads were linked and passed a packet in {ms:.1} ms"));
        }
        if let Some(ms) = self.hub_ms {
            parts.push(format!("a channel's host was asked for a pad and answered in {ms:.1} ms"));
        }
        if let Some(ms) = self.peerbook_ms {
            parts.push(format!("a peer was let in by another and got its offer in {ms:.1} ms"));
        }
        if let Some(ms) = self.mesh_ms {
            parts.push(format!("a room took a post for its work in {ms:.1} ms"));
        }
        format!("self-check: {}", parts.join("; "))
    }
}

/// Does the round trips through the services of `places`.
pub(crate) async fn run(places: &[Place], pool: &PgPool) -> anyhow::Result<Proof> {
    let (alice, bob) = (Peer::new(), Peer::new());
    let result = round_trips(places, &alice, &bob, pool).await;
    for peer in [&alice, &bob] {
        ::identity::release(pool, peer.id.as_bytes()).await.context("cannot release the pins")?;
    }
    result
}

async fn round_trips(
    places: &[Place],
    alice: &Peer,
    bob: &Peer,
    pool: &PgPool,
) -> anyhow::Result<Proof> {
    let place = |service| places.iter().find(|place| place.service == service);
    let mut proof = Proof {
        relay_ms: None,
        signal_ms: None,
        linker_ms: None,
        hub_ms: None,
        peerbook_ms: None,
        mesh_ms: None,
    };
    if let Some(place) = place(Service::Relay) {
        let began = Instant::now();
        relay::round_trip(place.local(), alice, bob).await.context("the relay's self-check")?;
        proof.relay_ms = Some(began.elapsed().as_secs_f64() * 1000.0);
    }
    if let Some(place) = place(Service::Signal) {
        let began = Instant::now();
        signal::round_trip(place.local(), alice, bob).await.context("the signal self-check")?;
        proof.signal_ms = Some(began.elapsed().as_secs_f64() * 1000.0);
    }
    if let Some(place) = place(Service::PeerLinker) {
        let began = Instant::now();
        let checked = pads::round_trip(place.local()).await;
        if checked.context("the peer-linker's self-check")? {
            proof.linker_ms = Some(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    if let Some(place) = place(Service::ChannelHub) {
        let began = Instant::now();
        let checked = channels::round_trip(place.local()).await;
        if checked.context("the channel-hub's self-check")? {
            proof.hub_ms = Some(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    if let Some(place) = place(Service::Peerbook) {
        let began = Instant::now();
        peerbook::round_trip(place.local(), pool).await.context("the peerbook's self-check")?;
        proof.peerbook_ms = Some(began.elapsed().as_secs_f64() * 1000.0);
    }
    if let Some(place) = place(Service::Mesh) {
        let began = Instant::now();
        if mesh::round_trip(place.local()).await.context("the mesh's self-check")? {
            proof.mesh_ms = Some(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(proof)
}
