//! Against HEAD.

use super::{BookDeviation, peers, record, update};

const NO_SUBSCRIPTION: &str = "there are no subscriptions";
const SAME_ANSWER: &str =
    "whether an address has a peerbook, or was written to just now, is told to nobody";
const NOT_BUILT: &str = "the data-channel API is not built; 404 is what its clients take for that";
const CREDENTIALS: &str = "TURN credentials are for verified peers and holders of a link, unless the operator opens them to all";
const NAME_CLASH: &str = "a name that is taken makes a request that the page marks, not an error";
const REMOVED: &str = "a link of a removed user is stale, not an error of the server";

/// Sorted by scenario and step.
pub(super) const HEAD: &[BookDeviation] = &[
    BookDeviation {
        scenario: "HEAD/crash-plain-get",
        steps: 0..1,
        instead: &[r#"{"call":["GET","/ws?fp=<FP_PLAIN>"],"gives":[426,"Upgrade Required"]}"#],
        reason: "the status says what is missing",
    },
    BookDeviation {
        scenario: "HEAD/crash-unverified-0",
        steps: 2..5,
        instead: &[r#"{"ws":"unverified","send":"null"}"#, r#"{"ws":"unverified","closed":1007}"#],
        reason: "the original's process ends here",
    },
    BookDeviation {
        scenario: "HEAD/crash-unverified-1",
        steps: 3..5,
        instead: &[
            r#"{"ws":"unverified","recv":{"code":401,"text":"Peer is not verified, blocking request"}}"#,
        ],
        reason: "the original's process ends here",
    },
    BookDeviation {
        scenario: "HEAD/crash-unverified-2",
        steps: 3..5,
        instead: &[
            r#"{"ws":"unverified","recv":{"code":401,"text":"Peer is not verified, blocking request"}}"#,
        ],
        reason: "the original's process ends here",
    },
    BookDeviation {
        scenario: "HEAD/head-authorize",
        steps: 6..9,
        instead: &[
            r#"{"call":["GET","/authorize/UNKNOWN"],"gives":[404,"Not found"]}"#,
            r#"{"call":["GET","/authorize/EE"],"gives":[404,"Not found"]}"#,
            r#"{"ws":"epsilon","open":"/ws?fp=EE"}"#,
            r#"{"ws":"epsilon","recv":{"code":401,"text":"Unverified peer"}}"#,
        ],
        reason: "nobody is approved without credentials",
    },
    BookDeviation { scenario: "HEAD/head-dc", steps: 0..78, instead: &[], reason: NOT_BUILT },
    BookDeviation {
        scenario: "HEAD/head-home",
        steps: 3..7,
        instead: &[
            r#"{"call":["GET","/?m=Hello%20there"],"gives":[200,{"html_page":{}}]}"#,
            r#"{"call":["GET","/hitme"],"gives":[200,{"html_page":{}}]}"#,
            r#"{"call":["POST","/hitme",""],"gives":[400,"{\"msg\": \"Got a hitme request with no email\"}"]}"#,
            r#"{"call":["POST","/hitme","email=nobody%40example.org"],"gives":[200,{"html_page":{"message":"Please check your inbox"}}]}"#,
            r#"{"no_mail":"nobody@example.org"}"#,
        ],
        reason: "a page repeats no words of a link's maker, and 0.3.2 answers where the two differ",
    },
    BookDeviation {
        scenario: "HEAD/head-home",
        steps: 13..14,
        instead: &[
            r#"{"call":["POST","/hitme","email=j%40example.org"],"gives":[200,{"html_page":{"message":"Please check your inbox"}}]}"#,
        ],
        reason: SAME_ANSWER,
    },
    BookDeviation {
        scenario: "HEAD/head-home",
        steps: 15..16,
        instead: &[
            r#"{"call":["POST","/hitme","email=j%40example.org"],"gives":[200,{"html_page":{"message":"Please check your inbox"}}]}"#,
            r#"{"no_mail":"j@example.org"}"#,
        ],
        reason: SAME_ANSWER,
    },
    BookDeviation {
        scenario: "HEAD/head-http",
        steps: 0..4,
        instead: &[
            r#"{"call":["POST","/iceservers"],"gives":[401,"Unauthorized"]}"#,
            r#"{"call":["GET","/iceservers"],"gives":[400,"Only the POST method is supported"]}"#,
            r#"{"call":["POST","/turn"],"gives":[401,"Unauthorized"]}"#,
            r#"{"call":["GET","/turn"],"gives":[400,"Only the POST method is supported"]}"#,
        ],
        reason: CREDENTIALS,
    },
    BookDeviation {
        scenario: "HEAD/head-http",
        steps: 8..9,
        instead: &[
            r#"{"call":["POST","/support",{"email":"","log":""}],"gives":[400,"Missing email or log"]}"#,
        ],
        reason: "only requests that are mailed count",
    },
    BookDeviation {
        scenario: "HEAD/head-http",
        steps: 12..17,
        instead: &[
            r#"{"call":["POST","/offer","not sdp"],"gives":[404,"Not found"]}"#,
            r#"{"call":["GET","/we"],"gives":[404,"Not found"]}"#,
            r#"{"call":["PATCH","/candidates/6d9f3c9e-3f8c-4b39-9a43-0d1b0a9d9b11","{}"],"gives":[404,"Not found"]}"#,
        ],
        reason: NOT_BUILT,
    },
    BookDeviation {
        scenario: "HEAD/head-http",
        steps: 17..20,
        instead: &[
            r#"{"call":["POST","/verify",{"fp":"<FP_UID>","uid":"UID755880","name":"w-755880","kind":"webexec"}],"gives":[404,"User not found"]}"#,
            r#"{"call":["POST","/authorize/<FP_UID>"],"gives":[404,"Not found"]}"#,
        ],
        reason: "an id nobody has makes no records",
    },
    BookDeviation {
        scenario: "HEAD/head-http-webrtc",
        steps: 0..11,
        instead: &[
            r#"{"call":["GET","/offer"],"gives":[404,"Not found"]}"#,
            r#"{"call":["POST","/offer","v=0"],"gives":[404,"Not found"]}"#,
            r#"{"call":["POST","/we","{}"],"gives":[404,"Not found"]}"#,
            r#"{"call":["DELETE","/candidates/6d9f3c9e-3f8c-4b39-9a43-0d1b0a9d9b11"],"gives":[404,"Not found"]}"#,
        ],
        reason: NOT_BUILT,
    },
    BookDeviation {
        scenario: "HEAD/head-ice",
        steps: 0..7,
        instead: &[
            r#"{"call":["POST","/iceservers"],"gives":[401,"Unauthorized"]}"#,
            r#"{"call":["POST","/turn"],"gives":[401,"Unauthorized"]}"#,
        ],
        reason: CREDENTIALS,
    },
    BookDeviation {
        scenario: "HEAD/head-login",
        steps: 9..10,
        instead: &[
            r#"{"call":["POST","/login",{"user":"l@example.org","otp":"000000","fp":"ZZ","name":"web"}],"gives":[401,"Invalid Credentials"]}"#,
        ],
        reason: "a wrong code and an unknown user are told the same",
    },
    BookDeviation {
        scenario: "HEAD/head-login",
        steps: 12..13,
        instead: &[
            r#"{"call":["POST","/login",{"user":"UIDL","otp":"424316","fp":"<FP_WEB>","name":"web"}],"gives":[429,"Failed to send email: Throttling prevented sending email to \"l@example.org\""]}"#,
        ],
        reason: "too many requests are not an error of the server",
    },
    BookDeviation {
        scenario: "HEAD/head-login",
        steps: 15..19,
        instead: &[
            peers!(
                "alpha",
                record!("<FP_WEB>", "web", "UIDL", "terminal7", "false", "false"),
                record!("AA", "alpha", "UIDL", "terminal7", "true", "true")
            ),
            update!("alpha", "AA", "alpha", "true", "true"),
            r#"{"call":["POST","/verify/<TOKEN>"],"gives":[200,{"html_page":{"message":"Peer verified"}}]}"#,
            update!("alpha", "<FP_WEB>", "web", "true", "false"),
        ],
        reason: "the page says itself that the peer is verified; online is who is connected",
    },
    BookDeviation {
        scenario: "HEAD/head-login",
        steps: 22..23,
        instead: &[
            r#"{"call":["GET","/verify/<TOKEN>"],"gives":[401,"Stale token, please try again"]}"#,
        ],
        reason: "a used link is used up, and no other one is handed out for it",
    },
    BookDeviation { scenario: "HEAD/head-login", steps: 25..34, instead: &[], reason: NOT_BUILT },
    BookDeviation {
        scenario: "HEAD/head-page",
        steps: 8..9,
        instead: &[
            r#"{"call":["POST","/hitme","email=page%40example.org"],"gives":[200,{"html_page":{"message":"Please check your inbox"}}]}"#,
        ],
        reason: SAME_ANSWER,
    },
    BookDeviation {
        scenario: "HEAD/head-page",
        steps: 14..18,
        instead: &[
            r#"{"call":["POST","/pb/<TOKEN>","otp=000000&btn=nope"],"gives":[200,{"html_page":{"message":"Bad button, please try again"}}]}"#,
            r#"{"call":["POST","/pb/<TOKEN>","deleteOTP=000000&btn=delete"],"gives":[200,{"html_page":{"message":"Bad delete option:"}}]}"#,
            r#"{"later":"codes"}"#,
            r#"{"call":["POST","/pb/<TOKEN>","deleteOTP=424316&btn=delete&deleteOption=rmPeers"],"gives":[200,{"html_page":{"message":"Your peers were removed"}}]}"#,
        ],
        reason: "what asks for nothing uses up no code, and no code is used twice",
    },
    BookDeviation {
        scenario: "HEAD/head-page",
        steps: 19..21,
        instead: &[
            r#"{"call":["GET","/pb/<TOKEN>"],"gives":[303],"to":"/?m=Stale%20token%2C%20please%20try%20again"}"#,
            r#"{"call":["PUT","/pb/<TOKEN>"],"gives":[303],"to":"/?m=Stale%20token%2C%20please%20try%20again"}"#,
        ],
        reason: REMOVED,
    },
    BookDeviation {
        scenario: "HEAD/head-page",
        steps: 22..23,
        instead: &[
            r#"{"call":["GET","/pb/"],"gives":[303],"to":"/?m=Stale%20token%2C%20please%20try%20again"}"#,
        ],
        reason: REMOVED,
    },
    BookDeviation {
        scenario: "HEAD/head-qr",
        steps: 4..5,
        instead: &[
            r#"{"call":["POST","/hitme","email=qr%40example.org"],"gives":[200,{"html_page":{"message":"Please check your inbox"}}]}"#,
        ],
        reason: SAME_ANSWER,
    },
    BookDeviation {
        scenario: "HEAD/head-qr",
        steps: 6..14,
        instead: &[
            r#"{"call":["GET","/pb/<TOKEN>"],"gives":[200,{"html_page":{}}]}"#,
            r#"{"call":["GET","/qr/<TOKEN>"],"gives":[200,{"html_page":{"message":"Turn codes on"}}]}"#,
            r#"{"call":["POST","/qr/<TOKEN>","otp=000000"],"gives":[200,{"html_page":{"message":"One Time Password validation failed, please try again"}}]}"#,
            r#"{"call":["POST","/qr/<TOKEN>","otp=400537"],"gives":[303],"to":"/pb/<TOKEN3>?m=One%20Time%20Password%20verified"}"#,
            r#"{"call":["GET","/pb/<TOKEN3>?m=One%20Time%20Password%20verified"],"gives":[200,{"html_page":{"message":"One Time Password verified"}}]}"#,
            r#"{"call":["GET","/qr/<TOKEN3>"],"gives":[303],"to":"/?m=Your%20QR%20was%20already%20scanned%20and%20verified"}"#,
        ],
        reason: "one-time codes are the user's choice, and turning them on leads to the page",
    },
    BookDeviation {
        scenario: "HEAD/head-support",
        steps: 1..5,
        instead: &[
            r#"{"call":["POST","/support",{"email":"u@example.org","log":"line1\nline2","description":"it broke"}],"gives":[201,"Email sent to support"]}"#,
            r#"{"mail":{"envelope_to":["operator@book.test"]}}"#,
            r#"{"no_mail":"u@example.org"}"#,
            r#"{"call":["POST","/support",{"email":"u@example.org","log":"x"}],"gives":[429,"Too Many Requests"]}"#,
        ],
        reason: "support requests go to the operator, never to the address in them, and only they count",
    },
    BookDeviation {
        scenario: "HEAD/head-verify",
        steps: 9..19,
        instead: &[
            r#"{"call":["POST","/verify",{"fp":"NEW2","uid":"UIDV","kind":"webexec","name":"srv"}],"gives":[201,"{\"uid\":\"UIDV\",\"verified\":false}"]}"#,
            r#"{"fixture":"redis-cli HSET user:UIDO email vo@example.org"}"#,
            r#"{"call":["POST","/verify",{"fp":"AA","uid":"UIDO","name":"alpha"}],"gives":[409,"Fingerprint is associated to another user"]}"#,
            r#"{"call":["POST","/verify",{"fp":"AA"}],"gives":[200,"{\"uid\":\"\",\"verified\":true}"]}"#,
            r#"{"call":["POST","/verify",{"fp":"NOBODY"}],"gives":[200,"{\"uid\":\"\",\"verified\":false}"]}"#,
            r#"{"call":["POST","/verify",{"fp":"NEW3","uid":"UIDV","email":"v@example.org","kind":"webexec","name":"z"}],"gives":[200,"{\"uid\":\"UIDV\",\"verified\":false}"]}"#,
            r#"{"call":["POST","/verify",{"fp":"NEW4","uid":"UIDV","kind":"webexec","name":"m0"}],"gives":[201,"{\"uid\":\"UIDV\",\"verified\":false}"]}"#,
            r#"{"call":["POST","/verify",{"fp":"NEW5","uid":"UIDV","kind":"webexec","name":"m1"}],"gives":[403,"Failed to add peer: User has too many peers"]}"#,
        ],
        reason: NAME_CLASH,
    },
    BookDeviation {
        scenario: "HEAD/head-ws",
        steps: 18..22,
        instead: &[
            r#"{"ws":"dupname","open":"/ws?fp=NEW9&name=newsrv&kind=webexec&uid=UIDW"}"#,
            r#"{"ws":"dupname","recv":{"code":401,"text":"Unverified peer"}}"#,
            r#"{"ws":"dupname","client_close":1000}"#,
            r#"{"ws":"inactive","open":"/ws?fp=DD&uid=INACTIVE1"}"#,
            peers!("inactive", record!("DD", "delta", "INACTIVE1", "webexec", "true", "true")),
            update!("inactive", "DD", "delta", "true", "true"),
        ],
        reason: NO_SUBSCRIPTION,
    },
    BookDeviation {
        scenario: "HEAD/head-ws",
        steps: 26..32,
        instead: &[
            peers!(
                "alpha",
                record!("NEW", "newsrv", "UIDW", "webexec", "false", "false"),
                record!("NEW9", "newsrv", "UIDW", "webexec", "false", "false"),
                record!("BB", "beta", "UIDW", "webexec", "true", "false"),
                record!("AA", "alpha", "UIDW", "terminal7", "true", "true")
            ),
            update!("alpha", "AA", "alpha", "true", "true"),
            r#"{"ws":"beta","open":"/ws?fp=BB&uid=UIDW&name=beta&kind=webexec"}"#,
            peers!(
                "beta",
                record!("NEW", "newsrv", "UIDW", "webexec", "false", "false"),
                record!("NEW9", "newsrv", "UIDW", "webexec", "false", "false"),
                record!("BB", "beta", "UIDW", "webexec", "true", "true"),
                record!("AA", "alpha", "UIDW", "terminal7", "true", "true")
            ),
            update!("beta", "BB", "beta", "true", "true"),
            update!("alpha", "BB", "beta", "true", "true"),
        ],
        reason: "who is not approved has no presence: anybody may connect under any fingerprint",
    },
    BookDeviation {
        scenario: "HEAD/head-ws",
        steps: 32..34,
        instead: &[
            r#"{"ws":"alpha","send":{"command":"get_list"}}"#,
            peers!(
                "alpha",
                record!("NEW", "newsrv", "UIDW", "webexec", "false", "false"),
                record!("NEW9", "newsrv", "UIDW", "webexec", "false", "false"),
                record!("BB", "beta", "UIDW", "webexec", "true", "true"),
                record!("AA", "alpha", "UIDW", "terminal7", "true", "true")
            ),
        ],
        reason: "get_list is answered, as both documents and 0.2.1 have it; later builds ignored it",
    },
    BookDeviation {
        scenario: "HEAD/head-ws",
        steps: 41..47,
        instead: &[
            r#"{"ws":"alpha","recv":{"code":401,"text":"Target peer belongs to a different user"}}"#,
            r#"{"ws":"alpha","send":{"target":"GHOST","offer":"unknown"}}"#,
            r#"{"ws":"alpha","recv":{"code":400,"text":"Target peer not found: GHOST"}}"#,
            r#"{"ws":"new","send":{"target":"BB","offer":"from an unverified peer"}}"#,
            r#"{"ws":"new","recv":{"code":401,"text":"Peer is not verified, blocking request"}}"#,
            r#"{"ws":"beta","quiet":true}"#,
        ],
        reason: "who is not approved reaches nobody; what cannot be delivered is said, as in 0.2.1, without an owner's name",
    },
    BookDeviation {
        scenario: "HEAD/head-ws",
        steps: 54..55,
        instead: &[r#"{"ws":"alpha","quiet":true}"#],
        reason: "who is not approved has no presence: anybody may connect under any fingerprint",
    },
];
