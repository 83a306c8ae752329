//! What the node says of itself.

use edge::Body;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Response, StatusCode};
use proto::mesh::price::{self, Kind};
use proto::mesh::{BODY_MAX, hex, item, token};
use serde_json::json;

use super::{Call, Failed, respond};

/// Nodes told of when nobody says how many, and at most.
const NODES: usize = 10;
const NODES_MAX: usize = 50;

/// `GET /`: a token, the price, who this is.
pub(super) fn root(call: &Call) -> Response<Body> {
    let (app, node) = (&call.app, &call.app.node);
    let quote = node.quote(Kind::Post, 0, call.client.ip);
    let (cpu, mem) = node.load();
    let hundredths = |share: f64| (share * 100.0).round() / 100.0;
    let bind = if app.config.work.token_bind_ip { "ip" } else { "none" };
    let value = json!({
        "name": "webrtc-signaling-mesh",
        "version": env!("CARGO_PKG_VERSION"),
        "network": app.config.node.network,
        "time": node.now_s(),
        "node": { "key": hex(&node.key()), "url": app.config.node.public_url },
        "token": quote.token,
        "height": price::height(quote.work),
        "pow": {
            "alg": "wsm1-sha256",
            "target": respond::target(quote.work),
            "work": quote.work,
            "window": token::LIFE_S,
            "grace_bits": node.pricing.grace_bits,
            "bind": bind,
            "multiplier": {
                "room": Kind::Post.multiplier(),
                "dht-get": Kind::Post.multiplier(),
                "dht-put": Kind::Put.multiplier(),
                "token": Kind::Credential.multiplier(),
            },
            "room_step": 8,
        },
        "load": {
            "cpu": hundredths(cpu), "mem": hundredths(mem), "max": hundredths(cpu.max(mem)),
        },
        "limits": {
            "body": BODY_MAX,
            "dht_value": item::VALUE_MAX,
            "streams_per_ip": app.config.rooms.max_streams_per_address,
        },
        "peers": app.mesh.view.all().len(),
        "subscribers": app.rooms.streams(),
        "federation": app.mesh.rules.federation.name(),
    });
    respond::show(StatusCode::OK, &value, call.format)
}

/// `GET /nodes`: a random choice of others that were seen lately.
pub(super) fn nodes(call: &Call) -> Result<Response<Body>, Failed> {
    let most = call.query.parse("n")?.unwrap_or(NODES).min(NODES_MAX);
    let nodes = call.app.mesh.view.sample(most, call.app.node.clock.now_ms());
    let detailed = call.query.get("detail") == Some("1");
    let shown = nodes.iter().map(|node| match detailed {
        false => json!(node.url),
        true => json!({
            "url": node.url,
            "key": hex(&node.key),
            "height": node.height,
            "rtt_ms": node.rtt_ms,
            "last_seen": node.last_seen_ms / 1000,
        }),
    });
    let mut response = respond::show(StatusCode::OK, &shown.collect(), call.format);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
    Ok(response)
}

/// `GET /ip`: who is asking.
pub(super) fn ip(call: &Call) -> Response<Body> {
    let ip = call.client.ip.to_canonical();
    let family = if ip.is_ipv4() { 4 } else { 6 };
    let value = json!({ "ip": ip.to_string(), "family": family });
    respond::show(StatusCode::OK, &value, call.format)
}
