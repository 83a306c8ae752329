//! Pages about the relay itself (spec 2.3).

use edge::Body;
use http::{Response, StatusCode};
use proto::js::Value;
use proto::relay::Fields;

use super::{Call, respond};
use crate::error::Error;
use crate::protocol::{self, answers};

/// `GET /health`: 200 while envelopes can be kept and fetched. Clients take anything else as a
/// reason to use another relay, which is what they should do while the database is away.
pub(super) fn health(call: &Call) -> Result<Response<Body>, Error> {
    call.app.reachable()?;
    Ok(respond::json(answers::health(&call.app.config, call.app.clock.now_ms())))
}

/// `GET /.well-known/peerlink-source`
pub(super) fn source(call: &Call) -> Response<Body> {
    respond::json(answers::source(&call.app.config))
}

/// `GET /relay/capabilities`
pub(super) fn capabilities(call: &Call) -> Response<Body> {
    respond::json(answers::capabilities(&call.app.config, call.app.clock.now_ms()))
}

/// `POST /relay/probe`: which protocol version is spoken.
pub(super) async fn probe(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let body = protocol::parse(&text)?;
    match Fields::new(&body).get("v") {
        None | Some(Value::Null) => {}
        Some(Value::String(version)) if *version == "1" => {}
        Some(_) => {
            return Ok(respond::json_status(StatusCode::BAD_REQUEST, answers::UNSUPPORTED_VERSION));
        }
    }
    call.app.reachable()?;
    Ok(respond::json(answers::probe(call.app.clock.now_ms())))
}
