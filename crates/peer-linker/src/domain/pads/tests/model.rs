//! Random sequences against a model that looks everything up in lists.

use proptest::prelude::*;

use super::*;

const CLIENTS: u64 = 5;
const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

#[derive(Clone, Debug)]
enum Op {
    Register(u64, usize),
    Unregister(u64),
    Link(u64, usize),
    Answer(u64, usize, bool),
    Unlink(u64),
    Gone(u64),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (client, name) = (0..CLIENTS, 0..NAMES.len());
    prop_oneof![
        4 => (client.clone(), name.clone()).prop_map(|(client, name)| Op::Register(client, name)),
        1 => client.clone().prop_map(Op::Unregister),
        6 => (client.clone(), name.clone()).prop_map(|(client, name)| Op::Link(client, name)),
        6 => (client.clone(), name, prop::bool::weighted(0.7))
            .prop_map(|(client, name, ok)| Op::Answer(client, name, ok)),
        1 => client.clone().prop_map(Op::Unlink),
        1 => client.prop_map(Op::Gone),
        1 => (1..40_u64).prop_map(Op::Wait),
    ]
}

/// Who holds which name, by client; the order of requests, by requestee.
#[derive(Default)]
struct Model {
    pads: Vec<(ClientId, usize)>,
    links: Vec<(ClientId, ClientId)>,
    /// Requester (until it leaves), its name, the link's id, the requestee, when it is due.
    requests: Vec<(Option<ClientId>, usize, u32, ClientId, Instant)>,
}

impl Model {
    fn name(&self, client: ClientId) -> Option<usize> {
        self.pads.iter().find(|(owner, _)| *owner == client).map(|(_, name)| *name)
    }

    fn owner(&self, name: usize) -> Option<ClientId> {
        self.pads.iter().find(|(_, held)| *held == name).map(|(owner, _)| *owner)
    }

    fn partner(&self, client: ClientId) -> Option<ClientId> {
        self.links.iter().find_map(|(one, other)| match client {
            _ if *one == client => Some(*other),
            _ if *other == client => Some(*one),
            _ => None,
        })
    }

    fn is_asking(&self, client: ClientId) -> bool {
        self.requests.iter().any(|request| request.0 == Some(client))
    }

    fn unlink(&mut self, client: ClientId) -> bool {
        let before = self.links.len();
        self.links.retain(|(one, other)| *one != client && *other != client);
        self.links.len() < before
    }

    fn leave(&mut self, client: ClientId) -> bool {
        self.unlink(client);
        self.requests.retain(|request| request.3 != client);
        for request in &mut self.requests {
            request.0 = request.0.filter(|requester| *requester != client);
        }
        let before = self.pads.len();
        self.pads.retain(|(owner, _)| *owner != client);
        self.pads.len() < before
    }

    /// Ids of the requests that are due; those whose requester left are forgotten without a word
    /// once somebody else asks.
    fn expire(&mut self, now: Instant) -> Vec<u32> {
        let (due, rest) = std::mem::take(&mut self.requests)
            .into_iter()
            .partition(|request| request.4 <= now && request.0.is_some());
        self.requests = rest;
        due.into_iter().map(|request: (_, _, u32, _, _)| request.2).collect()
    }
}

/// What has been said about every request so far.
#[derive(Default)]
struct Ledger {
    /// Link requests that were forwarded and have no outcome yet, by id.
    open: Vec<u32>,
    answered: Vec<u32>,
}

impl Ledger {
    /// Books effects; every id is answered once, every forwarded request has one outcome.
    fn book(&mut self, effects: &[Effect], links: &mut Vec<(ClientId, ClientId)>) {
        for effect in effects {
            match effect {
                Effect::Tell(_, Event::Answer { id, .. } | Event::Taken { id }) => {
                    self.answer(*id);
                }
                Effect::Tell(_, Event::Forwarded { id }) => {
                    self.answer(*id);
                    self.open.push(*id);
                }
                Effect::Tell(
                    _,
                    Event::Granted { id } | Event::Denied { id, .. } | Event::Withdrawn { id },
                ) => {
                    let place = self.open.iter().position(|open| open == id);
                    self.open.remove(place.expect("an outcome comes once, after the forwarding"));
                }
                Effect::Join(one, other) => links.push((*one, *other)),
                Effect::Part(one, other) => {
                    let is_it = |link: &(ClientId, ClientId)| {
                        *link == (*one, *other) || *link == (*other, *one)
                    };
                    let place = links.iter().position(is_it);
                    links.remove(place.expect("only what is joined is parted"));
                }
                Effect::Tell(_, Event::Auth { .. } | Event::Unlinked | Event::Unasked)
                | Effect::Release(..)
                | Effect::Limited(_) => {}
            }
        }
    }

