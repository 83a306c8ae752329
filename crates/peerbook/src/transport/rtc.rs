//! `/offer` and `/candidates/…`: connections by WebRTC, with the channel `%`.
//!
//! We are an ICE-lite agent (RFC 8445) with one UDP socket: we answer whoever knows the name and
//! password in our answer, and send nothing to addresses that a client only speaks of.

mod crypto;
mod hub;
mod metrics;
mod pump;
mod seats;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use edge::{
    Body,
    limit::{Keyed, Rate},
};
use http::{HeaderValue, Method, Response, StatusCode, header};
use proto::book::{Dialect, Fingerprint, sdp};
use service::Context;
use str0m::{
    Candidate, IceCreds, RtcConfig,
    change::SdpOffer,
    config::{CryptoProvider, DtlsCert},
    crypto::dtls::DtlsVersion,
};
use tokio::net::UdpSocket;
use uuid::Uuid;

use super::{Call, bearer, body, respond};
use crate::{
    config::{RtcArgs, Strangers},
    domain::{
        Introduction,
        book::{Ask, Hello},
        pipe::Pipe,
    },
    protocol::channel::Desk,
};
use hub::Hub;
use metrics::Metrics;
use pump::{Pump, State};
use seats::{Seat, Seats};

/// Longest description of a candidate, in bytes.
const CANDIDATE_MAX_BYTES: usize = 4096;
/// Offers of one address.
const OFFERS: Rate = Rate { burst: 30, per_second: 1 };
/// Addresses counted at the same time.
const ADDRESSES: usize = 65_536;

/// What connections by WebRTC share.
pub(crate) struct WebRtc {
    desk: Arc<Desk>,
    hub: Arc<Hub>,
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    args: RtcArgs,
    bounds: Bounds,
    rates: Keyed,
    seats: Arc<Seats>,
    metrics: Arc<Metrics>,
    /// Where clients reach us by HTTP.
    public_url: String,
    cx: Context,
}

/// What a connection may hold, in bytes and messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) message_bytes: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) outbox_frames: usize,
}

impl WebRtc {
    /// Opens the socket; `None` when no address was set.
    ///
    /// # Errors
    /// The port is taken, or nothing tells what to call ourselves.
    pub(crate) async fn start(
        args: RtcArgs,
        bounds: Bounds,
        desk: Arc<Desk>,
        public_url: &str,
        cx: &Context,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(listen) = args.rtc_listen else { return Ok(None) };
        let socket = UdpSocket::bind(listen).await;
        let socket = socket.with_context(|| format!("cannot listen at {listen} (UDP)"))?;
        let port = socket.local_addr()?.port();
        let mut addresses: Vec<SocketAddr> =
            args.rtc_public_ip.iter().map(|ip| (*ip, port).into()).collect();
        if addresses.is_empty() {
            ensure!(!listen.ip().is_unspecified(), "--rtc-public-ip: which are our addresses?");
            addresses.push((listen.ip(), port).into());
        }
        let metrics = Arc::new(Metrics::register(&cx.metrics)?);
        let hub = Arc::new(Hub::new(socket, addresses, metrics.clone()));
        cx.spawn_essential("rtc-socket", hub.clone().run(cx.clone()));
        Ok(Some(Arc::new(Self {
            desk,
            hub,
            crypto: Arc::new(crypto::provider()),
            certificate: crypto::certificate()?,
            bounds,
            rates: Keyed::new(OFFERS, ADDRESSES),
            seats: Seats::new(args.rtc_max, args.rtc_max_per_address),
            args,
            metrics,
            public_url: public_url.to_owned(),
            cx: cx.clone(),
        })))
    }

    /// `POST /offer`: an SDP, answered by ours.
    pub(super) async fn offer(&self, call: Call) -> Response<Body> {
        let (outcome, response) = self.judge(call).await.map_or_else(|no| no, |yes| ("taken", yes));
        self.metrics.offers.with_label_values(&[outcome]).inc();
        response
    }

    async fn judge(&self, call: Call) -> Result<Response<Body>, (&'static str, Response<Body>)> {
        let Call { parts, body, client, .. } = call;
        let bad = |text: &str| ("malformed", respond::text(StatusCode::BAD_REQUEST, text));
        if parts.method != Method::POST {
            return Err(bad("Invalid method"));
        }
        let address = client.limit_key();
        self.rates.check(&address, 1).map_err(|wait| ("limited", respond::too_many(wait)))?;
        let offer = body::read(body, body::BODY_MAX_BYTES).await.ok_or_else(|| bad("Bad SDP"))?;
        let no_fingerprint = "Failed to get fingerprint from sdp: expected one sha-256";
        let fp = sdp::fingerprint(&offer).ok_or_else(|| bad(no_fingerprint))?;
        let known = self.desk.book.verified(&fp).await;
        let known = known.map_err(|why| ("failed", respond::error(&why)))?.is_some();
        if !known && !self.takes_strangers(bearer(&parts.headers).is_some()) {
            let refusal = respond::text(StatusCode::UNAUTHORIZED, "Unauthorized");
            return Err(("unauthorized", refusal));
        }
        let full = || {
            let wait = std::time::Duration::from_secs(5);
            ("full", respond::too_many(wait))
        };
        let seat = self.seats.take(address).ok_or_else(full)?;
        let offer = std::str::from_utf8(&offer).map_err(|_| bad("Bad SDP"))?;
        let hello = hello(fp, address);
        let (id, answer) = self.connect(offer, hello, seat).map_err(|why| {
            tracing::debug!(%why, "offer not taken");
            bad("Bad SDP")
        })?;
        Ok(created(&self.public_url, &id, answer))
    }

