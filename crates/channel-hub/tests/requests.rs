//! Channels and pad requests, as clients of both generations see them.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, listed, until};
use proto::pad::{kind, tcp, ws};
use testkit::{
    database::Database,
    http_client::HttpClient,
    pad_client::{Generation, PadClient, Program, hub::PadRequest},
};

const A: Generation = Generation::WebSocket;
const B: Generation = Generation::Encrypted;

async fn server() -> (Database, Server) {
    let database = Database::fresh().await.unwrap();
    let server = Server::start(&database.pool().await.unwrap(), &[]).await;
    (database, server)
}

#[tokio::test]
async fn channels_are_listed_in_order_and_belong_to_their_session() {
    let (_database, server) = server().await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        let mut other = server.client(generation).await;
        assert!(listed(&mut other).await.is_empty());
        assert!(!owner.register_channel(b"").await.unwrap());
        for name in ["room-2", "room-1", "räum \u{1F355}"] {
            assert!(owner.register_channel(name.as_bytes()).await.unwrap());
        }
        assert!(!owner.register_channel(b"room-1").await.unwrap());
        assert!(!other.register_channel(b"room-1").await.unwrap());
        assert_eq!(listed(&mut other).await, ["room-2", "room-1", "räum \u{1F355}"]);
        assert!(!other.unregister_channel(b"room-1").await.unwrap(), "not its own");
        assert!(!owner.unregister_channel(b"nope").await.unwrap());
        assert!(owner.unregister_channel(b"room-2").await.unwrap());
        assert!(other.register_channel(b"room-2").await.unwrap(), "free at once");
        assert_eq!(listed(&mut other).await, ["room-1", "räum \u{1F355}", "room-2"]);
        owner.close().await.unwrap();
        until("its channels vanish", async || listed(&mut other).await == ["room-2"]).await;
        assert!(other.register_channel(b"room-1").await.unwrap());
    }
}

#[tokio::test]
async fn the_generations_do_not_see_each_other() {
    let (_database, server) = server().await;
    let (mut a, mut b) = (server.client(A).await, server.client(B).await);
    assert!(a.register_channel(b"room").await.unwrap());
    assert!(listed(&mut b).await.is_empty());
    assert_eq!(b.request_pad(b"room").await.unwrap(), None);
    assert!(b.register_channel(b"room").await.unwrap());
}

#[tokio::test]
async fn a_request_gets_the_pad_the_owner_made_or_its_refusal() {
    let (_database, server) = server().await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        let mut guest = server.client(generation).await;
        assert!(owner.register_channel(b"room").await.unwrap());
        assert_eq!(guest.request_pad(b"nope").await.unwrap(), None);
        for pad in [Some(b"pad 1".as_slice()), None, Some(b"pad \0\xff")] {
            let id = guest.send_pad_request(b"room").await.unwrap();
            let request = owner.next_pad_request().await.unwrap();
            assert_eq!(&request.channel[..], b"room");
            assert!(owner.answer_pad_request(&request, pad).await.unwrap());
            assert_eq!(guest.pad(id).await.unwrap().as_deref(), pad);
            assert!(!owner.answer_pad_request(&request, pad).await.unwrap(), "once is enough");
        }
        assert_eq!(guest.kept().count() + owner.kept().count(), 0, "nothing but the answers");
    }
    assert_eq!(server.metric("channel_hub_answers_total", ""), 6.0);
    assert_eq!(server.metric("channel_hub_requests_waiting", ""), 0.0);
}

#[tokio::test]
async fn answers_of_the_encrypted_generation_go_to_the_oldest_request() {
    let (_database, server) = server().await;
    let mut owner = server.client(B).await;
    let (mut first, mut second) = (server.client(B).await, server.client(B).await);
    assert!(owner.register_channel(b"room").await.unwrap());
    let mut ids = Vec::new();
    for _ in 0..2 {
        for guest in [&mut first, &mut second] {
            ids.push(guest.send_pad_request(b"room").await.unwrap());
            owner.next_pad_request().await.unwrap();
        }
    }
    let request = PadRequest { id: 0, channel: b"room".as_slice().into() };
    for pad in [b"1", b"2", b"3", b"4"] {
        assert!(owner.answer_pad_request(&request, Some(pad)).await.unwrap());
    }
    assert_eq!(first.pad(ids[2]).await.unwrap().unwrap(), "3");
    assert_eq!(first.pad(ids[0]).await.unwrap().unwrap(), "1");
    assert_eq!(second.pad(ids[1]).await.unwrap().unwrap(), "2");
    assert_eq!(second.pad(ids[3]).await.unwrap().unwrap(), "4");
    assert!(!owner.answer_pad_request(&request, Some(b"5")).await.unwrap());
}

