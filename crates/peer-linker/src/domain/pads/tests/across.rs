//! Random sequences at two processes, between which what they say takes its time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const CLIENTS: u64 = 3;
const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

#[derive(Clone, Debug)]
enum Op {
    Register(usize, u64, usize),
    Unregister(usize, u64),
    Link(usize, u64, usize),
    Answer(usize, u64, usize, bool),
    Unlink(usize, u64),
    Gone(usize, u64),
    Wait(u64),
    /// The oldest thing said on one of the connections arrives.
    Deliver(usize),
    /// A connection breaks.
    Break(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (place, client, name) = (0..2_usize, 0..CLIENTS, 0..NAMES.len());
    let at = (place.clone(), client.clone());
    prop_oneof![
        5 => (at.clone(), name.clone()).prop_map(|((at, by), name)| Op::Register(at, by, name)),
        1 => at.clone().prop_map(|(at, by)| Op::Unregister(at, by)),
        6 => (at.clone(), name.clone()).prop_map(|((at, by), name)| Op::Link(at, by, name)),
        8 => (at.clone(), name, prop::bool::weighted(0.8))
            .prop_map(|((at, by), name, ok)| Op::Answer(at, by, name, ok)),
        1 => at.clone().prop_map(|(at, by)| Op::Unlink(at, by)),
        1 => at.prop_map(|(at, by)| Op::Gone(at, by)),
        1 => (1..40_u64).prop_map(Op::Wait),
        12 => (0..8_usize).prop_map(Op::Deliver),
        1 => (0..8_usize).prop_map(Op::Break),
    ]
}

/// What crosses a connection, as `protocol::sibling` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Asked,
    Verdict(bool, u32),
    Unlinked,
    Closed,
}

/// One connection: process `from` asks for its client's sake.
struct Call {
    from: usize,
    requester: (ClientId, u32, &'static [u8]),
    /// Who stands for the pad asked for at `from`, and for the pad that asks at the other.
    stands: [ClientId; 2],
    /// On its way to `from`, and to the other.
    said: [VecDeque<Said>; 2],
    pending: bool,
    is_open: [bool; 2],
}

struct World {
    tables: [Table; 2],
    calls: Vec<Call>,
    next: u64,
    /// Link requests without an answer, and those that were forwarded and have no outcome.
    asked: Vec<u32>,
    open: Vec<u32>,
}

impl World {
    fn new() -> Self {
        let tables = [(); 2].map(|()| Table::new(limits()));
        Self { tables, calls: Vec::new(), next: 100, asked: Vec::new(), open: Vec::new() }
    }

    fn run(&mut self, at: usize, rule: impl FnOnce(&mut Pads, &mut Vec<Effect>)) {
        let effects = self.tables[at].run(rule);
        self.book(at, effects);
    }

    fn book(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Tell(client, event) = effect else { continue };
            let side = |call: &Call| usize::from(call.from != at);
            match self.calls.iter_mut().find(|call| call.stands[side(call)] == client) {
                Some(call) => {
                    let to = 1 - side(call);
                    call.said[to].extend(said(&event));
                }
                None => self.told(&event),
            }
        }
    }

    fn told(&mut self, event: &Event) {
        match event {
            Event::Forwarded { id } => {
                self.take_asked(*id);
                self.open.push(*id);
            }
            Event::Granted { id } | Event::Denied { id, .. } | Event::Withdrawn { id } => {
                let place = self.open.iter().position(|open| open == id);
                self.open.remove(place.expect("an outcome comes once, after the forwarding"));
            }
            Event::Answer { id, ok: false } if self.asked.contains(id) => self.take_asked(*id),
            _ => {}
        }
    }

    fn take_asked(&mut self, id: u32) {
        let place = self.asked.iter().position(|asked| *asked == id);
        self.asked.remove(place.expect("a request is answered once"));
    }

    fn owner(&self, name: usize) -> Option<usize> {
        let key = PadKey { namespace: Namespace::WebSocket, name: NAMES[name].into() };
        (0..2).find(|at| self.tables[*at].pads.is_here(&key))
    }

    fn link(&mut self, at: usize, client: ClientId, id: u32, name: usize) {
        self.asked.push(id);
        let (requestee, secret) = (Name::from(NAMES[name]), Bytes::new());
        let now = self.tables[at].now;
        if self.owner(name) != Some(1 - at) {
            return self.run(at, |pads, out| pads.link(client, id, (requestee, secret), now, out));
        }
        let own = self.tables[at].pads.may_ask(client, &requestee, &secret);
        let Some(own) = own else { return self.take_asked(id) };
        let own = NAMES.into_iter().find(|name| **name == *own).expect("one of them");
        self.next += 2;
        let stands = [ClientId(self.next), ClientId(self.next + 1)];
        let requester = (client, id, own);
        let said = [VecDeque::new(), VecDeque::new()];
        let call = Call { from: at, requester, stands, said, pending: true, is_open: [true; 2] };
        self.calls.push(call);
        for (at, client, name) in [(at, stands[0], NAMES[name]), (1 - at, stands[1], own)] {
            let key = PadKey { namespace: Namespace::WebSocket, name: name.into() };
            self.run(at, |pads, out| pads.stand_for(client, key, out));
        }
        self.run(1 - at, |pads, out| {
            pads.link(stands[1], 0, (requestee, Bytes::new()), now, out);
        });
    }

    fn deliver(&mut self, call: usize) -> bool {
        let Some(side) = (0..2).find(|side| !self.calls[call].said[*side].is_empty()) else {
            return false;
        };
        let Some(said) = self.calls[call].said[side].pop_front() else { return false };
        if self.calls[call].is_open[side] {
            self.hear(call, side, said);
        }
        true
    }

