//! Rules by example; sequences at random are in [`model`].

mod across;
mod model;

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

use super::*;

pub(super) const A: ClientId = ClientId(1);
pub(super) const B: ClientId = ClientId(2);
pub(super) const C: ClientId = ClientId(3);

pub(super) const ANSWER_TIME: Duration = Duration::from_secs(60);
pub(super) const WAIT_TIME: Duration = Duration::from_secs(10);

pub(super) fn limits() -> Limits {
    Limits {
        name_bytes: 100,
        pads: 8,
        pads_per_address: 6,
        requests_per_pad: 3,
        requests: 6,
        request_bytes: 10_000,
        answer_time: ANSWER_TIME,
        wait_time: None,
    }
}

/// The rules with a clock that is moved by hand.
pub(super) struct Table {
    pub(super) pads: Pads,
    pub(super) now: Instant,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self { pads: Pads::new(limits), now: Instant::now() }
    }

    pub(super) fn run(&mut self, rule: impl FnOnce(&mut Pads, &mut Vec<Effect>)) -> Vec<Effect> {
        let mut out = Vec::new();
        rule(&mut self.pads, &mut out);
        out
    }

    pub(super) fn register(&mut self, client: ClientId, id: u32, name: &[u8]) -> Vec<Effect> {
        let (now, address) = (self.now, LimitKey::from(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let key = PadKey { namespace: Namespace::WebSocket, name: name.into() };
        self.run(|pads, out| {
            if let Some(pad) = pads.reserve(client, id, key, address, out) {
                assert!(pads.confirm(pad, id, now, out));
            }
        })
    }

    pub(super) fn link(
        &mut self,
        client: ClientId,
        id: u32,
        name: &[u8],
        secret: &'static [u8],
    ) -> Vec<Effect> {
        let now = self.now;
        let asked = (Name::from(name), Bytes::from_static(secret));
        self.run(|pads, out| pads.link(client, id, asked, now, out))
    }

    pub(super) fn answer(
        &mut self,
        client: ClientId,
        id: u32,
        name: &[u8],
        ok: bool,
    ) -> Vec<Effect> {
        self.run(|pads, out| pads.answer(client, id, name, ok, out))
    }

    pub(super) fn pass_time(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        let now = self.now;
        self.run(|pads, out| pads.expire(now, out))
    }

    fn with_pads(limits: Limits) -> Self {
        let mut table = Self::new(limits);
        for (client, name) in [(A, b"a"), (B, b"b"), (C, b"c")] {
            assert_eq!(table.register(client, 1, name), [answer(client, 1, true)]);
        }
        table
    }

    /// `A` and `B`, linked at `A`'s request.
    fn linked() -> Self {
        let mut table = Self::with_pads(limits());
        table.link(A, 2, b"b", b"");
        table.answer(B, 2, b"a", true);
        table
    }
}

fn answer(to: ClientId, id: u32, ok: bool) -> Effect {
    Effect::Tell(to, Event::Answer { id, ok })
}

fn auth(to: ClientId, requester: &[u8], secret: &'static [u8]) -> Effect {
    Effect::Tell(to, Event::Auth { requester: requester.into(), secret: secret.into() })
}

fn denied(to: ClientId, id: u32, by: u32) -> Effect {
    Effect::Tell(to, Event::Denied { id, by })
}

#[test]
fn a_granted_request_links_both() {
    let mut table = Table::with_pads(limits());
    let forwarded = Effect::Tell(A, Event::Forwarded { id: 2 });
    assert_eq!(table.link(A, 2, b"b", b"s"), [auth(B, b"a", b"s"), forwarded]);
    let granted = Effect::Tell(A, Event::Granted { id: 2 });
    let taken = Effect::Tell(B, Event::Taken { id: 9 });
    assert_eq!(table.answer(B, 9, b"a", true), [granted, Effect::Join(B, A), taken]);
    assert_eq!(table.pads.counts(), (3, 1, 0));
    let unlinked = [Effect::Part(B, A), Effect::Tell(A, Event::Unlinked), answer(B, 10, true)];
    assert_eq!(table.run(|pads, out| pads.unlink(B, 10, out)), unlinked);
    assert_eq!(table.run(|pads, out| pads.unlink(A, 3, out)), [answer(A, 3, false)]);
    assert_eq!(table.pads.counts(), (3, 0, 0));
}

#[test]
fn a_second_answer_is_refused_and_a_denied_requester_may_ask_again() {
    let mut table = Table::with_pads(limits());
    table.link(A, 2, b"b", b"");
    let taken = Effect::Tell(B, Event::Taken { id: 7 });
    assert_eq!(table.answer(B, 7, b"a", false), [denied(A, 2, 7), taken]);
    assert_eq!(table.answer(B, 8, b"a", true), [answer(B, 8, false)]);
    assert_eq!(table.link(A, 3, b"b", b"")[0], auth(B, b"a", b""));
    assert_eq!(table.link(A, 4, b"c", b""), [answer(A, 4, false)], "one request at a time");
}

#[test]
fn a_linked_pad_takes_no_third() {
    let mut table = Table::linked();
    assert_eq!(table.link(C, 2, b"a", b""), [answer(C, 2, false)]);
    assert_eq!(table.link(A, 3, b"c", b""), [answer(A, 3, false)]);
    // Forwarded before the link: the requester is denied, the responder learns why not.
    let mut table = Table::with_pads(limits());
    table.link(A, 2, b"b", b"");
    table.link(C, 2, b"b", b"");
    table.answer(B, 2, b"a", true);
    assert_eq!(table.answer(B, 3, b"c", true), [denied(C, 2, 3), answer(B, 3, false)]);
}

#[test]
fn the_requester_is_told_when_the_requestee_goes() {
    let mut table = Table::with_pads(limits());
    table.link(A, 2, b"b", b"");
    let digest = PadKey { namespace: Namespace::WebSocket, name: b"b"[..].into() }.digest();
    let gone = table.run(|pads, out| pads.gone(B, out));
    assert_eq!(gone, [denied(A, 2, 0), Effect::Release(PadId(2), digest)]);
    // Whoever has the name now was not asked.
    table.register(B, 1, b"b");
    assert_eq!(table.answer(B, 2, b"a", true), [answer(B, 2, false)]);
    assert_eq!(table.link(A, 3, b"b", b"").len(), 2, "and the requester may ask that one");
}

#[test]
fn an_answer_to_a_requester_that_left_is_not_given_to_its_successor() {
    let mut table = Table::with_pads(limits());
    table.link(A, 2, b"b", b"good");
    table.run(|pads, out| pads.gone(A, out));
    table.register(A, 1, b"a");
    table.link(A, 2, b"b", b"bad");
    assert_eq!(table.answer(B, 5, b"a", true), [answer(B, 5, false)], "meant for the first");
    let taken = Effect::Tell(B, Event::Taken { id: 6 });
    assert_eq!(table.answer(B, 6, b"a", false), [denied(A, 2, 6), taken]);
    assert_eq!(table.pads.counts().2, 0);
}

#[test]
fn unregistering_takes_the_own_request_back() {
    let mut table = Table::with_pads(limits());
    table.link(A, 2, b"b", b"");
    let out = table.run(|pads, out| pads.unregister(A, 3, out));
    assert_eq!(out[0], Effect::Tell(A, Event::Withdrawn { id: 2 }));
    assert_eq!(out.last(), Some(&answer(A, 3, true)));
    assert_eq!(table.answer(B, 2, b"a", true), [answer(B, 2, false)]);
}

#[test]
fn a_pad_may_link_to_itself() {
    let mut table = Table::with_pads(limits());
    assert_eq!(table.link(A, 2, b"a", b"")[0], auth(A, b"a", b""));
    let granted = Effect::Tell(A, Event::Granted { id: 2 });
    let taken = Effect::Tell(A, Event::Taken { id: 3 });
    assert_eq!(table.answer(A, 3, b"a", true), [granted, Effect::Join(A, A), taken]);
    let unlinked = [Effect::Part(A, A), Effect::Tell(A, Event::Unlinked), answer(A, 4, true)];
    assert_eq!(table.run(|pads, out| pads.unlink(A, 4, out)), unlinked);
    table.link(A, 5, b"a", b"");
    let gone = table.run(|pads, out| pads.gone(A, out));
    assert_eq!(gone[0], Effect::Tell(A, Event::Withdrawn { id: 5 }));
    assert_eq!(table.pads.counts(), (2, 0, 0));
}

#[test]
fn a_request_nobody_answers_ends() {
    let mut table = Table::with_pads(limits());
    table.link(A, 2, b"b", b"");
    assert_eq!(table.pass_time(ANSWER_TIME - Duration::from_secs(1)), []);
    let late = [Effect::Limited(Limited::AnswerTime), denied(A, 2, 0)];
    assert_eq!(table.pass_time(Duration::from_secs(1)), late);
    assert_eq!(table.answer(B, 2, b"a", true), [answer(B, 2, false)]);
}

#[test]
fn a_request_may_wait_for_its_pad() {
    let mut table = Table::new(Limits { wait_time: Some(WAIT_TIME), ..limits() });
    table.register(A, 1, b"a");
    table.register(C, 1, b"c");
    assert_eq!(table.link(A, 2, b"b", b"x"), []);
    assert_eq!(table.link(C, 2, b"b", b"y"), []);
    let forwarded = |client| Effect::Tell(client, Event::Forwarded { id: 2 });
    let found =
        [answer(B, 1, true), auth(B, b"a", b"x"), forwarded(A), auth(B, b"c", b"y"), forwarded(C)];
    assert_eq!(table.register(B, 1, b"b"), found);
    table.run(|pads, out| pads.gone(B, out));
    assert_eq!(table.link(A, 3, b"b", b""), []);
    let late = [Effect::Limited(Limited::WaitTime), answer(A, 3, false)];
    assert_eq!(table.pass_time(WAIT_TIME), late);
    assert_eq!(table.register(B, 1, b"b"), [answer(B, 1, true)]);
}

#[test]
fn limits_refuse() {
    let refused = |limit, client, id| vec![Effect::Limited(limit), answer(client, id, false)];
    let mut table = Table::with_pads(Limits { pads_per_address: 3, ..limits() });
    let far = ClientId(9);
    assert_eq!(table.register(far, 1, b"x"), refused(Limited::PadsPerAddress, far, 1));
    let mut table = Table::with_pads(Limits { pads: 3, ..limits() });
    assert_eq!(table.register(far, 1, b"x"), refused(Limited::Pads, far, 1));
    assert_eq!(table.register(far, 2, &[b'x'; 101]), refused(Limited::Name, far, 2));
    assert_eq!(table.register(far, 3, b""), [answer(far, 3, false)]);
    let mut table = Table::with_pads(Limits { requests: 1, request_bytes: 5, ..limits() });
    assert_eq!(table.link(A, 2, b"b", b"12345"), refused(Limited::RequestBytes, A, 2));
    assert_eq!(table.link(A, 3, b"b", b"1234").len(), 2);
    assert_eq!(table.link(C, 4, b"b", b""), refused(Limited::Requests, C, 4));
    let mut table = Table::with_pads(Limits { requests_per_pad: 1, ..limits() });
    table.link(A, 2, b"b", b"");
    assert_eq!(table.link(C, 3, b"b", b""), refused(Limited::RequestsPerPad, C, 3));
    // What an absent requester left makes room when it is due, not before.
    table.run(|pads, out| pads.gone(A, out));
    assert_eq!(table.link(C, 4, b"b", b""), refused(Limited::RequestsPerPad, C, 4));
    table.pass_time(ANSWER_TIME);
    assert_eq!(table.link(C, 5, b"b", b"").len(), 2);
}

#[test]
fn a_secret_that_would_not_fit_is_refused() {
    let mut table = Table::with_pads(Limits { request_bytes: 1 << 20, ..limits() });
    let room = Namespace::WebSocket.auth_room();
    let zeros: &'static [u8] = &[0; 65_536];
    assert_eq!(table.link(A, 2, b"b", &zeros[..room]), [answer(A, 2, false)]);
    assert_eq!(table.link(A, 3, b"b", &zeros[..room - 1]).len(), 2);
}

#[test]
fn a_name_set_aside_is_taken_but_not_there_yet() {
    let mut table = Table::with_pads(limits());
    let far = ClientId(9);
    let key = || PadKey { namespace: Namespace::WebSocket, name: b"x"[..].into() };
    let address = LimitKey::V4([127, 0, 0, 1]);
    let mut out = Vec::new();
    let pad = table.pads.reserve(far, 1, key(), address, &mut out).unwrap();
    assert_eq!(table.link(A, 2, b"x", b""), [answer(A, 2, false)]);
    let released = |pad| Effect::Release(pad, key().digest());
    assert_eq!(table.run(|pads, out| pads.gone(far, out)), [released(pad)]);
    let now = table.now;
    assert!(!table.pads.confirm(pad, 1, now, &mut out), "its client has left");
    let again = table.pads.reserve(far, 2, key(), address, &mut out).unwrap();
    table.pads.cancel(again, 2, &mut out);
    assert_eq!(out, [released(again), answer(far, 2, false)]);
    assert_eq!(table.pads.counts().0, 3);
}

#[test]
fn namespaces_do_not_see_each_other() {
    let mut table = Table::with_pads(limits());
    let far = ClientId(9);
    let key = PadKey { namespace: Namespace::Encrypted, name: b"a"[..].into() };
    let mut out = Vec::new();
    let address = LimitKey::V4([127, 0, 0, 1]);
    let pad = table.pads.reserve(far, 1, key, address, &mut out).unwrap();
    assert!(table.pads.confirm(pad, 1, table.now, &mut out));
    assert_eq!(table.link(far, 2, b"b", b""), [answer(far, 2, false)]);
}
