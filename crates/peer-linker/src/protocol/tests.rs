use super::*;

fn ws(kind: u16, body: &[u8]) -> Request<'_> {
    ws::request(kind, body, false)
}

#[test]
fn generation_a_passes_on_what_has_no_meaning() {
    for kind in [0, 1, 12, 13, 14, u16::MAX] {
        assert_eq!(ws(kind, b"x"), Request::Pass, "{kind}");
    }
    for kind in 7..=10 {
        assert_eq!(ws(kind, b""), Request::Wrong, "{kind}");
        assert_eq!(ws::request(kind, b"", true), Request::Pass, "{kind}");
    }
}

#[test]
fn generation_a_reads_its_requests() {
    assert_eq!(ws(3, b"\0\xff"), Request::Register(b"\0\xff"));
    assert_eq!(ws(4, b"ignored"), Request::Unregister);
    let link = Request::Link { requestee: b"ab", secret: b"s" };
    assert_eq!(ws(5, b"\x02\0\x01\0abs"), link);
    for wrong in [&b"\x02\0\x01"[..], b"\x02\0\x01\0ab", b"\x02\0\x01\0abss"] {
        assert_eq!(ws(5, wrong), Request::Wrong);
    }
    assert_eq!(ws(6, b""), Request::Unlink);
    assert_eq!(ws(11, b"\0\x02ab"), Request::Answer { requester: b"ab", ok: true });
    assert_eq!(ws(11, b"\0\0ab"), Request::Answer { requester: b"ab", ok: false });
    assert_eq!(ws(11, b"\0"), Request::Wrong);
}

#[test]
fn generation_b_passes_on_payload_alone() {
    assert_eq!(tcp::request(0x10, b""), Request::Pass);
    assert_eq!(tcp::request(1, b""), Request::Ignored);
    for kind in [0, 7, 8, 0x0a, 0x11, 0xff] {
        assert_eq!(tcp::request(kind, b""), Request::Wrong, "{kind}");
    }
    assert_eq!(tcp::request(3, b"\x02\0abx"), Request::Register(b"ab"));
    assert_eq!(tcp::request(3, b"\x03\0ab"), Request::Wrong);
    let link = Request::Link { requestee: b"a", secret: b"" };
    assert_eq!(tcp::request(5, b"\x01\0a\0\0"), link);
    assert_eq!(tcp::request(9, b"\x01\0a\x02"), Request::Answer { requester: b"a", ok: true });
    assert_eq!(tcp::request(9, b"\x01\0a"), Request::Wrong);
}

#[test]
fn each_generation_hears_of_a_request_what_its_clients_wait_for() {
    let kinds = |event: Event| {
        let of = |words: Option<Words>| words.map(|words| (words.kind, words.id));
        (of(ws::words(&event)), of(tcp::words(&event)))
    };
    let said = |kind, id| Some((kind, Id::Of(id)));
    assert_eq!(kinds(Event::Forwarded { id: 5 }), (said(0, 5), None));
    assert_eq!(kinds(Event::Granted { id: 5 }), (Some((7, Id::Own)), said(0, 5)));
    assert_eq!(kinds(Event::Denied { id: 5, by: 9 }), (said(8, 9), said(1, 5)));
    assert_eq!(kinds(Event::Taken { id: 5 }), (said(0, 5), None));
    assert_eq!(kinds(Event::Withdrawn { id: 5 }), (None, said(1, 5)));
    assert_eq!(kinds(Event::Unlinked), (Some((9, Id::Own)), Some((7, Id::Own))));
    assert_eq!(kinds(Event::Answer { id: 5, ok: false }), (said(1, 5), said(1, 5)));
}
