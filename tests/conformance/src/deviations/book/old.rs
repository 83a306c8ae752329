//! Against 0.2.1 and 0.3.2.

use super::{BookDeviation, peers, record, update};

const LISTS: &str =
    "get_list is answered, as both documents and 0.2.1 have it; later builds ignored it";
const NO_ADDRESS: &str = "whose a fingerprint is, is told to nobody";
const SURVIVES: &str = "the original's process ends here";
const METHOD: &str = "only POST is answered";
const REQUEST: &str = "a request with another address is another user's request: only an approved fingerprint belongs to anybody";
const VERDICT: &str = "the address book is not given to whoever knows a fingerprint and an address";

/// Sorted by scenario and step.
pub(super) const OLD: &[BookDeviation] = &[
    BookDeviation {
        scenario: "0.2.1/v021-get_list",
        steps: 0..10,
        instead: &[
            r#"{"fixture":"redis-cli HSET user:UIDONE email <EMAIL_ONE>"}"#,
            r#"{"fixture":"redis-cli HSET peer:<FP_alpha> name alpha kind terminal7 user UIDONE verified 1"}"#,
            r#"{"fixture":"redis-cli HSET peer:<FP_beta> name beta kind webexec user UIDONE verified 1"}"#,
            r#"{"fixture":"redis-cli HSET user:UIDTWO email <EMAIL_TWO>"}"#,
            r#"{"fixture":"redis-cli HSET peer:<FP_gamma> name gamma kind webexec user UIDTWO verified 1"}"#,
            r#"{"ws":"alpha","open":"/ws?fp=<FP_alpha>&name=alpha&kind=terminal7"}"#,
            peers!(
                "alpha",
                record!("<FP_alpha>", "alpha", "<EMAIL_ONE>", "terminal7", "true", "true"),
                record!("<FP_beta>", "beta", "<EMAIL_ONE>", "webexec", "true", "false")
            ),
            update!("alpha", "<FP_alpha>", "alpha", "true", "true"),
            r#"{"ws":"beta","open":"/ws?fp=<FP_beta>&name=beta&kind=webexec"}"#,
            peers!(
                "beta",
                record!("<FP_alpha>", "alpha", "<EMAIL_ONE>", "terminal7", "true", "true"),
                record!("<FP_beta>", "beta", "<EMAIL_ONE>", "webexec", "true", "true")
            ),
            update!("beta", "<FP_beta>", "beta", "true", "true"),
            update!("alpha", "<FP_beta>", "beta", "true", "true"),
        ],
        reason: "presence comes as peer_update, as in 0.3.2 and HEAD, not as whole lists",
    },
    BookDeviation {
        scenario: "0.2.1/v021-get_list",
        steps: 21..24,
        instead: &[
            peers!(
                "gamma",
                record!("<FP_gamma>", "gamma", "<EMAIL_TWO>", "webexec", "true", "true")
            ),
            update!("gamma", "<FP_gamma>", "gamma", "true", "true"),
            r#"{"ws":"alpha","send":{"target":"<FP_gamma>","offer":"x"}}"#,
            r#"{"ws":"alpha","recv":{"code":401,"text":"Target peer belongs to a different user"}}"#,
        ],
        reason: NO_ADDRESS,
    },
    BookDeviation {
        scenario: "0.2.1/v021-get_list",
        steps: 27..28,
        instead: &[update!("alpha", "<FP_beta>", "beta", "true", "false")],
        reason: "presence comes as peer_update, as in 0.3.2 and HEAD, not as whole lists",
    },
    BookDeviation {
        scenario: "0.2.1/v021-get_list",
        steps: 29..30,
        instead: &[
            r#"{"ws":"weird","open":"/ws?fp=<FP_beta>&name=beta&kind=webexec&email=<EMAIL_TWO_URLENCODED>"}"#,
            peers!(
                "weird",
                record!("<FP_alpha>", "alpha", "<EMAIL_ONE>", "terminal7", "true", "true"),
                record!("<FP_beta>", "beta", "<EMAIL_ONE>", "webexec", "true", "true")
            ),
            update!("weird", "<FP_beta>", "beta", "true", "true"),
            update!("alpha", "<FP_beta>", "beta", "true", "true"),
            r#"{"ws":"weird","client_close":1000}"#,
            update!("alpha", "<FP_beta>", "beta", "true", "false"),
        ],
        reason: "an approved fingerprint is its user's whatever address a query names, as in 0.3.2 and HEAD",
    },
    BookDeviation {
        scenario: "0.2.1/v021-get_list",
        steps: 32..33,
        instead: &[r#"{"ws":"alpha","quiet":true}"#],
        reason: "requests are told to the user, not to every peer",
    },
    BookDeviation {
        scenario: "0.3.2/connect",
        steps: 8..9,
        instead: &[
            r#"{"ws":"alpha","send":{"command":"get_list"}}"#,
            peers!(
                "alpha",
                record!("<FP_alpha>", "alpha", "<EMAIL_CONNECT>", "terminal7", "true", "true"),
                record!("<FP_beta>", "beta", "<EMAIL_CONNECT>", "webexec", "true", "false")
            ),
        ],
        reason: LISTS,
    },
    BookDeviation {
        scenario: "0.3.2/connect",
        steps: 15..16,
        instead: &[
            r#"{"ws":"alpha2","send":"{\"command\":\"get_list\"}","binary":true}"#,
            peers!(
                "alpha2",
                record!("<FP_alpha>", "alpha", "<EMAIL_CONNECT>", "terminal7", "true", "true"),
                record!("<FP_beta>", "beta", "<EMAIL_CONNECT>", "webexec", "true", "false")
            ),
        ],
        reason: LISTS,
    },
    BookDeviation {
        scenario: "0.3.2/crash-plain-get",
        steps: 0..1,
        instead: &[r#"{"call":["GET","/ws?fp=<FP_PLAIN>"],"gives":[426,"Upgrade Required"]}"#],
        reason: SURVIVES,
    },
    BookDeviation {
        scenario: "0.3.2/crash-unverified-0",
        steps: 3..5,
        instead: &[r#"{"ws":"unverified","send":"null"}"#, r#"{"ws":"unverified","closed":1007}"#],
        reason: "what is no JSON object closes the socket, and says why",
    },
    BookDeviation {
        scenario: "0.3.2/crash-verified-0",
        steps: 6..9,
        instead: &[
            update!("verified", "<FP_alpha>", "alpha", "true", "true"),
            r#"{"ws":"verified","send":"null"}"#,
            r#"{"ws":"verified","closed":1007}"#,
        ],
        reason: SURVIVES,
    },
    BookDeviation {
        scenario: "0.3.2/crash-verified-1",
        steps: 8..10,
        instead: &[r#"{"ws":"verified","recv":{"code":400,"text":"Target peer not found: "}}"#],
        reason: SURVIVES,
    },
    BookDeviation {
        scenario: "0.3.2/crash-verified-2",
        steps: 8..10,
        instead: &[r#"{"ws":"verified","recv":{"code":400,"text":"Target peer not found: "}}"#],
        reason: SURVIVES,
    },
    BookDeviation {
        scenario: "0.3.2/crash-verified-3",
        steps: 6..9,
        instead: &[
            update!("verified", "<FP_alpha>", "alpha", "true", "true"),
            r#"{"ws":"verified","send":{"offer":"x","target":["y"]}}"#,
            r#"{"ws":"verified","recv":{"code":400,"text":"Target peer not found: "}}"#,
        ],
        reason: SURVIVES,
    },
    BookDeviation {
        scenario: "0.3.2/foreign",
        steps: 15..16,
        instead: &[
            r#"{"ws":"alpha","recv":{"code":401,"text":"Target peer belongs to a different user"}}"#,
        ],
        reason: NO_ADDRESS,
    },
    BookDeviation {
        scenario: "0.3.2/foreign",
        steps: 17..18,
        instead: &[
            r#"{"ws":"alpha","recv":{"code":401,"text":"Target peer belongs to a different user"}}"#,
        ],
        reason: NO_ADDRESS,
    },
    BookDeviation {
        scenario: "0.3.2/foreign",
        steps: 19..20,
        instead: &[
            r#"{"ws":"alpha","recv":{"code":401,"text":"Target peer belongs to a different user"}}"#,
        ],
        reason: NO_ADDRESS,
    },
    BookDeviation {
        scenario: "0.3.2/hitme",
        steps: 0..1,
        instead: &[r#"{"call":["GET","/hitme"],"gives":[200,{"html_page":{}}]}"#],
        reason: "the form is shown where the original shows nothing",
    },
    BookDeviation {
        scenario: "0.3.2/hitme",
        steps: 2..3,
        instead: &[
            r#"{"call":["POST","/hitme","email=<EMAIL_HITME_URLENCODED>"],"gives":[200,{"html_page":{"message":"Please check your inbox"}}]}"#,
            r#"{"no_mail":"<EMAIL_HITME>"}"#,
        ],
        reason: "an address without a peerbook is told the same and gets no mail",
    },
    BookDeviation {
        scenario: "0.3.2/home",
        steps: 0..1,
        instead: &[r#"{"call":["GET","/"],"gives":[200,{"html_page":{}}]}"#],
        reason: "pages are for people, not for other sites' scripts",
    },
    BookDeviation {
        scenario: "0.3.2/page",
        steps: 15..16,
        instead: &[
            r#"{"call":["POST","/list/<TOKEN_AT_EMAIL_PAGE>","<FP_beta>=checked&<FP_FOREIGN>=checked"],"gives":[200,{"html_page":{}}]}"#,
        ],
        reason: "the recording's placeholder stands for two links; this is the first one's user",
    },
    BookDeviation {
        scenario: "0.3.2/page",
        steps: 24..25,
        instead: &[r#"{"call":["GET","/list/%2F%2Fx"],"gives":[400,"{\"m\": \"Bad Token\"}"]}"#],
        reason: "no link holds a slash",
    },
    BookDeviation {
        scenario: "0.3.2/plan",
        steps: 0..1,
        instead: &[
            r#"{"ws":"planA","open":"/ws?email=<EMAIL_PLAN_URLENCODED>&name=laptop&fingerprint=<FP_planA>&kind=client"}"#,
            r#"{"ws":"planA","recv":{"code":401,"text":"Unverified peer, please check your inbox to verify"}}"#,
            r#"{"mail":{"envelope_to":["<EMAIL_PLAN>"],"text":"<TOKEN>"}}"#,
        ],
        reason: "the plan's clients are served as well",
    },
    BookDeviation {
        scenario: "0.3.2/presence",
        steps: 30..34,
        instead: &[r#"{"ws":"alpha","quiet":true}"#, r#"{"ws":"beta","quiet":true}"#],
        reason: "a peer that reconnected is not called offline afterwards",
    },
    BookDeviation {
        scenario: "0.3.2/presence",
        steps: 39..40,
        instead: &[],
        reason: "who is not approved has no presence: anybody may connect under any fingerprint",
    },
    BookDeviation {
        scenario: "0.3.2/presence",
        steps: 42..43,
        instead: &[r#"{"ws":"alpha","quiet":true}"#, r#"{"ws":"beta","quiet":true}"#],
        reason: "who is not approved has no presence: anybody may connect under any fingerprint",
    },
    BookDeviation {
        scenario: "0.3.2/rmrf",
        steps: 6..7,
        instead: &[r#"{"call":["GET","/list/<TOKEN>"],"gives":[400,"{\"m\": \"Bad Token\"}"]}"#],
        reason: "a user who was removed leaves no link that works",
    },
    BookDeviation {
        scenario: "0.3.2/slow-tokens",
        steps: 2..4,
        instead: &[
            r#"{"t":25,"call":["POST","/verify",{"fp":"<FP_A>","email":"<EMAIL_SLOW>"}],"gives":[200,"{\"verified\":false}"]}"#,
            r#"{"t":75,"call":["POST","/verify",{"fp":"<FP_A>","email":"<EMAIL_SLOW>"}],"gives":[200,"{\"verified\":false}"]}"#,
        ],
        reason: "asked farther from the limits, which a slow machine may miss",
    },
    BookDeviation {
        scenario: "0.3.2/slow-tokens",
        steps: 6..10,
        instead: &[
            r#"{"t":230,"call":["GET","/auth/<TOKEN>"],"gives":[200,{"html_page":{}}]}"#,
            r#"{"t":330,"call":["GET","/list/<TOKEN>"],"gives":[400,"{\"m\": \"Bad Token\"}"]}"#,
            r#"{"call":["GET","/auth/<TOKEN>"],"gives":[400,"Bad Token"]}"#,
            r#"{"call":["POST","/list/<TOKEN>","<FP_A>=checked"],"gives":[400,"{\"m\": \"Bad Token\"}"]}"#,
        ],
        reason: "asked farther from the limits, which a slow machine may miss",
    },
    BookDeviation {
        scenario: "0.3.2/verify",
        steps: 5..8,
        instead: &[
            r#"{"call":["POST","/verify",{"fp":"<FP_A>"}],"gives":[200,"{\"verified\":false}"]}"#,
            r#"{"call":["GET","/verify"],"gives":[405,"Method not allowed"]}"#,
        ],
        reason: METHOD,
    },
    BookDeviation {
        scenario: "0.3.2/verify",
        steps: 11..12,
        instead: &[
            r#"{"call":["POST","/verify",{"fp":"<FP_A>","email":"<EMAIL_OTHER>","name":"alpha"}],"gives":[200,"{\"verified\":false}"]}"#,
        ],
        reason: REQUEST,
    },
    BookDeviation {
        scenario: "0.3.2/verify",
        steps: 13..15,
        instead: &[
            r#"{"call":["POST","/verify",{"fp":"<FP_A>","email":"<EMAIL_VERIFY>","name":"alpha"}],"gives":[200,"{\"verified\":true}"]}"#,
            r#"{"call":["POST","/verify",{"fp":"<FP_A>","email":"<EMAIL_VERIFY>","name":"beta"}],"gives":[200,"{\"verified\":true}"]}"#,
            r#"{"call":["POST","/verify",{"fp":"<FP_A>","email":"<EMAIL_OTHER>","name":"beta"}],"gives":[409,"Fingerprint is associated to another user"]}"#,
        ],
        reason: VERDICT,
    },
    BookDeviation {
        scenario: "0.3.2/verify",
        steps: 16..18,
        instead: &[
            r#"{"call":["POST","/verify",{"fp":"<FP_A>","email":"<EMAIL_VERIFY>"}],"gives":[200,"{\"verified\":true}"]}"#,
            r#"{"call":["GET","/list/<TOKEN>"],"gives":[200,"[{\"fp\":\"<FP_A>\",\"name\":\"beta\",\"user\":\"<EMAIL_VERIFY>\",\"kind\":\"webexec\",\"verified\":true,\"created_on\":1795221510,\"online\":false}]"]}"#,
        ],
        reason: "who says no name keeps the one there is",
    },
];