    fn takes_strangers(&self, has_bearer: bool) -> bool {
        match self.args.rtc_strangers {
            Strangers::None => false,
            Strangers::Bearer => has_bearer,
            Strangers::All => true,
        }
    }

    /// Starts the connection; its id and our description.
    fn connect(&self, offer: &str, hello: Hello, seat: Seat) -> anyhow::Result<(String, String)> {
        let offer = SdpOffer::from_sdp_string(offer)?;
        let (name, id) = (random_name::<8>(), Uuid::new_v4().to_string());
        let secrets = IceCreds { ufrag: name.clone(), pass: random_name::<16>() };
        let bounds = self.bounds;
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(self.crypto.clone())
            .set_dtls_cert(self.certificate.clone())
            .set_dtls_version(DtlsVersion::Auto)
            .set_local_ice_credentials(secrets)
            .set_ice_lite(true)
            .clear_codecs()
            .set_sctp_max_message_size(u32::try_from(bounds.message_bytes)?)
            // A list of all a user's peers is one message.
            .set_sctp_max_buffered_amount(bounds.outbox_bytes)
            .build(Instant::now());
        for address in &self.hub.addresses {
            rtc.add_local_candidate(Candidate::host(*address, "udp")?);
        }
        let answer = rtc.sdp_api().accept_offer(offer)?.to_sdp_string();
        let pump = Pump {
            rtc,
            arrived: self.hub.open(&name, &id),
            hub: self.hub.clone(),
            pipe: Pipe::new(bounds.outbox_bytes, bounds.outbox_frames),
            desk: self.desk.clone(),
            cx: self.cx.clone(),
            hello: Some(hello),
            ends: Instant::now() + self.args.rtc_connect_within,
            max_age: self.args.rtc_max_age,
            state: State::default(),
        };
        let (hub, metrics) = (self.hub.clone(), self.metrics.clone());
        metrics.peers.inc();
        self.cx.spawn("rtc", async move {
            pump.run().await;
            hub.close(&name);
            metrics.peers.dec();
            drop(seat);
        });
        Ok((id, answer))
    }

    /// `PATCH` and `DELETE /candidates/…`.
    ///
    /// Candidates are checked and not needed: we learn a client's addresses from what it sends.
    /// So any process may take them, whichever has the connection.
    pub(super) async fn candidates(&self, id: &str, call: Call) -> Response<Body> {
        let bad = |text: &str| respond::text(StatusCode::BAD_REQUEST, text);
        if Uuid::try_parse(id).is_err() {
            return bad("Invalid session id");
        }
        let mut done = Response::new(Body::Empty);
        *done.status_mut() = StatusCode::NO_CONTENT;
        match call.parts.method {
            Method::PATCH => {
                let read = body::read(call.body, CANDIDATE_MAX_BYTES).await;
                let json = read.and_then(|text| serde_json::from_slice(&text).ok());
                match json {
                    Some(serde_json::Value::Object(_)) => done,
                    _ => bad("Bad JSON"),
                }
            }
            Method::DELETE => {
                self.hub.hang_up(id);
                done
            }
            _ => bad("Invalid method"),
        }
    }
}

fn hello(fp: Fingerprint, address: edge::LimitKey) -> Hello {
    let who = Introduction { fp, name: None, kind: None, properties: None };
    Hello {
        ask: Ask { who, uid: None, email: None, address },
        dialect: Dialect::Readme,
        token: None,
        certificate: None,
        by_dtls: true,
    }
}

fn created(public_url: &str, id: &str, answer: String) -> Response<Body> {
    let mut response = Response::new(Body::from(answer));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/sdp"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let pairs = [
        (header::LOCATION, format!("{public_url}/candidates/{id}")),
        (header::ETAG, format!("\"{id}\"")),
    ];
    for (name, value) in pairs {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Twice as many hexadecimal digits, which are what names in SDP may hold (RFC 8839).
fn random_name<const BYTES: usize>() -> String {
    let bytes: [u8; BYTES] = std::array::from_fn(|_| rand::random());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