#[tokio::test]
async fn the_slot_of_a_requester_that_left_takes_its_answer() {
    let (_database, server) = server().await;
    let mut owner = server.client(B).await;
    let (mut leaver, mut guest) = (server.client(B).await, server.client(B).await);
    assert!(owner.register_channel(b"room").await.unwrap());
    leaver.send_pad_request(b"room").await.unwrap();
    let request = owner.next_pad_request().await.unwrap();
    let id = guest.send_pad_request(b"room").await.unwrap();
    owner.next_pad_request().await.unwrap();
    leaver.close().await.unwrap();
    until("it is gone", async || server.metric("channel_hub_sessions", "") == 2.0).await;
    assert!(!owner.answer_pad_request(&request, Some(b"for the leaver")).await.unwrap());
    assert!(owner.answer_pad_request(&request, Some(b"for the guest")).await.unwrap());
    assert_eq!(guest.pad(id).await.unwrap().unwrap(), "for the guest");
}

#[tokio::test]
async fn over_websocket_one_request_waits_and_only_the_asked_may_answer() {
    let (_database, server) = server().await;
    let mut owner = server.client(A).await;
    let (mut guest, mut stranger) = (server.client(A).await, server.client(A).await);
    assert!(owner.register_channel(b"room").await.unwrap());
    assert!(stranger.register_channel(b"other").await.unwrap());
    let id = guest.send_pad_request(b"room").await.unwrap();
    let request = owner.next_pad_request().await.unwrap();
    assert!((0x8000..=0xFFFF).contains(&request.id), "{request:?}");
    assert_eq!(guest.request_pad(b"other").await.unwrap(), None, "one at a time");
    assert!(!stranger.answer_pad_request(&request, Some(b"evil")).await.unwrap());
    let unknown = PadRequest { id: request.id + 1, ..request.clone() };
    assert!(!owner.answer_pad_request(&unknown, Some(b"p")).await.unwrap());
    let beyond = PadRequest { id: request.id + 0x1_0000, ..request.clone() };
    assert!(!owner.answer_pad_request(&beyond, Some(b"p")).await.unwrap());
    assert!(!owner.ask_short_answer(request.id).await);
    // The value of `ok` and what follows are the requester's to read.
    let body = [0x34, 0x12, b'p', b'\0'];
    owner.send(ws::hub::PAD_REQUEST_RESPONSE, request.id, &body).await.unwrap();
    assert!(owner.answer_to(request.id).await.unwrap());
    let answer = guest.next_of(ws::hub::PAD_REQUEST_RESPONSE).await.unwrap();
    assert_eq!((answer.id, &answer.body[..]), (0, &body[..]));
    assert!(guest.answer_to(id).await.unwrap());
}

trait ShortAnswer {
    async fn ask_short_answer(&mut self, id: u32) -> bool;
}

impl ShortAnswer for PadClient {
    /// Answers a request with one byte.
    async fn ask_short_answer(&mut self, id: u32) -> bool {
        self.send(ws::hub::PAD_REQUEST_RESPONSE, id, &[1]).await.unwrap();
        self.answer_to(id).await.unwrap()
    }
}

#[tokio::test]
async fn everybody_who_waits_is_told_when_the_owner_goes() {
    let (_database, server) = server().await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        assert!(owner.register_channel(b"room").await.unwrap());
        assert!(owner.register_channel(b"hall").await.unwrap());
        let mut guests = Vec::new();
        for channel in [b"room", b"hall", b"room"] {
            let mut guest = server.client(generation).await;
            let id = guest.send_pad_request(channel).await.unwrap();
            owner.next_pad_request().await.unwrap();
            guests.push((guest, id));
        }
        drop(owner);
        for (guest, id) in &mut guests {
            assert_eq!(guest.pad(*id).await.unwrap(), None);
            assert_eq!(guest.request_pad(b"room").await.unwrap(), None, "the channel is gone");
        }
    }
    assert_eq!(server.metric("channel_hub_unanswered_total", ""), 6.0);
}

