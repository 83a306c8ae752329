//! The vectors of the protocol's description, and properties of the price.

use std::net::IpAddr;

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use super::descriptor::{Signed, Unfit};
use super::link::Frame;
use super::price::{Kind, accepted, height, target, work};
use super::proof::Challenge;
use super::token::{Refusal, Secret, Token};
use super::*;

const NOW: u32 = 1_700_000_000;
const TOKEN: &str = "AQBlU_EAiojj3XQJ8ZUBAgMEBQYHCCdss1iMmETCvu2mnhFxtDQ";
const NODE: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
const ROOM: &str = "648904681423c5abca2077dde957f78af460be70275cc2ce6ea10a3e134461e4";

fn secret() -> Secret {
    Secret::new(std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

fn seed(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

fn node() -> NodeKey {
    unhex(NODE).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn tokens_are_those_of_the_vectors() {
    assert_eq!(seed(1).verifying_key().to_bytes(), node());
    let random = [1, 2, 3, 4, 5, 6, 7, 8];
    let mint = |bind| Token::mint(&secret(), &node(), NOW, random, bind);
    assert_eq!(mint(None), TOKEN);
    assert_eq!(
        mint(Some(ip("203.0.113.7"))),
        "AQFlU_EAiojj3XQJ8ZUBAgMEBQYHCIRWf29rvqlg1jo3xnnTvcE"
    );
    let v6 = "AQFlU_EAiojj3XQJ8ZUBAgMEBQYHCKxHVYGlwO3h8ps_YA1VlPg";
    assert_eq!(mint(Some(ip("2001:db8:1:2::1"))), v6);
    let bound = Token::read(v6).unwrap();
    assert_eq!(bound.check(&secret(), &node(), NOW, ip("2001:db8:1:2:ffff::")), Ok(()));
    let elsewhere = bound.check(&secret(), &node(), NOW, ip("2001:db8:1:3::1"));
    assert_eq!(elsewhere, Err(Refusal::WrongAddress));
}

#[test]
fn tokens_live_two_minutes_and_bear_no_change() {
    let token = Token::read(TOKEN).unwrap();
    let check = |now| token.check(&secret(), &node(), now, ip("198.51.100.1"));
    assert_eq!(check(NOW), Ok(()));
    assert_eq!(check(NOW + 120), Ok(()));
    assert_eq!(check(NOW + 121), Err(Refusal::Expired));
    assert_eq!(check(NOW - 5), Ok(()));
    assert_eq!(check(NOW - 6), Err(Refusal::Expired));
    let other = seed(2).verifying_key().to_bytes();
    assert_eq!(token.check(&secret(), &other, NOW, ip("::1")), Err(Refusal::WrongNode));
    for at in 0..TOKEN.len() - 1 {
        let mut changed = TOKEN.as_bytes().to_vec();
        changed[at] = if changed[at] == b'B' { b'C' } else { b'B' };
        let changed = Token::read(str::from_utf8(&changed).unwrap()).unwrap();
        assert!(changed.check(&secret(), &node(), NOW, ip("::1")).is_err(), "character {at}");
    }
    for bad in ["", "AQ", &TOKEN[1..], &format!("{TOKEN}A"), &TOKEN.replace('_', "/")] {
        assert_eq!(Token::read(bad), Err(Refusal::Format), "{bad}");
    }
}

#[test]
fn proofs_are_those_of_the_vectors() {
    let body = br#"{"hello":"mesh"}"#;
    let challenge = Challenge::new("POST", &format!("/room/{ROOM}"), TOKEN, &[body]);
    assert_eq!(
        hex(&challenge.0),
        "0b24d7199bcd48d2cf004959c33caaaec0eeb06848586b4e012e03990417b955"
    );
    let rows = [
        (8, 0, 256, 8, "00ffffffffffffff", 0x155, "002e5aed2850b1cf"),
        (16, 0, 65_536, 16, "0000ffffffffffff", 0x49e8, "0000f38ef4fcc963"),
        (16, 3, 90_112, 17, "0000ba2e8ba2e8ba", 0x47ae1, "000099e558dabad0"),
        (16, 24, 262_144, 18, "00003fffffffffff", 0x57fe4, "000000cc812c7bb8"),
    ];
    for (load, recent, costs, high, limit, nonce, hash) in rows {
        let price = work(load, Kind::Post, recent);
        assert_eq!((price, height(price)), (costs, high));
        assert_eq!(format!("{:016x}", target(price)), limit);
        let (found, proof) = challenge.mine(target(price), 0, 1 << 20).unwrap();
        assert_eq!(u64::from_be_bytes(found), nonce);
        assert_eq!(&hex(&proof.0)[..16], hash);
    }
    let credential = Challenge::new("POST", "/token", TOKEN, &[]);
    assert_eq!(
        hex(&credential.0),
        "eb708597dc27b0d901ab73062cfaa924d999ce1fb4d28ba22a7b6114e2460891"
    );
    assert_eq!(work(16, Kind::Credential, 0), 1 << 20);
    let proof = credential.hash(0xfb17d_u64.to_be_bytes());
    assert_eq!(hex(&proof.0), "00000e11f1b6fbea3bd888a38089a17151dfc79ee639502752ae963c99c53cb6");
    assert!(proof.word() <= target(1 << 20));
}

#[test]
fn who_the_turn_server_counts_for_is_that_of_the_vector() {
    assert_eq!(secret().turn_user(NOW, ip("203.0.113.7")), "1d212f9224f2d277");
    assert_eq!(secret().turn_user(NOW, ip("::ffff:203.0.113.7")), "1d212f9224f2d277");
}

#[test]
fn homes_are_those_of_the_vector() {
    let room = Room::parse(ROOM).unwrap();
    let keys: Vec<NodeKey> = (1..=5).map(|byte| seed(byte).verifying_key().to_bytes()).collect();
    let day = homes::epoch(&room, u64::from(NOW));
    assert_eq!(day, 19_676);
    let ranked = homes::ranked(&room, u64::from(NOW), &keys);
    let order: Vec<_> = ranked
        .iter()
        .map(|key| (keys.iter().position(|k| k == key).unwrap() + 1, homes::score(&room, day, key)))
        .collect();
    assert_eq!(
        order,
        [
            (3, 0xc17e_e28f_60f2_40f6),
            (5, 0xbd3b_9e57_767c_45b2),
            (4, 0x748c_13f0_5461_bca5),
            (1, 0x6c48_b930_de5d_5751),
            (2, 0x5c77_623b_487b_3e38)
        ]
    );
}

#[test]
fn nodes_are_described_and_greet_as_in_the_vectors() {
    let value = br#"{"v":1,"net":"public","url":"https://mesh.example.org","caps":["room","dht","turn"],"stamp":"0000000001aa779d"}"#;
    assert_eq!(value.len(), 111);
    let signature: [u8; 64] = unhex("7308d3fe2c02a93b8570337db280384029f910e621dfc0da7adb43f61ded637b36da94091b222c6289d704c1843396df12b8aca3812601e3aeff6be97fb49709").unwrap();
    assert!(item::verify(&node(), identity::SALT, i64::from(NOW), value, &signature));
    assert!(!item::verify(&node(), identity::SALT, i64::from(NOW) + 1, value, &signature));
    let target = item::target(&node(), identity::SALT);
    assert_eq!(hex(&target), "8f86301d702bac921414693d29cc8cc7f35107e6");
    let stamped =
        |nonce: u64, bits| identity::is_stamped("public", &node(), nonce.to_be_bytes(), bits);
    assert!(stamped(0x1aa_779d, 24) && stamped(0x2d2, 8) && !stamped(0x2d2, 24));
    let asked = "ab".repeat(32);
    let hello = identity::hello("public", "https://mesh.example.org", &asked, 1_700_000_005);
    assert_eq!(
        hex(&seed(1).sign(hello.as_bytes()).to_bytes()),
        "e11a8ab15e4282ad8417b88d8ba9d34cbd26a3a7047729dffa5aba7aa70f086456ec65a97a5ef009f1688185115a2b7c356e5b92e1cb2756c59f42c021a53305"
    );
    let named = |name, key| hex(&identity::infohash(name, key));
    assert_eq!(named("public", None), "4e8d710bb6e278e094c680e176f8209328c39657");
    assert_eq!(named("test", None), "4630cf64dd19e060b4c5b4266e213ec2210f2e8b");
    let key: Vec<u8> = (0..32).collect();
    assert_eq!(named("corp", Some(&key)), "0b482545df2a993f5acf1ebbd6baaf2504288b7d");
}

#[test]
fn descriptors_are_made_as_in_the_vector_and_opened_only_when_all_of_it_fits() {
    let url = Some("https://mesh.example.org");
    let sign = |message: &[u8]| seed(1).sign(message).to_bytes();
    let stamp = 0x1aa_779d_u64.to_be_bytes();
    let signed = Signed::new(&node(), "public", url, stamp, i64::from(NOW), sign);
    assert_eq!((signed.v.len(), &signed.sig[..16]), (111, "7308d3fe2c02a93b"));
    let open = |signed: &Signed| signed.open("public", 24, i64::from(NOW) + 5);
    assert_eq!(open(&signed).unwrap().url.as_deref(), url);
    let changed = |change: fn(&mut Signed)| {
        let mut signed = signed.clone();
        change(&mut signed);
        open(&signed)
    };
    assert_eq!(changed(|signed| signed.sig = "00".repeat(64)), Err(Unfit::Signature));
    assert_eq!(
        changed(|signed| signed.v = signed.v.replace("mesh.", "evil.")),
        Err(Unfit::Signature)
    );
    assert_eq!(changed(|signed| signed.v = signed.v.replace("779d", "779e")), Err(Unfit::Stamp));
    assert_eq!(changed(|signed| signed.seq -= 86_400), Err(Unfit::Age));
    assert_eq!(changed(|signed| signed.salt.clear()), Err(Unfit::Malformed));
    assert_eq!(signed.open("test", 24, i64::from(NOW)), Err(Unfit::Network));
}

#[test]
fn a_carried_post_has_the_proof_its_client_mined() {
    let room = Room::parse(ROOM).unwrap();
    let body = br#"{"hello":"mesh"}"#;
    let paid = link::Paid { room: &room, token: TOKEN, nonce: 0x49e8_u64.to_be_bytes(), body };
    let proof = Challenge::new("POST", &format!("/room/{ROOM}"), TOKEN, &[body]).hash(paid.nonce);
    let signature = seed(1).sign(&identity::post("public", &proof)).to_bytes();
    let post = link::Post::new(paid, 1_700_000_003_123, &node(), &signature);
    let frame = Frame::Post(post).encode();
    let Ok(Frame::Post(post)) = Frame::decode(frame.as_bytes()) else { panic!("{frame}") };
    let carried = post.open().unwrap();
    assert_eq!(
        hex(&carried.proof.0),
        "0000f38ef4fcc963ce9bf6d868d4d498e165fcd3b4ad694a849272683d3efaba"
    );
    assert!(carried.is_signed("public") && !carried.is_signed("test"));
    assert!(carried.is_current(NOW + 150) && !carried.is_current(NOW + 151));
    assert!(carried.is_current(NOW - 30) && !carried.is_current(NOW - 31));
    let foreign = link::Carried { origin: seed(2).verifying_key().to_bytes(), ..carried };
    assert!(!foreign.is_current(NOW) && !foreign.is_signed("public"));
    assert_eq!(Frame::decode(&[b' '; link::FRAME_MAX + 1]), Err(link::Malformed));
}

#[test]
fn items_lie_where_bep44_says() {
    let key = unhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548").unwrap();
    let signed = item::signed(b"", 1, b"Hello World!");
    assert_eq!(signed, b"3:seqi1e1:v12:Hello World!");
    assert_eq!(hex(&item::target(&key, b"")), "4a533d47ec9c7d95b1ad75f576cffc641853b750");
    assert_eq!(hex(&item::target(&key, b"foobar")), "411eba73b6f087ca51a3795d9c8c938d365e32c1");
    let salted = item::signed(b"foobar", 1, b"Hello World!");
    assert_eq!(salted, b"4:salt6:foobar3:seqi1e1:v12:Hello World!");
    let signature: [u8; 64] = unhex("305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01").unwrap();
    assert!(item::verify(&key, b"", 1, b"Hello World!", &signature));
}

#[test]
fn rooms_are_hashes() {
    assert_eq!(Room::parse(&ROOM.to_uppercase()).unwrap().to_string(), ROOM);
    assert_eq!(Room::parse(&ROOM[..40]).unwrap().bytes().len(), 20);
    for bad in ["", "0", &ROOM[..63], &ROOM[..41], &"g".repeat(40), &"é".repeat(20)] {
        assert_eq!(Room::parse(bad), Err(BadRoom), "{bad}");
    }
}

proptest! {
    #[test]
    fn what_the_advertised_height_asks_always_pays(
        load in 0_u8..=40, recent in 0_u32..100_000, any: u64,
    ) {
        for kind in [Kind::Post, Kind::Put, Kind::Credential] {
            let price = work(load, kind, recent);
            let zeros = height(price);
            prop_assume!(zeros < 64);
            prop_assert!(any >> zeros <= target(price));
            prop_assert!(target(price) <= target(accepted(price, 1)));
        }
    }

    #[test]
    fn nothing_read_panics(text in "\\PC{0,60}") {
        let _ = Token::read(&text);
        let _ = Room::parse(&text);
        let _ = Frame::decode(text.as_bytes());
        let _ = unhex_any(&text);
    }
}
