use std::sync::atomic::AtomicBool;

use proto::js;

use super::*;

/// A log and lines that remember instead of sending.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

#[derive(Clone, Default)]
struct Pipe(Arc<PipeState>);

#[derive(Default)]
struct PipeState {
    got: Mutex<Vec<String>>,
    closed: AtomicBool,
    follows: Mutex<Option<u64>>,
    skipped: Mutex<Vec<u64>>,
}

impl Line for Pipe {
    type Feed = Log;

    fn send(&self, frame: &Frame) -> bool {
        if self.0.closed.load(Ordering::SeqCst) {
            return false;
        }
        self.0.got.lock().push(short(frame));
        true
    }

    fn close(&self, code: u16, _: &'static str) {
        self.0.got.lock().push(format!("close {code}"));
        self.0.closed.store(true, Ordering::SeqCst);
    }

    fn append(feed: &Log, frame: &Frame) -> u64 {
        let mut log = feed.0.lock();
        log.push(short(frame));
        log.len() as u64 - 1
    }

    fn end(feed: &Log) -> u64 {
        feed.0.lock().len() as u64
    }

    fn follow(&self, _: &Log, from: u64) {
        *self.0.follows.lock() = Some(from);
    }

    fn unfollow(&self) {
        *self.0.follows.lock() = None;
    }

    fn skip(&self, position: u64) {
        self.0.skipped.lock().push(position);
    }
}

impl Pipe {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.got.lock())
    }

    /// What this socket would have been told of the log.
    fn heard(&self, log: &Log) -> Vec<String> {
        let from = self.0.follows.lock().map_or(u64::MAX, |from| from);
        let skipped = self.0.skipped.lock();
        let log = log.0.lock();
        let heard = |position: &u64| *position >= from && !skipped.contains(position);
        (0..log.len() as u64)
            .filter(heard)
            .map(|at| log[usize::try_from(at).unwrap()].clone())
            .collect()
    }
}

/// `type` and the interesting part of the payload.
fn short(frame: &Frame) -> String {
    let payload = frame.payload();
    let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let inner = &json["payload"];
    match json["type"].as_str().unwrap() {
        "presence_update" => {
            format!("{} {}", inner["peerId"].as_str().unwrap(), inner["status"].as_str().unwrap())
        }
        "error" => inner["code"].as_str().unwrap().to_owned(),
        "signal" => inner["n"].to_string(),
        kind => format!("{kind} {}", inner["peers"]),
    }
}

const BOUNDS: Bounds = Bounds {
    snapshot: SnapshotBounds {
        max_peers: 3,
        max_departed: 2,
        departed_age_ms: 1_000,
        rebuild_ms: 50,
    },
    max_departed: 10,
    resume_window_ms: 30_000,
    resume_frames: 4,
    resume_bytes: 10_000,
    resume_total_bytes: 100_000,
};

struct World {
    registry: Registry<Pipe>,
    generation: i64,
}

struct Client {
    seat: Arc<Seat<Pipe>>,
    pipe: Pipe,
}

impl World {
    fn new() -> Self {
        Self { registry: Registry::new(Log::default(), BOUNDS, Uuid::nil()), generation: 0 }
    }

    fn arrival(&mut self, peer: &str, socket: u64, pipe: &Pipe) -> Arrival<'static, Pipe> {
        self.generation += 1;
        Arrival {
            peer: PeerId::from_wtf8(peer.as_bytes()),
            session: Uuid::new_v4(),
            generation: self.generation,
            socket,
            line: pipe.clone(),
            follows: false,
            resumable: false,
            resume: None,
        }
    }

    fn arrive(&self, arrival: Arrival<'_, Pipe>, now_ms: i64) -> Arrived<Pipe> {
        let peer = arrival.peer.clone();
        self.registry.arrive(arrival, now_ms, |session_id, resumed| {
            let ack =
                encode::Ack { peer: &peer, session_id, resumed, source: b"{}", ice_servers: None };
            Frame::text(encode::register_ack(&ack))
        })
    }

    fn join(&mut self, peer: &str, socket: u64) -> Client {
        let pipe = Pipe::default();
        let arrival = self.arrival(peer, socket, &pipe);
        let seat = self.arrive(arrival, 0).seat;
        assert_eq!(pipe.take(), ["register_ack null"]);
        Client { seat, pipe }
    }

    fn signal(&self, to: &str, number: u32) -> Delivery {
        let text = format!(r#"{{"p":{{"n":{number}}}}}"#);
        let members = js::scan_object(text.as_bytes(), 4).unwrap().unwrap();
        let frame = Frame::text_with(64, |out| encode::signal(members.get("p").unwrap(), out));
        self.registry.forward(PeerId::from_wtf8(to.as_bytes()).json(), &frame)
    }

    fn snapshot(&self, now_ms: i64) -> String {
        short(&self.registry.peers(now_ms, true).unwrap().0)
    }
}

