//! The hub against a model that looks everything up the slow way.

use proptest::prelude::*;

use super::{requests::FIRST_ASKED, *};
use std::time::Instant;

const TIME_TO_ANSWER: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    channels: 6,
    channels_per_session: 3,
    channels_per_address: 5,
    name_bytes: 8,
    requests_per_session: 4,
    requests_per_address: 8,
    requests_per_channel: 5,
    time_to_answer: TIME_TO_ANSWER,
};

fn address(of: usize) -> LimitKey {
    LimitKey::V4([10, 0, 0, u8::try_from(of % 2).unwrap()])
}

struct Client {
    generation: Generation,
    id: SessionId,
    here: bool,
}

struct Listed {
    generation: Generation,
    name: Arc<[u8]>,
    owner: usize,
    id: ChannelId,
}

struct Asked {
    requester: usize,
    gone: bool,
    id: u32,
    channel: ChannelId,
    owner: usize,
    number: Option<u32>,
    until: Instant,
}

struct Model {
    hub: Hub<usize>,
    clients: Vec<Client>,
    channels: Vec<Listed>,
    requests: Vec<Asked>,
    now: Instant,
    ids: u32,
    /// Requests accepted, and answers of whatever kind given to requesters that were there.
    accepted: usize,
    settled: usize,
}

fn told(effects: &Effects<usize>) -> Vec<(usize, Say)> {
    effects.to_vec()
}

impl Model {
    fn new() -> Self {
        Self {
            hub: Hub::new(LIMITS),
            clients: Vec::new(),
            channels: Vec::new(),
            requests: Vec::new(),
            now: Instant::now(),
            ids: 0,
            accepted: 0,
            settled: 0,
        }
    }

    fn connect(&mut self, generation: Generation) {
        let key = self.clients.len();
        let id = self.hub.connect(generation, address(key), key);
        self.clients.push(Client { generation, id, here: true });
    }

    fn channel(&self, client: usize, name: &[u8]) -> Option<usize> {
        let generation = self.clients[client].generation;
        self.channels.iter().position(|one| one.generation == generation && *one.name == *name)
    }

    fn register(&mut self, client: usize, name: &[u8], works: bool) {
        let at = self.channels.iter();
        let mine = at.clone().filter(|one| one.owner == client).count();
        let near = at.filter(|one| address(one.owner) == address(client)).count();
        let expected = if name.is_empty() {
            Some(Refusal::NoName)
        } else if name.len() > LIMITS.name_bytes {
            Some(Refusal::LongName)
        } else if self.channel(client, name).is_some() {
            Some(Refusal::Taken)
        } else if mine >= 3 || near >= 5 || self.channels.len() >= 6 {
            Some(Refusal::ManyChannels)
        } else {
            None
        };
        let name: Arc<[u8]> = name.into();
        let taken = self.hub.take(self.clients[client].id, &name);
        assert_eq!(taken.as_ref().err(), expected.as_ref());
        let Ok(Held { channel: id, .. }) = taken else { return };
        let asked = self.hub.request(self.clients[client].id, 0, &name, self.now);
        assert!(asked.is_err(), "nobody sees what is not written down");
        if works {
            let told = self.hub.list(id, 9).unwrap();
            assert_eq!(told[..], [(client, Say::Success(9))]);
            let generation = self.clients[client].generation;
            self.channels.push(Listed { generation, name, owner: client, id });
        } else {
            assert!(self.hub.give_up(id).is_empty());
            assert!(self.hub.list(id, 9).is_none());
        }
    }

    /// Ends requests and says what their requesters hear.
    fn fail(&mut self, ends: impl Fn(&Asked) -> bool) -> Vec<(usize, Say)> {
        let mut heard = Vec::new();
        let settled = &mut self.settled;
        self.requests.retain(|one| {
            let over = ends(one);
            if over && !one.gone {
                *settled += 1;
                let id = if one.number.is_some() { 0 } else { one.id };
                heard.push((one.requester, Say::Unanswered(id)));
            }
            !over
        });
        heard
    }

