//! Generation B.

use packets::Id;
use proto::pad::{
    kind::{ERROR, SUCCESS},
    tcp::{AuthResponse, Link, linker, string},
};

use super::{Request, Words};
use crate::domain::event::Event;

/// What a packet asks for. Only payload is passed on; an Error is never answered.
pub(super) fn request(kind: u16, body: &[u8]) -> Request<'_> {
    match kind {
        linker::REGISTER_PAD => string(body).map_or(Request::Wrong, Request::Register),
        linker::UNREGISTER_PAD => Request::Unregister,
        linker::LINK => Link::parse(body).map_or(Request::Wrong, |link| Request::Link {
            requestee: link.name,
            secret: link.secret,
        }),
        linker::UNLINK => Request::Unlink,
        linker::AUTH_RESPONSE => AuthResponse::parse(body).map_or(Request::Wrong, |response| {
            Request::Answer { requester: response.requester, ok: response.ok }
        }),
        linker::PAYLOAD => Request::Pass,
        ERROR => Request::Ignored,
        _ => Request::Wrong,
    }
}

/// An event as a packet. A link request is answered once, when it is decided; the answer that
/// decided it not at all.
pub(super) fn words(event: &Event) -> Option<Words> {
    match event {
        Event::Answer { id, ok } => Words::of(if *ok { SUCCESS } else { ERROR }, Id::Of(*id)),
        Event::Forwarded { .. } | Event::Taken { .. } | Event::Unasked => None,
        Event::Granted { id } => Words::of(SUCCESS, Id::Of(*id)),
        Event::Denied { id, .. } | Event::Withdrawn { id } => Words::of(ERROR, Id::Of(*id)),
        Event::Unlinked => Words::of(linker::UNLINKED, Id::Own),
        Event::Auth { requester, secret } => {
            let mut body = Vec::new();
            Link { name: requester, secret }.encode(&mut body).ok()?;
            Some(Words { kind: linker::AUTH, id: Id::Own, body })
        }
    }
}