#[test]
fn newcomers_are_announced_to_the_others_and_not_to_themselves() {
    let mut world = World::new();
    let a = world.join("a", 1);
    let b = world.join("b", 2);
    world.registry.leave(&b.seat, 5, false);
    assert_eq!(a.pipe.heard(&world.registry.feed), ["b online", "b offline"]);
    assert_eq!(b.pipe.heard(&world.registry.feed), ["b offline"], "its socket is over by then");
    assert_eq!(world.snapshot(5), "peers [\"a\"]");
}

#[test]
fn a_takeover_tells_closes_and_mutes_the_old_session_and_keeps_the_place() {
    let mut world = World::new();
    let (old, b) = (world.join("a", 1), world.join("b", 2));
    let new = world.join("a", 3);
    assert_eq!(old.pipe.take(), ["SESSION_REPLACED", "close 4001"]);
    assert!(!old.seat.is_live() && new.seat.is_live());
    assert_eq!(*old.pipe.0.follows.lock(), None);
    assert_eq!(b.pipe.heard(&world.registry.feed), ["a online"], "no offline in between");
    assert_eq!(world.snapshot(0), "peers [\"a\",\"b\"]");
    assert!(!world.registry.leave(&old.seat, 1, false), "the old socket's end says nothing");
    assert_eq!(world.signal("a", 7), Delivery::Sent);
    assert_eq!(new.pipe.take(), ["7"]);
}

#[test]
fn registering_again_on_the_same_socket_replaces_nobody() {
    let mut world = World::new();
    let (a, b) = (world.join("a", 1), world.join("b", 2));
    let mut again = world.arrival("a", 1, &a.pipe);
    again.follows = true;
    let arrived = world.arrive(again, 0);
    assert!(!arrived.replaced);
    assert_eq!(a.pipe.take(), ["register_ack null"]);
    assert_eq!(b.pipe.heard(&world.registry.feed), ["a online"]);
    assert_eq!(a.pipe.heard(&world.registry.feed), ["b online"], "its own event is left out");
    assert!(!world.registry.leave(&a.seat, 1, false));
    assert!(world.registry.leave(&arrived.seat, 1, false));
}

#[test]
fn of_two_registers_the_later_commit_wins_whichever_is_seated_first() {
    let mut world = World::new();
    let (slow, fast) = (Pipe::default(), Pipe::default());
    let earlier = world.arrival("a", 1, &slow);
    let later = world.arrival("a", 2, &fast);
    let winner = world.arrive(later, 0);
    let loser = world.arrive(earlier, 0);
    assert!(loser.outrun && !loser.seat.is_live() && winner.seat.is_live());
    assert_eq!(slow.take(), ["register_ack null", "SESSION_REPLACED", "close 4001"]);
    assert_eq!(fast.take(), ["register_ack null"]);
    world.registry.leave(&loser.seat, 1, false);
    assert_eq!(world.registry.online(), 1);
}

#[test]
fn snapshots_are_shared_until_something_changes_and_never_stale() {
    let mut world = World::new();
    world.join("a", 1);
    let built = |now_ms| world.registry.peers(now_ms, false).map(|(_, built)| built);
    assert_eq!(built(0), Ok(true));
    assert_eq!(built(10), Ok(false));
    let b = world.join("b", 2);
    let built = |now_ms| world.registry.peers(now_ms, false).map(|(_, built)| built);
    assert_eq!(built(10), Err(40), "changed, but built a moment ago: wait");
    assert_eq!(built(50), Ok(true));
    world.registry.leave(&b.seat, 60, false);
    assert_eq!(world.snapshot(61), "peers [\"a\"]", "who has waited gets the present");
}

