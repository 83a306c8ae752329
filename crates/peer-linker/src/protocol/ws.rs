//! Generation A.

use packets::Id;
use proto::pad::{
    kind::{ERROR, SUCCESS},
    ws::{Link, Verdict, linker},
};

use super::{Request, Words};
use crate::domain::event::Event;

/// What a packet asks for. Types the server sends are refused, unless they are to be passed on as
/// the original does; every type without a meaning is passed on.
pub(super) fn request(kind: u16, body: &[u8], pass_server_types: bool) -> Request<'_> {
    match kind {
        linker::REGISTER => Request::Register(body),
        linker::UNREGISTER => Request::Unregister,
        linker::LINK => Link::parse(body).map_or(Request::Wrong, |link| Request::Link {
            requestee: link.name,
            secret: link.secret,
        }),
        linker::UNLINK => Request::Unlink,
        linker::LINK_AUTH_RESPONSE => Verdict::parse(body).map_or(Request::Wrong, |verdict| {
            Request::Answer { requester: verdict.name, ok: verdict.ok != 0 }
        }),
        linker::LINK_SUCCESS | linker::LINK_DENIED | linker::UNLINKED | linker::LINK_AUTH
            if !pass_server_types =>
        {
            Request::Wrong
        }
        _ => Request::Pass,
    }
}

/// An event as a packet. Of a request that was withdrawn nothing is said: its pad is gone.
pub(super) fn words(event: &Event) -> Option<Words> {
    match event {
        Event::Answer { id, ok } => Words::of(if *ok { SUCCESS } else { ERROR }, Id::Of(*id)),
        Event::Forwarded { id } | Event::Taken { id } => Words::of(SUCCESS, Id::Of(*id)),
        Event::Granted { .. } => Words::of(linker::LINK_SUCCESS, Id::Own),
        Event::Denied { by, .. } => Words::of(linker::LINK_DENIED, Id::Of(*by)),
        Event::Withdrawn { .. } | Event::Unasked => None,
        Event::Unlinked => Words::of(linker::UNLINKED, Id::Own),
        Event::Auth { requester, secret } => {
            let mut body = Vec::new();
            Link { name: requester, secret }.encode(&mut body).ok()?;
            Some(Words { kind: linker::LINK_AUTH, id: Id::Own, body })
        }
    }
}