    fn unregister(&mut self, client: usize, name: &[u8]) {
        self.ids += 1;
        let id = self.ids;
        let got = self.hub.unregister(self.clients[client].id, id, name);
        let found = self.channel(client, name).filter(|at| self.channels[*at].owner == client);
        let Some(at) = found else { return assert_eq!(got.unwrap_err(), Refusal::NoChannel) };
        let channel = self.channels.remove(at);
        let mut expected = self.fail(|one| one.channel == channel.id && one.number.is_none());
        expected.push((client, Say::Success(id)));
        assert_eq!(told(&got.unwrap()), expected);
    }

    fn request(&mut self, client: usize, name: &[u8]) {
        self.ids += 1;
        let id = self.ids;
        let got = self.hub.request(self.clients[client].id, id, name, self.now);
        let is_a = self.clients[client].generation == Generation::WebSocket;
        let mine = self.requests.iter().filter(|one| one.requester == client).count();
        let near = |one: &&Asked| address(one.requester) == address(client);
        let near = self.requests.iter().filter(near).count();
        let found = self.channel(client, name);
        if is_a && mine > 0 {
            return assert_eq!(got.unwrap_err(), Refusal::Waiting);
        }
        let Some(at) = found else { return assert_eq!(got.unwrap_err(), Refusal::NoChannel) };
        let channel = &self.channels[at];
        let queued = self.requests.iter().filter(|one| one.channel == channel.id).count();
        if mine >= 4 || near >= 8 || queued >= 5 {
            return assert_eq!(got.unwrap_err(), Refusal::ManyRequests);
        }
        let got = told(&got.unwrap());
        let (owner, Say::Asked(number, asked)) = &got[0] else { panic!("{got:?}") };
        assert_eq!((*owner, asked), (channel.owner, &channel.name));
        if is_a {
            assert!((FIRST_ASKED..=0xFFFF).contains(number));
            let in_use = |one: &Asked| one.owner == *owner && one.number == Some(*number);
            assert!(!self.requests.iter().any(in_use), "an id means one request");
            assert_eq!(got[1..], [(client, Say::Success(id))]);
        } else {
            assert_eq!(got.len(), 1);
        }
        self.accepted += 1;
        self.requests.push(Asked {
            requester: client,
            gone: false,
            id,
            channel: channel.id,
            owner: *owner,
            number: is_a.then_some(*number),
            until: self.now + TIME_TO_ANSWER,
        });
    }

    /// `client` answers `request`, which need not be its own to answer.
    fn answer(&mut self, client: usize, number: u32) {
        self.ids += 1;
        let body = Bytes::from(self.ids.to_string());
        let got = self.hub.answer(self.clients[client].id, number, body.clone());
        let asked = |one: &Asked| one.owner == client && one.number == Some(number);
        let Some(at) = self.requests.iter().position(asked) else {
            return assert_eq!(got.unwrap_err(), Refusal::NotAsked);
        };
        let request = self.requests.remove(at);
        self.settled += 1;
        let expected =
            [(request.requester, Say::Answered(0, body)), (client, Say::Success(number))];
        assert_eq!(told(&got.unwrap()), expected);
    }

    fn answer_oldest(&mut self, client: usize, name: &[u8]) {
        self.ids += 1;
        let (id, body) = (self.ids, Bytes::from(self.ids.to_string()));
        let got = self.hub.answer_oldest(self.clients[client].id, id, name, body.clone());
        let found = self.channel(client, name).filter(|at| self.channels[*at].owner == client);
        let Some(at) = found else { return assert_eq!(got.unwrap_err(), Refusal::NoChannel) };
        let channel = self.channels[at].id;
        let Some(at) = self.requests.iter().position(|one| one.channel == channel) else {
            return assert_eq!(got.unwrap_err(), Refusal::NotAsked);
        };
        let request = self.requests.remove(at);
        if request.gone {
            return assert_eq!(got.unwrap_err(), Refusal::NotAsked);
        }
        self.settled += 1;
        let expected =
            [(request.requester, Say::Answered(request.id, body)), (client, Say::Success(id))];
        assert_eq!(told(&got.unwrap()), expected);
    }