    fn hear(&mut self, call: usize, side: usize, said: Said) {
        let Call { from, requester: (client, id, name), stands, .. } = self.calls[call];
        let (at, stands) = (if side == 0 { from } else { 1 - from }, stands[side]);
        match said {
            Said::Asked => {
                self.calls[call].pending = false;
                let now = self.tables[at].now;
                self.run(at, |pads, out| {
                    pads.asked_elsewhere(client, id, stands, Bytes::new(), now, out);
                });
                // Who has left hears nothing, nor does it wait.
                self.asked.retain(|asked| *asked != id);
            }
            Said::Verdict(ok, by) => {
                self.run(at, |pads, out| pads.answer(stands, by, name, ok, out));
                if !ok {
                    self.hang_up(call, side);
                }
            }
            Said::Unlinked => {
                self.run(at, |pads, out| pads.unlink(stands, 0, out));
                self.hang_up(call, side);
            }
            Said::Closed => self.hang_up(call, side),
        }
    }

    /// One end of a connection is over; the other hears of it behind all that was said before.
    fn hang_up(&mut self, call: usize, side: usize) {
        if !std::mem::take(&mut self.calls[call].is_open[side]) {
            return;
        }
        let Call { from, requester: (_, id, _), stands, pending, .. } = self.calls[call];
        let at = if side == 0 { from } else { 1 - from };
        if side == 0 && pending {
            self.asked.retain(|asked| *asked != id); // refused
        }
        self.run(at, |pads, out| pads.gone(stands[side], out));
        self.calls[call].said[1 - side].push_back(Said::Closed);
    }

    fn settle(&mut self) {
        while (0..self.calls.len()).any(|call| self.deliver(call)) {}
    }

    /// A pad is linked with another process's exactly when that one's is with it.
    fn assert_symmetric(&self) {
        for call in &self.calls {
            let linked = [0, 1].map(|side| {
                let at = if side == 0 { call.from } else { 1 - call.from };
                let pads = &self.tables[at].pads;
                let pad = pads.by_client.get(&call.stands[side])?;
                pads.pads[&pads.pads[pad].linked?].linked.filter(|back| back == pad)
            });
            assert_eq!(linked[0].is_some(), linked[1].is_some(), "both ends or none");
        }
    }
}

fn said(event: &Event) -> Option<Said> {
    match event {
        Event::Forwarded { .. } => Some(Said::Asked),
        Event::Granted { .. } => Some(Said::Verdict(true, 0)),
        Event::Denied { by, .. } => Some(Said::Verdict(false, *by)),
        Event::Unlinked => Some(Said::Unlinked),
        Event::Answer { ok: false, .. } | Event::Unasked => Some(Said::Closed),
        _ => None,
    }
}

fn client(at: usize, number: u64) -> ClientId {
    ClientId(number + 1 + 10 * at as u64)
}

fn step(world: &mut World, op: &Op, id: u32) {
    match *op {
        Op::Register(at, by, name) => {
            if world.owner(name).is_none() {
                let effects = world.tables[at].register(client(at, by), id, NAMES[name]);
                world.book(at, effects);
            }
        }
        Op::Unregister(at, by) => {
            world.run(at, |pads, out| pads.unregister(client(at, by), id, out));
        }
        Op::Link(at, by, name) => {
            // A client that waits is not read.
            let waits = |call: &Call| call.pending && call.is_open[0];
            let by = client(at, by);
            if !world.calls.iter().any(|call| waits(call) && call.requester.0 == by) {
                world.link(at, by, id, name);
            }
        }
        Op::Answer(at, by, name, ok) => {
            world.run(at, |pads, out| pads.answer(client(at, by), id, NAMES[name], ok, out));
        }
        Op::Unlink(at, by) => world.run(at, |pads, out| pads.unlink(client(at, by), id, out)),
        Op::Gone(at, by) => world.run(at, |pads, out| pads.gone(client(at, by), out)),
        Op::Wait(seconds) => wait(world, Duration::from_secs(seconds)),
        Op::Deliver(call) => {
            let count = world.calls.len();
            if count > 0 {
                world.deliver(call % count);
            }
        }
        Op::Break(call) => {
            if let Some(call) = call.checked_rem(world.calls.len()) {
                world.hang_up(call, 0);
                world.hang_up(call, 1);
            }
        }
    }
}

fn wait(world: &mut World, time: Duration) {
    for at in 0..2 {
        let effects = world.tables[at].pass_time(time);
        world.book(at, effects);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn both_processes_come_to_the_same_end(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for (number, op) in ops.iter().enumerate() {
            step(&mut world, op, u32::try_from(number).unwrap() + 1);
        }
        world.settle();
        world.assert_symmetric();
        prop_assert!(world.asked.is_empty(), "unanswered: {:?}", world.asked);
        wait(&mut world, ANSWER_TIME);
        world.settle();
        prop_assert!(world.open.is_empty(), "without an outcome: {:?}", world.open);
        for (at, number) in (0..2).flat_map(|at| (0..CLIENTS).map(move |number| (at, number))) {
            world.run(at, |pads, out| pads.gone(client(at, number), out));
        }
        world.settle();
        for Table { pads, .. } in &world.tables {
            prop_assert_eq!(pads.counts(), (0, 0, 0));
            prop_assert!(pads.pads.is_empty() && pads.elsewhere == 0 && pads.by_client.is_empty());
            prop_assert!(pads.by_key.is_empty() && pads.by_address.is_empty());
            prop_assert!(pads.deadlines.is_empty() && pads.request_bytes == 0);
        }
    }
}