#[tokio::test]
async fn requests_for_a_channel_that_is_unregistered_fail_or_stay_as_their_answers_allow() {
    let (_database, server) = server().await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        let mut guest = server.client(generation).await;
        assert!(owner.register_channel(b"room").await.unwrap());
        let id = guest.send_pad_request(b"room").await.unwrap();
        let request = owner.next_pad_request().await.unwrap();
        assert!(owner.unregister_channel(b"room").await.unwrap());
        let taken = owner.answer_pad_request(&request, Some(b"pad")).await.unwrap();
        let pad = guest.pad(id).await.unwrap();
        match generation {
            A => assert_eq!((taken, pad.as_deref()), (true, Some(b"pad".as_slice()))),
            B => assert_eq!((taken, pad), (false, None)),
        }
    }
}

#[tokio::test]
async fn a_request_nobody_answers_ends() {
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let server = Server::start(&pool, &["--time-to-answer", "200ms"]).await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        let mut guest = server.client(generation).await;
        assert!(owner.register_channel(b"room").await.unwrap());
        let id = guest.send_pad_request(b"room").await.unwrap();
        let request = owner.next_pad_request().await.unwrap();
        assert_eq!(guest.pad(id).await.unwrap(), None);
        assert!(!owner.answer_pad_request(&request, Some(b"late")).await.unwrap());
    }
    assert_eq!(server.metric("channel_hub_expired_total", ""), 2.0);
}

#[tokio::test]
async fn who_asks_itself_is_asked_before_it_hears_of_success() {
    let (_database, server) = server().await;
    let mut owner = server.client(A).await;
    assert!(owner.register_channel(b"room").await.unwrap());
    let id = owner.send_pad_request(b"room").await.unwrap();
    let kinds = [owner.next().await.unwrap().kind, owner.next().await.unwrap().kind];
    assert_eq!(kinds, [ws::hub::PAD_REQUEST, kind::SUCCESS]);
    let request = PadRequest { id: 0x8000, channel: b"room".as_slice().into() };
    owner.send(ws::hub::PAD_REQUEST_RESPONSE, 0x8000, b"\x01\0p").await.unwrap();
    let kinds = [owner.next().await.unwrap(), owner.next().await.unwrap()];
    assert_eq!(kinds.map(|packet| packet.kind), [ws::hub::PAD_REQUEST_RESPONSE, kind::SUCCESS]);
    assert!(!owner.answer_pad_request(&request, None).await.unwrap());
    assert_ne!(id, 0x8000);
}

#[tokio::test]
async fn packets_clients_do_not_send_are_refused_and_acknowledgements_ignored() {
    let (_database, server) = server().await;
    let mut a = server.client(A).await;
    for kind in [kind::SUCCESS, kind::ERROR] {
        a.send(kind, 48, b"").await.unwrap();
    }
    for (kind, id) in [(ws::hub::GET_CHANNELS_RESPONSE, 54), (9, 57), (0xFFFF, 303)] {
        a.send(kind, id, b"").await.unwrap();
        let answer = a.next().await.unwrap();
        assert_eq!((answer.kind, answer.id), (kind::ERROR, id));
    }
    let mut b = server.client(B).await;
    b.send(kind::ERROR, 48, b"").await.unwrap();
    for kind in [kind::SUCCESS, tcp::hub::CHANNELS, 9, 0xFF] {
        b.send(kind, 77, b"").await.unwrap();
        let answer = b.next().await.unwrap();
        assert_eq!((answer.kind, answer.id), (kind::ERROR, 77));
    }
    // Names cut short, in every request that has one.
    for kind in [3, 4, 7, 8] {
        for body in [&b""[..], b"\x05", b"\x05\0room", b"\x04\0room\x01"] {
            if kind != 8 && body.starts_with(b"\x04") {
                continue; // bytes behind the name are ignored
            }
            b.send(kind, 78, body).await.unwrap();
            assert!(!b.answer_to(78).await.unwrap(), "{kind} {body:?}");
        }
    }
    assert!(listed(&mut b).await.is_empty());
    assert_eq!((a.kept().count(), b.kept().count()), (0, 0));
}

#[tokio::test]
async fn nothing_works_before_activation_and_a_browser_gets_a_page() {
    let (_database, server) = server().await;
    for generation in Generation::BOTH {
        let connect = PadClient::connect(generation, Program::ChannelHub, server.address);
        let mut client = connect.await.unwrap();
        assert!(!client.register_channel(b"room").await.unwrap());
        assert_eq!(client.channels().await.unwrap(), None);
        assert!(client.activate(b"").await.unwrap());
        assert!(client.register_channel(b"room").await.unwrap());
    }
    let page = HttpClient::plain(server.address).get("/any/path").await.unwrap();
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with(b"channel-hub\n"), "{page:?}");
}