    fn leave(&mut self, client: usize) {
        self.clients[client].here = false;
        let mut got = told(&self.hub.gone(self.clients[client].id));
        self.channels.retain(|one| one.owner != client);
        let own = self.requests.iter_mut().filter(|one| one.requester == client && !one.gone);
        for request in own {
            request.gone = true;
            self.settled += 1; // there is nobody to tell
        }
        self.requests.retain(|one| !one.gone || one.number.is_none());
        let mut expected = self.fail(|one| one.owner == client);
        let order = |told: &(usize, Say)| format!("{told:?}");
        got.sort_by_key(order);
        expected.sort_by_key(order);
        assert_eq!(got, expected);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let now = self.now;
        let before = self.requests.len();
        let expected = self.fail(|one| one.until <= now);
        let (count, got) = self.hub.expire(now);
        assert_eq!((told(&got), count), (expected, before - self.requests.len()));
    }

    fn check(&mut self) {
        let here = self.clients.iter().filter(|one| one.here).count();
        assert_eq!(three(&self.hub), [here, self.channels.len(), self.requests.len()]);
        let waiting = self.requests.iter().filter(|one| !one.gone).count();
        assert_eq!(self.accepted, self.settled + waiting, "answered once, or still waited for");
        for client in 0..self.clients.len() {
            if !self.clients[client].here {
                continue;
            }
            let generation = self.clients[client].generation;
            let mut listing = Listing::new(generation);
            let names: Vec<&[u8]> = self
                .channels
                .iter()
                .filter(|one| one.generation == generation)
                .map(|one| &*one.name)
                .collect();
            for name in &names {
                listing.added(name);
            }
            let expected = listing.body(names.into_iter()).unwrap();
            assert_eq!(self.hub.channels(self.clients[client].id).unwrap(), expected);
        }
        // The rows of channels that ended are somebody's to delete, which is what frees their room.
        self.hub.take_released();
    }