    fn answer(&mut self, id: u32) {
        assert!(!self.answered.contains(&id), "request {id} is answered twice");
        self.answered.push(id);
    }
}

fn said_yes(effects: &[Effect], id: u32) -> bool {
    let is_yes = |effect: &Effect| {
        matches!(effect, Effect::Tell(_, Event::Answer { id: of, ok: true }
            | Event::Forwarded { id: of } | Event::Taken { id: of }) if *of == id)
    };
    effects.iter().any(is_yes)
}

/// Applies one operation to both, and compares what they say.
fn step(
    op: &Op,
    id: u32,
    table: &mut Table,
    model: &mut Model,
    ledger: &mut Ledger,
    links: &mut Vec<(ClientId, ClientId)>,
) {
    let client_of = |number: &u64| ClientId(*number + 1);
    let (effects, expected) = match op {
        Op::Register(client, name) => {
            let client = client_of(client);
            let ok = model.name(client).is_none() && model.owner(*name).is_none();
            if ok {
                model.pads.push((client, *name));
            }
            (table.register(client, id, NAMES[*name]), Some(ok))
        }
        Op::Unregister(client) => {
            let client = client_of(client);
            let ok = model.leave(client);
            (table.run(|pads, out| pads.unregister(client, id, out)), Some(ok))
        }
        Op::Link(client, name) => {
            let client = client_of(client);
            let effects = table.link(client, id, NAMES[*name], b"");
            let is_free = model.partner(client).is_none() && !model.is_asking(client);
            let mut ok = false;
            if is_free
                && let Some(own) = model.name(client)
                && let Some(other) = model.owner(*name)
            {
                // Who asks has what is overdue there forgotten, whatever comes of it.
                let overdue = table.now;
                model.requests.retain(|(requester, _, _, requestee, due)| {
                    *requestee != other || requester.is_some() || *due > overdue
                });
                let all = model.requests.len();
                let there = model.requests.iter().filter(|request| request.3 == other).count();
                ok = model.partner(other).is_none()
                    && there < limits().requests_per_pad
                    && all < limits().requests;
                if ok {
                    let due = table.now + ANSWER_TIME;
                    model.requests.push((Some(client), own, id, other, due));
                }
            }
            (effects, Some(ok))
        }
        Op::Answer(client, name, ok) => {
            let client = client_of(client);
            let effects = table.answer(client, id, NAMES[*name], *ok);
            let place = model.requests.iter().position(|(_, requester, _, requestee, _)| {
                *requestee == client && requester == name
            });
            let request = place.map(|place| model.requests.remove(place));
            let requester = request.and_then(|request| request.0);
            let taken = requester.is_some_and(|requester| {
                let free = |client| model.partner(client).is_none();
                let link = *ok && free(requester) && free(client);
                if link {
                    model.links.push((client, requester));
                }
                link || !*ok
            });
            (effects, Some(taken))
        }
        Op::Unlink(client) => {
            let client = client_of(client);
            let ok = model.unlink(client);
            (table.run(|pads, out| pads.unlink(client, id, out)), Some(ok))
        }
        Op::Gone(client) => {
            let client = client_of(client);
            model.leave(client);
            (table.run(|pads, out| pads.gone(client, out)), None)
        }
        Op::Wait(seconds) => {
            let effects = table.pass_time(Duration::from_secs(*seconds));
            let due = model.expire(table.now);
            let denied = effects.iter().filter(|effect| {
                matches!(effect, Effect::Tell(_, Event::Denied { id, by: 0 }) if due.contains(id))
            });
            assert_eq!(denied.count(), due.len());
            (effects, None)
        }
    };
    ledger.book(&effects, links);
    if let Some(expected) = expected {
        assert_eq!(said_yes(&effects, id), expected, "{op:?}: {effects:?}");
        assert!(ledger.answered.contains(&id), "{op:?} was not answered");
    }
}

