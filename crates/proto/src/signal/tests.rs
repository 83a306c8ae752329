use super::*;

fn read(text: &str) -> Result<Kind, (String, Code, String)> {
    Request::read(text.as_bytes(), &Rules::PIN).map(|request| request.kind).map_err(
        |(id, refusal)| {
            let mut echoed = Vec::new();
            id.write(&mut echoed);
            let message = String::from_utf8_lossy(&refusal.message).into_owned();
            (String::from_utf8(echoed).unwrap(), refusal.code, message)
        },
    )
}

#[test]
fn the_envelope_is_checked_json_first_then_version_then_type() {
    assert_eq!(read("{").unwrap_err().1, Code::InvalidJson);
    for text in ["5", "\"x\"", "[]", "null", "{}", r#"{"v":1}"#, r#"{"v":"2"}"#] {
        assert_eq!(read(text).unwrap_err().1, Code::InvalidVersion, "{text}");
    }
    assert_eq!(read(r#"{"v":"1","type":"ping"}"#), Ok(Kind::Ping));
    assert_eq!(read(r#"{"v":"\u0031","type":"p\u0069ng","x":{}}"#), Ok(Kind::Ping));
}

#[test]
fn unknown_types_are_named_as_javascript_would() {
    for (json, shown) in [
        (r#""hello""#, "hello"),
        ("null", "null"),
        ("5", "5"),
        (r#"{"toString":1,"valueOf":1}"#, "[object Object]"),
        (r#"["a","b",null]"#, "a,b,"),
        (r#""Ping""#, "Ping"),
    ] {
        let (_, code, message) = read(&format!(r#"{{"v":"1","type":{json}}}"#)).unwrap_err();
        assert_eq!((code, message), (Code::UnknownType, format!("Unknown frame type: {shown}")));
    }
    assert_eq!(read(r#"{"v":"1"}"#).unwrap_err().2, "Unknown frame type: undefined");
}

#[test]
fn truthy_ids_are_echoed_and_falsy_ones_replaced() {
    let echoed = |id: &str| read(&format!(r#"{{"v":"1","id":{id}}}"#)).unwrap_err().0;
    for id in ["7", "\"x\"", r#"{"a":[1]}"#, "true"] {
        assert_eq!(echoed(id), id);
    }
    assert_eq!(echoed(r#"{ "b" : 1.0 }"#), r#"{"b":1}"#);
    for id in ["0", "-0", "null", "false", "\"\""] {
        assert!(echoed(id).starts_with("\"srv-error-"), "{id}");
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let deep = format!(r#"{{"v":"1","type":"signal","payload":{}"#, "[".repeat(200_000));
    assert_eq!(read(&deep).unwrap_err().1, Code::InvalidJson);
}

fn signal(payload: &str, rules: &Rules) -> Result<(String, String), (Code, String)> {
    let text = format!(r#"{{"v":"1","type":"signal","payload":{payload}}}"#);
    let request = Request::read(text.as_bytes(), rules).unwrap();
    let sender = PeerId::from_wtf8(b"me");
    Signal::read(&request, rules, &sender)
        .map(|signal| {
            let mut frame = Vec::new();
            encode::signal(signal.payload, &mut frame);
            let frame = String::from_utf8(frame).unwrap();
            let id = String::from_utf8(encode::signal_id(frame.as_bytes()).to_vec()).unwrap();
            assert!(frame.starts_with(&format!(r#"{{"v":"1","id":"{id}","type":"signal""#)));
            assert_eq!(id.len(), "srv-signal-".len() + 36);
            let payload = frame.split_once("\"payload\":").unwrap().1.to_owned();
            (String::from_utf8(signal.to().into_owned()).unwrap(), payload)
        })
        .map_err(|refusal| (refusal.code, String::from_utf8_lossy(&refusal.message).into_owned()))
}

#[test]
fn a_signal_is_forwarded_as_javascript_would_write_it() {
    let compact = r#"{"type":"offer","to":"you","data":{"sdp":"v=0\r\n"}}"#;
    assert_eq!(signal(compact, &Rules::PIN), Ok(("\"you\"".into(), format!("{compact}}}"))));
    let loose = r#"{ "b":1.0, "1":2, "to":"y\u006fu" }"#;
    let (to, payload) = signal(loose, &Rules::PIN).unwrap();
    assert_eq!((&*to, &*payload), ("\"you\"", r#"{"1":2,"b":1,"to":"you"}}"#));
}

#[test]
fn a_signal_needs_a_recipient() {
    for payload in ["null", "\"abc\"", "[]", "{}", r#"{"to":""}"#, r#"{"to":0}"#] {
        let refused = signal(payload, &Rules::OPEN).unwrap_err();
        assert_eq!(refused, (Code::InvalidSignal, "Missing \"to\" in payload".into()));
    }
}

#[test]
fn nobody_signs_with_another_name() {
    let refused = |payload: &str| signal(payload, &Rules::PIN).is_err();
    assert!(refused(r#"{"to":"you","from":"you"}"#));
    assert!(refused(r#"{"to":"you","from":"me","fr\u006fm":"you"}"#));
    assert!(refused(r#"{"to":"you","from":{}}"#));
    assert!(!refused(r#"{"to":"you","from":"m\u0065"}"#));
    assert!(!refused(r#"{"to":"you"}"#));
    assert!(signal(r#"{"to":"you","from":"you"}"#, &Rules::OPEN).is_ok());
}

#[test]
fn who_was_not_found_is_quoted() {
    for (to, shown) in [("\"x\"", "x"), ("true", "true"), ("{}", "[object Object]"), ("5.0", "5")] {
        let text = format!(r#"{{"v":"1","type":"signal","payload":{{"to":{to}}}}}"#);
        let request = Request::read(text.as_bytes(), &Rules::OPEN).unwrap();
        let signal = Signal::read(&request, &Rules::OPEN, &PeerId::from_wtf8(b"me")).unwrap();
        assert_eq!(*signal.not_found().message, *format!("Peer {shown} not connected").as_bytes());
    }
}

#[test]
fn subscriptions_are_bounded_lists_of_strings() {
    let read = |payload: &str| {
        let text = format!(r#"{{"v":"1","type":"presence_subscribe","payload":{payload}}}"#);
        let request = Request::read(text.as_bytes(), &Rules::PIN).unwrap();
        Subscription::read(&request, &Rules::PIN, 2)
    };
    let peers = |ids: &[&str]| {
        Ok(Subscription::Peers(ids.iter().map(|id| PeerId::from_wtf8(id.as_bytes())).collect()))
    };
    assert_eq!(read(r#"{"all":true}"#), Ok(Subscription::Everyone));
    assert_eq!(read(r#"{"peerIds":["b","a"]}"#), peers(&["a", "b"]));
    assert_eq!(read(r#"{"peerIds":["a","a"]}"#), peers(&["a"]));
    assert_eq!(read(r#"{"peerIds":[]}"#), peers(&[]));
    for payload in
        ["null", "{}", r#"{"peerIds":5}"#, r#"{"peerIds":[""]}"#, r#"{"peerIds":["a","b","c"]}"#]
    {
        assert_eq!(read(payload).unwrap_err().code, Code::InvalidSubscribe, "{payload}");
    }
}

#[test]
fn server_frames_have_the_shape_clients_know() {
    let peer = PeerId::from_wtf8(b"p\"q");
    let text = |frame: Vec<u8>| {
        let frame = String::from_utf8(frame).unwrap();
        let (head, tail) = frame.split_once(",\"type\":").unwrap();
        let kind = &head[..head.len() - 37];
        format!("{kind}|{tail}")
    };
    let ack = encode::Ack {
        peer: &peer,
        session_id: None,
        resumed: None,
        source: b"{}",
        ice_servers: None,
    };
    assert_eq!(
        text(encode::register_ack(&ack)),
        r#"{"v":"1","id":"srv-ack-|"register_ack","payload":{"peerId":"p\"q","sessionId":null,"source":{}}}"#
    );
    assert_eq!(
        text(encode::presence_update(&peer, None)),
        r#"{"v":"1","id":"srv-presence-update-|"presence_update","payload":{"peerId":"p\"q","status":"online"}}"#
    );
    assert_eq!(
        text(encode::presence_update(&peer, Some(5))),
        r#"{"v":"1","id":"srv-presence-update-|"presence_update","payload":{"peerId":"p\"q","status":"offline","lastSeenMs":5}}"#
    );
    assert_eq!(
        text(encode::pong(&peer)),
        r#"{"v":"1","id":"srv-pong-|"pong","payload":{"peerId":"p\"q"}}"#
    );
    assert_eq!(
        text(encode::peers([&peer, &peer].into_iter(), [(&peer, 7)].into_iter(), 0)),
        r#"{"v":"1","id":"srv-peers-|"peers","payload":{"peers":["p\"q","p\"q"],"lastSeenMsByPeer":{"p\"q":7}}}"#
    );
    assert_eq!(
        text(encode::session_replaced()),
        r#"{"v":"1","id":"srv-error-|"error","payload":{"code":"SESSION_REPLACED","message":"Session replaced by a new authenticated register"}}"#
    );
}