    fn step(&mut self, (kind, client, pick): (u8, usize, u8)) {
        let here: Vec<usize> =
            (0..self.clients.len()).filter(|one| self.clients[*one].here).collect();
        let name: &[u8] =
            [&b"a"[..], b"b", b"c", b"\0\xff", b"", b"too long."][usize::from(pick % 6)];
        if kind == 0 || here.is_empty() {
            let both = [Generation::WebSocket, Generation::Encrypted];
            return self.connect(both[usize::from(pick % 2)]);
        }
        let client = here[client % here.len()];
        let is_a = self.clients[client].generation == Generation::WebSocket;
        match kind {
            1..=3 => self.register(client, name, pick % 5 != 0),
            4 => self.unregister(client, name),
            5..=8 => self.request(client, name),
            9 | 10 if is_a => self.answer(client, FIRST_ASKED + u32::from(pick % 4)),
            9 | 10 => self.answer_oldest(client, name),
            11 => self.leave(client),
            _ => self.wait(u64::from(pick % 40)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_hub_does_what_the_model_says(
        steps in prop::collection::vec((0_u8..13, 0_usize..64, any::<u8>()), 0..200)
    ) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
            model.check();
        }
        for client in 0..model.clients.len() {
            if model.clients[client].here {
                model.leave(client);
            }
        }
        model.wait(60); // slots of requesters that went with nobody left to answer
        model.check();
        prop_assert!(model.hub.addresses.is_empty() && model.hub.names.iter().all(HashMap::is_empty));
    }
}

/// A hub with an owner of `room` (line 0) and requesters (lines 1 and 2), all of one generation.
fn room(generation: Generation, limits: Limits) -> (Hub<usize>, [SessionId; 3], ChannelId) {
    let mut hub = Hub::new(limits);
    let clients = [0, 1, 2].map(|key| hub.connect(generation, address(key), key));
    let Held { channel, .. } = hub.take(clients[0], &Arc::from(&b"room"[..])).unwrap();
    assert!(hub.list(channel, 1).is_some());
    (hub, clients, channel)
}

const PLENTY: Limits = Limits {
    requests_per_session: 100_000,
    requests_per_address: 100_000,
    requests_per_channel: 100_000,
    ..LIMITS
};

#[test]
fn ids_go_round_and_skip_those_in_use() {
    let (mut hub, [owner, first, second], _) = room(Generation::WebSocket, PLENTY);
    let now = Instant::now();
    let held = hub.request(first, 1, b"room", now).unwrap();
    let Say::Asked(held, _) = held[0].1 else { panic!("{held:?}") };
    assert_eq!(held, 0x8000);
    for round in 0..0x8000_u32 {
        let asked = hub.request(second, 1, b"room", now).unwrap();
        let Say::Asked(id, _) = asked[0].1 else { panic!("{asked:?}") };
        let expected = if round == 0x7FFF { 0x8001 } else { 0x8001 + round };
        assert_eq!(id, expected);
        hub.answer(owner, id, Bytes::new()).unwrap();
    }
    assert!(hub.answer(owner, held, Bytes::new()).is_ok());
}

#[test]
fn an_owner_with_every_id_in_use_is_asked_no_more() {
    let (mut hub, [owner, ..], _) = room(Generation::WebSocket, PLENTY);
    let now = Instant::now();
    for key in 0..0x8000 {
        let requester = hub.connect(Generation::WebSocket, address(key), key);
        hub.request(requester, 1, b"room", now).unwrap();
    }
    let one_more = hub.connect(Generation::WebSocket, address(0), 0);
    assert_eq!(hub.request(one_more, 1, b"room", now).unwrap_err(), Refusal::ManyRequests);
    let told = hub.gone(owner);
    assert_eq!(told.len(), 0x8000, "all of them are told");
    assert!(hub.request(one_more, 1, b"room", now).is_err_and(|why| why == Refusal::NoChannel));
}

#[test]
fn a_session_that_asks_itself_leaves_nothing() {
    for generation in [Generation::WebSocket, Generation::Encrypted] {
        let (mut hub, [owner, other, _], _) = room(generation, LIMITS);
        hub.request(owner, 1, b"room", Instant::now()).unwrap();
        hub.request(other, 1, b"room", Instant::now()).unwrap();
        let told = hub.gone(owner);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].0, 1);
        hub.gone(other);
        assert_eq!(three(&hub), [1, 0, 0]);
    }
}

#[test]
fn a_channel_that_is_written_down_too_late_is_not_listed() {
    let (mut hub, [_, session, _], room) = room(Generation::Encrypted, LIMITS);
    let late = hub.take(session, &Arc::from(&b"late"[..])).unwrap();
    hub.gone(session);
    assert!(hub.list(late.channel, 1).is_none());
    assert_eq!(hub.take_released(), [], "the writer of the row gives it back");
    assert_eq!(hub.held().iter().map(|held| held.channel).collect::<Vec<_>>(), [room]);
}

#[test]
fn the_owner_of_a_lost_channel_is_cut_off_after_those_who_wait_are_told() {
    let (mut hub, [_, requester, _], channel) = room(Generation::Encrypted, LIMITS);
    hub.request(requester, 7, b"room", Instant::now()).unwrap();
    let told = hub.lose(channel);
    assert_eq!(told[..], [(1, Say::Unanswered(7)), (0, Say::Lost)]);
}

/// Sessions, channels and requests.
fn three<L: Clone>(hub: &Hub<L>) -> [usize; 3] {
    let Counts { sessions, channels, waiting, .. } = hub.counts();
    [sessions, channels, waiting]
}
