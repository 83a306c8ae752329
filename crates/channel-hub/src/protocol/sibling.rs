//! What two processes say to each other. One calls; it is the guest, and the other its host.
//!
//! ```text
//! host                                     guest
//! LISTED name, UNLISTED name  ──────────►  all channels at first, then every change
//! SYNC (id)                   ◄─────────►  sent back when all before it has been taken in
//!                             ◄──────────  REQUEST name (id), CANCEL (id)
//! ACCEPTED, REFUSED (id)      ──────────►  before anything else about a request
//! ANSWERED body, UNANSWERED (id)  ──────►
//! ```
//! Packets of generation A; [`ENCRYPTED`] in the type marks what is about channels of generation B.
//! Ids are the guest's, but for SYNC's.

use bytes::Bytes;
use packets::{Id, Line};

use crate::domain::{
    desk::{Desk, News, Pair},
    hub::{Generation, Say},
};

const LISTED: u16 = 3;
const UNLISTED: u16 = 4;
const CANCEL: u16 = 5;
const SYNC: u16 = 6;
const REQUEST: u16 = 7;
const ANSWERED: u16 = 8;
const UNANSWERED: u16 = 9;
const ACCEPTED: u16 = 10;
const REFUSED: u16 = 11;
/// About a channel of generation B.
const ENCRYPTED: u16 = 0x100;

/// Which side of a connection the other process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has channels.
    Host,
    /// It asks for ours.
    Guest,
}

/// A packet says nothing that this version knows, or not here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfTurn;

/// Sends what a session of another process is told. `false` when that ends the connection.
pub(crate) fn speak(line: &Line, role: Role, generation: Generation, say: &Say) -> bool {
    let (kind, id, body): (u16, u32, &[u8]) = match (role, say) {
        (Role::Host, Say::Asked(id, name)) => (REQUEST, *id, name),
        (Role::Host, Say::Cancelled(id)) => (CANCEL, *id, b""),
        (Role::Guest, Say::Listed(name)) => (LISTED, 0, name),
        (Role::Guest, Say::Unlisted(name)) => (UNLISTED, 0, name),
        (Role::Guest, Say::Sync(id)) => (SYNC, *id, b""),
        (Role::Guest, Say::Success(id)) => (ACCEPTED, *id, b""),
        (Role::Guest, Say::Error(id)) => (REFUSED, *id, b""),
        (Role::Guest, Say::Answered(id, body)) => (ANSWERED, *id, body),
        (Role::Guest, Say::Unanswered(id)) => (UNANSWERED, *id, b""),
        (_, Say::Lost) => return false,
        // A host is not thanked for its answers.
        _ => return true,
    };
    let mark = if generation == Generation::Encrypted { ENCRYPTED } else { 0 };
    // Who reads none of this is being closed.
    let _ = line.control(kind | mark, Id::Of(id), body);
    true
}

/// Takes what a host says.
pub(crate) fn hear_host<L: crate::domain::desk::Line>(
    desk: &Desk<L>,
    hosts: Pair,
    line: &Line,
    (kind, id, body): (u16, u32, &[u8]),
) -> Result<(), OutOfTurn> {
    let (kind, generation) = unmark(kind);
    let news = match kind {
        LISTED => News::Listed(body),
        UNLISTED => News::Unlisted(body),
        SYNC => {
            let mark = if generation == Generation::Encrypted { ENCRYPTED } else { 0 };
            let _ = line.control(SYNC | mark, Id::Of(id), b""); // who has hung up waits no more
            return Ok(());
        }
        ACCEPTED => News::Accepted(id),
        REFUSED | UNANSWERED => News::Unanswered(id),
        ANSWERED => News::Answered(id, Bytes::copy_from_slice(body)),
        _ => return Err(OutOfTurn),
    };
    desk.hear_host(hosts.of(generation), news);
    Ok(())
}

/// Takes what a guest says.
pub(crate) fn hear_guest<L: crate::domain::desk::Line>(
    desk: &Desk<L>,
    guests: Pair,
    line: &Line,
    (kind, id, body): (u16, u32, &[u8]),
) -> Result<(), OutOfTurn> {
    let (kind, generation) = unmark(kind);
    let guest = guests.of(generation);
    match kind {
        REQUEST => {
            if desk.request_of_guest(guest, id, body).is_err() {
                speak(line, Role::Guest, generation, &Say::Error(id));
            }
        }
        CANCEL => desk.cancel(guest, id),
        SYNC => desk.heard(guest, id),
        _ => return Err(OutOfTurn),
    }
    Ok(())
}

/// Whether a host has told of all its channels of generation B, which come last, by this packet.
pub(crate) fn ends_first_list(kind: u16) -> bool {
    kind == SYNC | ENCRYPTED
}

fn unmark(kind: u16) -> (u16, Generation) {
    match kind & ENCRYPTED {
        0 => (kind, Generation::WebSocket),
        _ => (kind & !ENCRYPTED, Generation::Encrypted),
    }
}