fn sorted(links: &[(ClientId, ClientId)]) -> Vec<(ClientId, ClientId)> {
    let mut all: Vec<_> =
        links.iter().map(|(one, other)| (*one.min(other), *one.max(other))).collect();
    all.sort_unstable();
    all
}

/// Everybody is linked to whoever is linked to them.
fn assert_symmetric(pads: &Pads) {
    for (id, pad) in &pads.pads {
        if let Some(partner) = pad.linked {
            assert_eq!(pads.pads[&partner].linked, Some(*id));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_as_the_model_says(ops in prop::collection::vec(op(), 1..80)) {
        let mut table = Table::new(limits());
        let (mut model, mut ledger, mut links) = (Model::default(), Ledger::default(), Vec::new());
        for (number, op) in ops.iter().enumerate() {
            let id = u32::try_from(number).unwrap() + 1;
            step(op, id, &mut table, &mut model, &mut ledger, &mut links);
            assert_symmetric(&table.pads);
            prop_assert_eq!(sorted(&links), sorted(&model.links));
            let counts = (model.pads.len(), model.links.len(), model.requests.len());
            prop_assert_eq!(table.pads.counts(), counts);
        }
        finish(table, ledger, &mut links);
    }

    #[test]
    fn nothing_is_stuck_when_requests_wait_for_pads(ops in prop::collection::vec(op(), 1..80)) {
        let mut table = Table::new(Limits { wait_time: Some(WAIT_TIME), ..limits() });
        let (mut ledger, mut links) = (Ledger::default(), Vec::new());
        let mut asked = Vec::new();
        for (number, op) in ops.iter().enumerate() {
            let id = u32::try_from(number).unwrap() + 1;
            let client = |client: &u64| ClientId(*client + 1);
            let effects = match op {
                Op::Register(by, name) => table.register(client(by), id, NAMES[*name]),
                Op::Unregister(by) => table.run(|pads, out| pads.unregister(client(by), id, out)),
                Op::Link(by, name) => table.link(client(by), id, NAMES[*name], b"secret"),
                Op::Answer(by, name, ok) => table.answer(client(by), id, NAMES[*name], *ok),
                Op::Unlink(by) => table.run(|pads, out| pads.unlink(client(by), id, out)),
                Op::Gone(by) => table.run(|pads, out| pads.gone(client(by), out)),
                Op::Wait(seconds) => table.pass_time(Duration::from_secs(*seconds)),
            };
            if !matches!(op, Op::Gone(_) | Op::Wait(_)) {
                asked.push(id);
            }
            ledger.book(&effects, &mut links);
            assert_symmetric(&table.pads);
        }
        ledger.book(&table.pass_time(WAIT_TIME), &mut links);
        let unanswered: Vec<_> =
            asked.iter().filter(|id| !ledger.answered.contains(id)).collect();
        prop_assert!(unanswered.is_empty(), "{:?}", unanswered);
        finish(table, ledger, &mut links);
    }
}

/// Time settles every request, and when everybody has left nothing is left.
fn finish(mut table: Table, mut ledger: Ledger, links: &mut Vec<(ClientId, ClientId)>) {
    ledger.book(&table.pass_time(ANSWER_TIME), links);
    assert!(ledger.open.is_empty(), "requests without an outcome: {:?}", ledger.open);
    for client in 1..=CLIENTS {
        ledger.book(&table.run(|pads, out| pads.gone(ClientId(client), out)), links);
    }
    assert!(links.is_empty());
    let pads = &table.pads;
    assert_eq!(pads.counts(), (0, 0, 0));
    assert_eq!(pads.request_bytes, 0);
    assert!(pads.by_key.is_empty() && pads.by_client.is_empty() && pads.by_address.is_empty());
    assert!(pads.waiting.is_empty() && pads.deadlines.is_empty());
}