#[test]
fn snapshots_are_bounded_in_number_and_age() {
    let mut world = World::new();
    let clients: Vec<Client> = (0..5).map(|n| world.join(&format!("p{n}"), n)).collect();
    assert_eq!(world.snapshot(0), "peers [\"p2\",\"p3\",\"p4\"]");
    for (n, client) in clients.iter().enumerate() {
        world.registry.leave(&client.seat, i64::try_from(n).unwrap() * 500, false);
    }
    let last_seen = |now_ms| {
        let frame = world.registry.peers(now_ms, true).unwrap().0;
        let json: serde_json::Value = serde_json::from_slice(&frame.payload()).unwrap();
        json["payload"]["lastSeenMsByPeer"].to_string()
    };
    assert_eq!(last_seen(2_000), r#"{"p3":1500,"p4":2000}"#);
    world.registry.expire(2_700);
    world.registry.note_departed([(PeerId::from_wtf8(b"x"), 2_650)]);
    assert_eq!(last_seen(2_700), r#"{"p4":2000,"x":2650}"#);
}

fn resumable(world: &mut World, peer: &str, socket: u64) -> (Client, String) {
    let pipe = Pipe::default();
    let mut arrival = world.arrival(peer, socket, &pipe);
    arrival.resumable = true;
    let seat = world.arrive(arrival, 0).seat;
    pipe.take();
    let token = seat.resume.as_ref().unwrap().token.clone();
    (Client { seat, pipe }, token)
}

fn come_back(world: &mut World, peer: &str, token: &str, now_ms: i64) -> (Arrived<Pipe>, Pipe) {
    let pipe = Pipe::default();
    let mut arrival = world.arrival(peer, 99, &pipe);
    arrival.resumable = true;
    arrival.resume = Some((token.as_bytes(), None));
    (world.arrive(arrival, now_ms), pipe)
}

#[test]
fn a_token_brings_back_what_was_missed_in_order_and_once() {
    let mut world = World::new();
    let (a, token) = resumable(&mut world, "a", 1);
    assert_eq!(world.signal("a", 1), Delivery::Sent);
    a.pipe.0.closed.store(true, Ordering::SeqCst);
    assert_eq!(world.signal("a", 2), Delivery::Kept, "the socket is over, its end not yet noted");
    world.registry.leave(&a.seat, 10, false);
    assert_eq!(world.snapshot(10), "peers []");
    assert_eq!(world.signal("a", 3), Delivery::Kept);
    let (arrived, pipe) = come_back(&mut world, "a", &token, 500);
    assert_eq!((arrived.resumed, arrived.away_ms), (Some(2), Some(490)));
    assert_eq!(pipe.take(), ["register_ack null", "2", "3"]);
    assert_eq!(world.signal("a", 4), Delivery::Sent);
    let token = &arrived.seat.resume.as_ref().unwrap().token;
    let (_, pipe) = come_back(&mut world, "a", token, 600);
    assert_eq!(pipe.take(), ["register_ack null"], "nothing twice");
}

#[test]
fn a_wrong_token_and_a_late_one_bring_nothing() {
    let mut world = World::new();
    let (a, token) = resumable(&mut world, "a", 1);
    world.registry.leave(&a.seat, 0, false);
    assert_eq!(world.signal("a", 1), Delivery::Kept);
    world.registry.expire(29_999);
    assert_eq!(world.signal("a", 2), Delivery::Kept);
    let (arrived, pipe) = come_back(&mut world, "a", "guess", 29_999);
    assert_eq!(arrived.resumed, None);
    assert_eq!(pipe.take(), ["register_ack null"]);
    world.registry.leave(&arrived.seat, 30_000, false);
    world.registry.expire(60_000);
    assert_eq!(world.signal("a", 3), Delivery::NotFound);
    assert_eq!(come_back(&mut world, "a", &token, 60_000).0.resumed, None);
}

#[test]
fn the_window_of_an_earlier_session_does_not_end_a_later_one() {
    let mut world = World::new();
    let (a, token) = resumable(&mut world, "a", 1);
    world.registry.leave(&a.seat, 0, false);
    let (arrived, _) = come_back(&mut world, "a", &token, 20_000);
    world.registry.leave(&arrived.seat, 25_000, false);
    world.registry.expire(30_000);
    assert_eq!(world.signal("a", 1), Delivery::Kept, "its own window ends at 55,000");
    world.registry.expire(55_000);
    assert_eq!(world.signal("a", 1), Delivery::NotFound);
}

#[test]
fn peers_without_a_token_are_not_found_once_they_left() {
    let mut world = World::new();
    let a = world.join("a", 1);
    world.registry.leave(&a.seat, 0, false);
    assert_eq!(world.signal("a", 1), Delivery::NotFound);
    assert_eq!(world.signal("nobody", 1), Delivery::NotFound);
}

#[test]
fn subscribers_hear_of_their_peers_only() {
    let mut world = World::new();
    let (a, b) = (world.join("a", 1), world.join("b", 2));
    world.registry.leave(&b.seat, 3, false);
    let wish = |ids: &[&str]| {
        Subscription::Peers(ids.iter().map(|id| PeerId::from_wtf8(id.as_bytes())).collect())
    };
    world.registry.subscribe(&a.seat, wish(&["a", "b", "c"]), 4);
    assert_eq!(a.pipe.take(), ["presence_snapshot [\"a\"]"]);
    assert_eq!(*a.pipe.0.follows.lock(), None);
    let c = world.join("c", 3);
    world.join("d", 4);
    world.registry.leave(&c.seat, 5, false);
    assert_eq!(a.pipe.take(), ["c online", "c offline"]);
    world.registry.subscribe(&a.seat, wish(&["d"]), 6);
    world.join("c", 5);
    assert_eq!(a.pipe.take(), ["presence_snapshot [\"d\"]"]);
    world.registry.subscribe(&a.seat, Subscription::Everyone, 7);
    assert_eq!(a.pipe.take(), ["presence_snapshot [\"a\",\"d\",\"c\"]"]);
    world.join("e", 6);
    assert_eq!(a.pipe.take(), Vec::<String>::new(), "from the log again");
    assert_eq!(a.pipe.heard(&world.registry.feed), ["e online"]);
}

#[test]
fn a_subscription_ends_with_its_socket_and_survives_a_new_register_on_it() {
    let mut world = World::new();
    let (a, b) = (world.join("a", 1), world.join("b", 2));
    let wish = Subscription::Peers(vec![PeerId::from_wtf8(b"c")]);
    world.registry.subscribe(&a.seat, wish, 0);
    let mut again = world.arrival("a", 1, &a.pipe);
    again.follows = true;
    let again = world.arrive(again, 0).seat;
    a.pipe.take();
    world.join("c", 3);
    assert_eq!(a.pipe.take(), ["c online"]);
    world.registry.leave(&again, 1, false);
    world.join("c", 4);
    assert_eq!(a.pipe.take(), Vec::<String>::new());
    assert!(b.seat.is_live());
}

#[test]
fn leavers_are_handed_to_the_store_once() {
    let mut world = World::new();
    let a = world.join("a", 1);
    world.registry.leave(&a.seat, 12, false);
    let leavers = world.registry.take_leavers();
    assert_eq!(leavers.len(), 1);
    assert_eq!((leavers[0].session, leavers[0].at_ms), (a.seat.session, 12));
    assert!(world.registry.take_leavers().is_empty());
}

#[test]
fn a_look_at_the_table_brings_no_leaver_back_and_takes_no_kept_signals_away() {
    let mut world = World::new();
    let at = |session| Appearance {
        node: Uuid::from_u128(9),
        session: Uuid::from_u128(session),
        generation: 1_000,
    };
    let (b, token) = resumable(&mut world, "b", 1);
    world.registry.leave(&b.seat, 10, false);
    let id = PeerId::from_wtf8(b"b");
    assert!(!world.registry.discover(&id, at(1), 20));
    assert_eq!(world.signal("b", 1), Delivery::Kept, "its replica will ask for what is kept");
    assert!(world.registry.hand_over(&id, at(1), token.as_bytes()).is_some());
    let c = world.join("c", 2);
    world.registry.leave(&c.seat, 30, false);
    let id = PeerId::from_wtf8(b"c");
    world.registry.discover(&id, at(2), 30);
    assert!(!world.registry.is_online(&id), "it left after the look began");
    world.registry.discover(&id, at(2), 31);
    assert!(world.registry.is_online(&id));
    assert_eq!(world.signal("c", 1), Delivery::Elsewhere(Uuid::from_u128(9)));
}
