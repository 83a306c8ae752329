//! The signed writes: each handler is its checks in their order (spec 2.4 to 2.9).

use edge::Body;
use http::Response;
use proto::base64;
use proto::relay::{Ack, AckBatch, Fields, GroupStore, MembersUpdate, Store, stored_text};

use super::{Call, respond};
use crate::domain::Deposit;
use crate::error::Error;
use crate::protocol::{self, answers};

/// `POST /relay/store`: keep one signed envelope until its recipient acknowledges it.
pub(super) async fn store(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let body = protocol::parse(&text)?;
    let fields = Fields::new(&body);
    let envelope = Store::read(fields)?;
    let (app, rules) = (&call.app, &call.app.rules);
    rules.id(envelope.id, "invalid id/from/to")?;
    rules.peer(envelope.from, "invalid id/from/to")?;
    rules.peer(envelope.to, "invalid id/from/to")?;
    rules.ts(envelope.ts, "invalid ts/ttl")?;
    rules.ttl(envelope.ttl, "invalid ts/ttl")?;
    rules.payload(envelope.payload)?;
    rules.skew(envelope.ts, app.clock.now_ms())?;
    let payload = base64::decode_lenient(envelope.payload);
    let key = app.proofs.verify(envelope.proof, &[&envelope.signature_text(), &payload])?;
    app.proofs.claim(envelope.from, &key).await?;
    let Store { id, from, to, .. } = envelope;
    let body = stored_text(fields, rules.open());
    let stored = app.mailboxes.deposit(Deposit { id, from, to, body }).await?;
    Ok(respond::json(answers::stored(stored)))
}

/// `POST /relay/group/store`: keep one signed message for every recipient.
pub(super) async fn group_store(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let body = protocol::parse(&text)?;
    let message = GroupStore::read(Fields::new(&body))?;
    let (app, rules) = (&call.app, &call.app.rules);
    rules.id(message.id, "invalid id/from/groupId")?;
    rules.peer(message.from, "invalid id/from/groupId")?;
    rules.id(message.group_id, "invalid id/from/groupId")?;
    rules.ts(message.ts, "invalid ts/ttl")?;
    rules.ttl(message.ttl, "invalid ts/ttl")?;
    for recipient in &message.recipients {
        rules.peer(recipient, "invalid recipients")?;
    }
    rules.payload(message.payload)?;
    rules.skew(message.ts, app.clock.now_ms())?;
    let payload = base64::decode_lenient(message.payload);
    let key = app.proofs.verify(message.proof, &[&message.signature_text(), &payload])?;
    app.proofs.claim(message.from, &key).await?;
    app.groups.admit(&message).await?;
    let stored = app.mailboxes.fan_out(&message).await?;
    Ok(respond::json(answers::fanned_out(&message, stored)))
}

/// `POST /relay/group/members/update`: the owner says who belongs to a group.
pub(super) async fn members_update(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let body = protocol::parse(&text)?;
    let update = MembersUpdate::read(Fields::new(&body))?;
    let (app, rules) = (&call.app, &call.app.rules);
    rules.id(update.id, "invalid id/from/groupId/ownerPeerId")?;
    rules.peer(update.from, "invalid id/from/groupId/ownerPeerId")?;
    rules.id(update.group_id, "invalid id/from/groupId/ownerPeerId")?;
    rules.ts(update.ts, "invalid ts/ttl")?;
    rules.ttl(update.ttl, "invalid ts/ttl")?;
    for member in &update.members {
        rules.peer(member, "invalid memberPeerIds")?;
    }
    rules.skew(update.ts, app.clock.now_ms())?;
    let key = app.proofs.verify(update.proof, &[&update.signature_text()])?;
    app.proofs.claim(update.from, &key).await?;
    app.groups.update(&update).await?;
    app.metrics.members_updates.inc();
    Ok(respond::json(answers::members_updated(&update)))
}

/// `POST /relay/ack`: the recipient has one envelope.
pub(super) async fn ack(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let body = protocol::parse(&text)?;
    let ack = Ack::read(Fields::new(&body))?;
    let (app, rules) = (&call.app, &call.app.rules);
    rules.id(ack.id, "invalid id/from/to")?;
    rules.peer(ack.from, "invalid id/from/to")?;
    rules.peer(ack.to, "invalid id/from/to")?;
    rules.ts(ack.ts, "invalid ts")?;
    rules.skew(ack.ts, app.clock.now_ms())?;
    let key = app.proofs.verify(ack.proof, &[&ack.signature_text()])?;
    // An ack is no reason to own anything: it only must not contradict an owner.
    app.proofs.respect(ack.to, &key).await?;
    if ack.from != ack.to {
        app.proofs.respect(ack.from, &key).await?;
    }
    app.mailboxes.acknowledge(ack.to, std::iter::once(ack.id.as_bytes())).await?;
    Ok(respond::json(answers::ACKED))
}

/// `POST /relay/ack/batch`: the recipient has several envelopes. Ours; old clients do without.
pub(super) async fn ack_batch(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let body = protocol::parse(&text)?;
    let batch = AckBatch::read(Fields::new(&body))?;
    let (app, rules) = (&call.app, &call.app.rules);
    for id in &batch.ids {
        rules.id(id, "invalid ids")?;
    }
    rules.peer(batch.from, "invalid from/to")?;
    rules.peer(batch.to, "invalid from/to")?;
    rules.ts(batch.ts, "invalid ts")?;
    rules.skew(batch.ts, app.clock.now_ms())?;
    let key = app.proofs.verify(batch.proof, &[&batch.signature_text()])?;
    app.proofs.respect(batch.to, &key).await?;
    if batch.from != batch.to {
        app.proofs.respect(batch.from, &key).await?;
    }
    app.mailboxes.acknowledge(batch.to, batch.ids.iter().map(|id| id.as_bytes())).await?;
    Ok(respond::json(answers::acked(batch.ids.len())))
}
