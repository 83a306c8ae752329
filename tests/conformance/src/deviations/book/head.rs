//! Against HEAD.

use super::{BookDeviation, peers, record, update};

const NO_SUBSCRIPTION: &str = "there are no subscriptions";
const SAME_ANSWER: &str =
    "whether an address has a peerbook, or was written to just now, is told to nobody";
const OLDER_FORM: &str = "/we is what came before /offer; no client uses it";
const NO_SDP: &str = "what is no offer is told so, without an excerpt of the server's memory";
const NO_QR: &str =
    "a user's QR code is behind the link in the mail, not for whoever names the address";
const NOT_IN: &str = "who is not let in decides about nobody, itself included; codes are turned on behind the mailed link";
const TOLD_APART: &str = "who is not approved cannot be told from nobody";
const ALL_ARE_TOLD: &str = "a change is told to every peer of the user, over data channels too";
const ANY_PROCESS: &str = "candidates are not needed, so any replica takes those of any session";
const NO_WORDS: &str = "a refusal says nothing of other users, of ids or of the database";
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
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 7..9,
        instead: &[
            r#"{"dc":"client","send":{"message_id":2,"time":1700000000000,"type":"register","args":{"email":"dc@example.org","peer_name":"my phone"}}}"#,
            r#"{"dc":"client","recv":{"message_id":2,"type":"ack","args":{"ref":2,"body":"{\"ID\":\"<UID>\",\"QR\":\"Please check your inbox to approve this device\"}"}}}"#,
            r#"{"mail":{"envelope_to":["dc@example.org"],"text":"<TOKEN>"}}"#,
        ],
        reason: NO_QR,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 12..20,
        instead: &[
            r#"{"dc":"client","send":{"message_id":4,"time":1700000000000,"type":"verify","args":{"target":"<FP_CLIENT>","otp":"000000"}}}"#,
            r#"{"dc":"client","recv":{"message_id":4,"type":"nack","args":{"desc":"peer is not verified","ref":4}}}"#,
            r#"{"dc":"client","send":{"message_id":5,"time":1700000000000,"type":"verify","args":{"target":"<FP_CLIENT>","otp":"642881"}}}"#,
            r#"{"dc":"client","recv":{"message_id":5,"type":"nack","args":{"desc":"peer is not verified","ref":5}}}"#,
            r#"{"call":["GET","/qr/<TOKEN>"],"gives":[200,{"html_page":{"message":"Turn codes on"}}]}"#,
            r#"{"call":["POST","/qr/<TOKEN>","otp=642881"],"gives":[303],"to":"/pb/<TOKEN2>?m=One%20Time%20Password%20verified"}"#,
            r#"{"dc":"client","send":{"message_id":6,"time":1700000000000,"type":"ping","args":{"otp":"642881"}}}"#,
            r#"{"dc":"client","recv":{"message_id":6,"type":"ack","args":{"ref":6,"body":"1"}}}"#,
            r#"{"dc":"client","recv":{"code":200,"text":"<UID>"}}"#,
            peers!(dc "client", record!("<FP_CLIENT>", "my phone", "<UID>", "terminal7", "true", "true")),
            r#"{"dc":"client","recv":{"ice_servers":[{"credential":"<any>","credentialType":"password","urls":["turn:turn.example.org:3478"],"username":"<any>"}]}}"#,
            update!(dc "client", "<FP_CLIENT>", "my phone", "true", "true"),
        ],
        reason: NOT_IN,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 22..24,
        instead: &[
            r#"{"dc":"client","send":{"message_id":8,"time":1700000000000,"type":"register","args":{"email":"dc@example.org","peer_name":"again"}}}"#,
            r#"{"dc":"client","recv":{"message_id":8,"type":"ack","args":{"ref":8,"body":"{\"ID\":\"<UID>\",\"QR\":\"\"}"}}}"#,
        ],
        reason: NO_QR,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 28..29,
        instead: &[
            r#"{"dc":"client","recv":{"message_id":9,"type":"nack","args":{"desc":"peer does not exist","ref":9}}}"#,
        ],
        reason: TOLD_APART,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 29..32,
        instead: &[
            r#"{"dc":"client","send":{"message_id":10,"time":1700000000000,"type":"verify","args":{"target":"5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E","otp":"642881"}}}"#,
            r#"{"dc":"client","recv":{"message_id":10,"type":"ack","args":{"ref":10}}}"#,
            r#"{"ws":"server","recv":{"code":200,"text":"peer is verified"}}"#,
            peers!(
                "server",
                record!("<FP_CLIENT>", "my phone", "<UID>", "terminal7", "true", "true"),
                record!(
                    "5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E",
                    "server",
                    "<UID>",
                    "webexec",
                    "true",
                    "true"
                )
            ),
            update!(
                "server",
                "5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E",
                "server",
                "true",
                "true"
            ),
            update!(dc "client", "5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E", "server", "true", "true"),
        ],
        reason: ALL_ARE_TOLD,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 43..44,
        instead: &[
            r#"{"dc":"client","recv":{"message_id":13,"type":"nack","args":{"desc":"peer does not exist","ref":13}}}"#,
        ],
        reason: TOLD_APART,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 50..51,
        instead: &[
            r#"{"dc":"client","recv":{"message_id":16,"type":"ack","args":{"ref":16}}}"#,
            update!(dc "client", "5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E", "renamed", "true", "true"),
        ],
        reason: ALL_ARE_TOLD,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 58..59,
        instead: &[
            r#"{"dc":"client","recv":{"message_id":18,"type":"nack","args":{"desc":"target does not belong to the user","ref":18}}}"#,
        ],
        reason: NO_WORDS,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 64..65,
        instead: &[
            r#"{"dc":"client","recv":{"message_id":21,"type":"nack","args":{"desc":"target does not belong to the user","ref":21}}}"#,
        ],
        reason: NO_WORDS,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 66..67,
        instead: &[
            r#"{"dc":"client","recv":{"message_id":22,"type":"nack","args":{"desc":"invalid OTP","ref":22}}}"#,
        ],
        reason: NO_WORDS,
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 68..69,
        instead: &[
            r#"{"dc":"client","recv":{"message_id":23,"type":"ack","args":{"ref":23}}}"#,
            r#"{"ws":"server","recv":{"code":401,"text":"peer's verification was revoked"}}"#,
            r#"{"ws":"server","closed":1008}"#,
            update!(dc "client", "5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E", "renamed", "false", "false"),
        ],
        reason: "a removed peer is told, and its connection closed",
    },
    BookDeviation {
        scenario: "HEAD/head-dc",
        steps: 73..76,
        instead: &[],
        reason: "a removed peer is told, and its connection closed",
    },
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
        steps: 13..14,
        instead: &[
            r#"{"call":["POST","/offer","not sdp"],"gives":[400,"Failed to get fingerprint from sdp: expected one sha-256"]}"#,
        ],
        reason: NO_SDP,
    },
    BookDeviation {
        scenario: "HEAD/head-http",
        steps: 14..15,
        instead: &[r#"{"call":["GET","/we"],"gives":[404,"Not found"]}"#],
        reason: OLDER_FORM,
    },
    BookDeviation {
        scenario: "HEAD/head-http",
        steps: 16..17,
        instead: &[
            r#"{"call":["PATCH","/candidates/6d9f3c9e-3f8c-4b39-9a43-0d1b0a9d9b11","{}"],"gives":[204]}"#,
        ],
        reason: ANY_PROCESS,
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
        steps: 1..3,
        instead: &[
            r#"{"call":["POST","/offer","not sdp"],"gives":[400,"Failed to get fingerprint from sdp: expected one sha-256"]}"#,
            r#"{"call":["POST","/offer","v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"],"gives":[400,"Failed to get fingerprint from sdp: expected one sha-256"]}"#,
        ],
        reason: NO_SDP,
    },
    BookDeviation {
        scenario: "HEAD/head-http-webrtc",
        steps: 3..5,
        instead: &[
            r#"{"call":["POST","/offer","v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA:BB\r\n"],"gives":[400,"Failed to get fingerprint from sdp: expected one sha-256"]}"#,
            r#"{"call":["POST","/offer","v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB\r\n"],"gives":[401,"Unauthorized"]}"#,
        ],
        reason: "a fingerprint is that of a SHA-256; the recorded ones are too short",
    },
    BookDeviation {
        scenario: "HEAD/head-http-webrtc",
        steps: 5..7,
        instead: &[
            r#"{"call":["GET","/we"],"gives":[404,"Not found"]}"#,
            r#"{"call":["POST","/we","{}"],"gives":[404,"Not found"]}"#,
        ],
        reason: OLDER_FORM,
    },
    BookDeviation {
        scenario: "HEAD/head-http-webrtc",
        steps: 9..10,
        instead: &[
            r#"{"call":["PATCH","/candidates/6d9f3c9e-3f8c-4b39-9a43-0d1b0a9d9b11","{}"],"gives":[204]}"#,
        ],
        reason: ANY_PROCESS,
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
    BookDeviation {
        scenario: "HEAD/head-login",
        steps: 30..31,
        instead: &[
            r#"{"dc":"web","recv":{"ice_servers":null}}"#,
            update!(dc "web", "<FP_WEB>", "web", "true", "true"),
        ],
        reason: ALL_ARE_TOLD,
    },
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
