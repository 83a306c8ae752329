//! `/dht-get` and `/dht-put`: mutable items of the BitTorrent DHT, for clients that cannot speak it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge::Body;
use http::{Response, StatusCode};
use proto::mesh::price::Kind;
use proto::mesh::{hex, item, unhex, unhex_any};
use serde_json::json;
use tokio::time::Instant;

use super::{Call, Failed, Priced, body, respond};
use crate::domain::dht::{Address, Item};
use crate::domain::node::Purchase;
use crate::domain::posts::Paid;
use crate::error::Error;

/// Load beyond which even the first look-up is paid for.
const BUSY: f64 = 0.7;

fn address(call: &Call) -> Result<Address, Error> {
    let key = call.query.get("k").and_then(unhex).ok_or(Error::BadParam("k"))?;
    let salt = call.query.get("salt").unwrap_or_default();
    let salt = unhex_any(salt).filter(|salt| salt.len() <= item::SALT_MAX);
    Ok(Address { key, salt: salt.ok_or(Error::BadParam("salt"))? })
}

fn sequence(call: &Call, name: &'static str) -> Result<Option<i64>, Error> {
    let seq = call.query.parse(name)?;
    match seq {
        Some(seq) if !(0..=item::SEQ_MAX).contains(&seq) => Err(Error::BadParam(name)),
        seq => Ok(seq),
    }
}

/// `GET /dht-get`.
pub(super) async fn get(call: Call) -> Result<Response<Body>, Failed> {
    let priced = Priced { kind: Kind::Post, recent: 0 };
    let failed = |error| priced.mark(error);
    let address = address(&call)?;
    let known = sequence(&call, "seq")?;
    let full = match call.query.get("wait") {
        None | Some("fast") => false,
        Some("full") => true,
        Some(_) => return Err(Error::BadParam("wait").into()),
    };
    let app = &call.app;
    let dht = app.dht.as_ref().ok_or(Error::DhtUnavailable)?;
    let target = hex(&item::target(&address.key, &address.salt));
    let (cpu, mem) = app.node.load();
    let free = cpu.max(mem) <= BUSY && app.gets.check(&call.client.limit_key(), 1).is_ok();
    if !free {
        let path = format!("/dht-get/{target}");
        let purchase =
            Purchase { path: &path, body: &[], method: "GET", kind: Kind::Post, recent: 0 };
        let hash =
            app.node.check(call.query.payment(), purchase, call.client.ip).map_err(failed)?;
        app.spend(Paid { hash, request: rand::random(), post: None }).await.map_err(failed)?;
    }
    app.metrics.gets.inc();
    let began = Instant::now();
    let got = dht.get(&address, full).await?;
    let Some(found) = got.item else { return Err(Error::DhtNotFound { seq: None }.into()) };
    if known.is_some_and(|known| found.seq <= known) {
        return Err(Error::DhtNotFound { seq: Some(found.seq) }.into());
    }
    let value = json!({
        "k": hex(&address.key),
        "salt": hex(&address.salt),
        "target": target,
        "seq": found.seq,
        "v": STANDARD.encode(&found.value),
        "sig": hex(&found.signature),
        "copies": got.copies,
        "asked": got.asked,
        "ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "cached": got.cached,
    });
    Ok(respond::show(StatusCode::OK, &value, call.format))
}

/// `POST /dht-put`.
pub(super) async fn put(mut call: Call) -> Result<Response<Body>, Failed> {
    let priced = Priced { kind: Kind::Put, recent: 0 };
    let failed = |error| priced.mark(error);
    let sent = body::read(&call.parts.headers, &mut call.body, item::VALUE_MAX).await;
    let value = sent.map_err(failed)?;
    let app = &call.app;
    let spent = app.posts.check(&call.client.limit_key(), 1);
    spent.map_err(|wait| failed(Error::RateLimited(wait)))?;
    let address = address(&call).map_err(failed)?;
    let seq = sequence(&call, "seq").map_err(failed)?;
    let seq = seq.ok_or_else(|| failed(Error::BadParam("seq")))?;
    let cas = sequence(&call, "cas").map_err(failed)?;
    let signature: Option<[u8; 64]> = call.query.get("sig").and_then(unhex);
    let signature = signature.ok_or_else(|| failed(Error::BadParam("sig")))?;
    let signed = item::signed(&address.salt, seq, &value);
    let purchase = Purchase {
        path: "/dht-put",
        body: &[&signed, &signature],
        method: "POST",
        kind: Kind::Put,
        recent: 0,
    };
    let hash = app.node.check(call.query.payment(), purchase, call.client.ip).map_err(failed)?;
    if !item::verify(&address.key, &address.salt, seq, &value, &signature) {
        return Err(failed(Error::BadSignature));
    }
    let dht = app.dht.as_ref().ok_or_else(|| failed(Error::DhtUnavailable))?;
    app.spend(Paid { hash, request: rand::random(), post: None }).await.map_err(failed)?;
    app.metrics.puts.inc();
    let began = Instant::now();
    let stored_at =
        dht.put(&address, &Item { seq, value, signature }, cas).await.map_err(failed)?;
    let value = json!({
        "target": hex(&item::target(&address.key, &address.salt)),
        "seq": seq,
        "stored_at": stored_at,
        "ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(respond::show(StatusCode::OK, &value, call.format))
}
