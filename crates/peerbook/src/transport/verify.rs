//! `POST /verify`: may this peer come in? If not, its user is asked.

use std::collections::BTreeMap;

use edge::Body;
use http::{Method, Response, StatusCode};
use proto::book::{Email, Fingerprint, Label, Name};

use super::{Call, body, respond};
use crate::{
    domain::{
        Introduction,
        book::{Ask, Asked},
        properties,
    },
    error::Error,
};

/// Members with a meaning of their own; the others are the app's.
const OURS: [&str; 8] = ["fp", "fingerprint", "email", "user", "uid", "name", "kind", "token"];

/// `POST /verify`
pub(super) async fn verify(call: Call) -> Response<Body> {
    let Call { app, parts, body, client } = call;
    if parts.method != Method::POST {
        return respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    }
    let bad = |text: &str| respond::text(StatusCode::BAD_REQUEST, text);
    let Some(bytes) = body::read(body, body::BODY_MAX_BYTES).await else { return bad("Bad JSON") };
    let Ok(fields) = serde_json::from_slice::<BTreeMap<String, String>>(&bytes) else {
        return bad("Bad JSON");
    };
    let field = |name: &str| fields.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let fp = match (field("fp"), field("fingerprint")) {
        (Some(one), Some(other)) if one != other => return bad("Two fingerprints"),
        (one, other) => one.or(other),
    };
    let Some(fp) = fp else { return bad("Missing fingerprint") };
    let Some(fp) = Fingerprint::new(fp) else { return bad("Bad fingerprint") };
    let (uid, email) = (field("uid"), field("email").or(field("user")));
    if uid.is_none() && email.is_none() {
        return match app.book.verified(&fp).await {
            // Whose it is is told to nobody who only knows a fingerprint.
            Ok(found) => verdict(StatusCode::OK, found.is_some(), ""),
            Err(why) => respond::error(&why),
        };
    }
    let by_uid = email.is_none();
    let email = match email.map(Email::new) {
        Some(None) => return bad("Bad email"),
        email => email.flatten(),
    };
    let extra = extra(&fields);
    let who = Introduction {
        fp,
        name: field("name").map(Name::lenient),
        kind: field("kind").map(Label::lenient),
        properties: extra,
    };
    let address = client.limit_key();
    let ask = Ask { who, uid: uid.filter(|_| by_uid).map(str::to_owned), email, address };
    match app.book.request(&ask).await {
        Ok(asked) => {
            if let Err(why) = tell_user(&app, &ask, &asked).await {
                tracing::warn!(%why, "user not written to");
            }
            let status = if by_uid && asked.is_new { StatusCode::CREATED } else { StatusCode::OK };
            verdict(status, asked.peer.verified, &asked.account.uid)
        }
        Err(why) => respond::error(&why),
    }
}

/// What the app wants stored; nothing keeps what is stored.
fn extra(fields: &BTreeMap<String, String>) -> Option<String> {
    let others: Vec<(String, String)> = fields
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if others.is_empty() { None } else { properties::from_pairs(others.into_iter()) }
}

async fn tell_user(app: &super::App, ask: &Ask, asked: &Asked) -> Result<(), Error> {
    if asked.peer.verified {
        return Ok(());
    }
    app.mail.review(&asked.account, Some(ask.address)).await?;
    app.book.note_mailed(&asked.account.uid, &ask.who.fp).await
}

fn verdict(status: StatusCode, verified: bool, uid: &str) -> Response<Body> {
    respond::json(status, serde_json::json!({ "verified": verified, "uid": uid }).to_string())
}
