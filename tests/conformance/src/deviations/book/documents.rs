//! The two documents: their placeholders filled in, with the peers they take for granted.

use super::{BookDeviation, peers, record, update};

const FILLED_IN: &str = "the document's blanks are filled in, and presence comes as peer_update";

/// Sorted by scenario and step.
pub(super) const DOCUMENTS: &[BookDeviation] = &[
    BookDeviation {
        scenario: "none/doc-plan",
        steps: 0..8,
        instead: &[
            r#"{"fixture":"redis-cli HSET user:UIDP email <EMAIL_P>"}"#,
            r#"{"fixture":"redis-cli HSET peer:<FP_A> name laptop kind client user UIDP verified 1"}"#,
            r#"{"fixture":"redis-cli HSET peer:<FP_B> name desk kind server user UIDP verified 1"}"#,
            r#"{"ws":"A","open":"/ws?email=<EMAIL_P_URLENCODED>&name=laptop&fingerprint=<FP_A>&kind=client"}"#,
            r#"{"ws":"A","recv":{"code":200,"text":"peer is verified"}}"#,
            r#"{"ws":"B","open":"/ws?email=<EMAIL_P_URLENCODED>&name=desk&fingerprint=<FP_B>&kind=server"}"#,
            r#"{"ws":"B","recv":{"code":200,"text":"peer is verified"}}"#,
            r#"{"ws":"A","send":{"command":"get_list"}}"#,
            r#"{"ws":"A","recv":{"list":[
                {"name":"laptop","fingerprint":"<FP_A>","resgitration_date":"<>","registration_date":"<>","last_connection":"<>","kind":"client"},
                {"name":"desk","fingerprint":"<FP_B>","resgitration_date":"<>","registration_date":"<>","last_connection":"<>","kind":"server"}]}}"#,
            r#"{"ws":"A","send":{"target":"desk","offer":"<encoded offer>"}}"#,
            r#"{"ws":"B","recv":{"source":"laptop","fingerprint":"<FP_A>","offer":"<encoded offer>"}}"#,
            r#"{"ws":"B","send":{"target":"laptop","fingerprint":"<FP_A>","answer":"<encoded answer>"}}"#,
            r#"{"ws":"A","recv":{"source":"desk","fingerprint":"<FP_B>","answer":"<encoded answer>"}}"#,
        ],
        reason: FILLED_IN,
    },
    BookDeviation {
        scenario: "none/doc-readme",
        steps: 0..11,
        instead: &[
            r#"{"fixture":"redis-cli HSET user:UIDR email <EMAIL_R>"}"#,
            r#"{"fixture":"redis-cli HSET peer:<FP_A> name laptop kind client user UIDR verified 1"}"#,
            r#"{"fixture":"redis-cli HSET peer:<FP_B> name desk kind server user UIDR verified 1"}"#,
            r#"{"ws":"A","open":"/ws?fp=<FP_A>"}"#,
            peers!(
                "A",
                record!("<FP_A>", "laptop", "<EMAIL_R>", "client", "true", "true"),
                record!("<FP_B>", "desk", "<EMAIL_R>", "server", "true", "false")
            ),
            update!("A", "<FP_A>", "laptop", "true", "true"),
            r#"{"ws":"B","open":"/ws?fp=<FP_B>"}"#,
            peers!(
                "B",
                record!("<FP_A>", "laptop", "<EMAIL_R>", "client", "true", "true"),
                record!("<FP_B>", "desk", "<EMAIL_R>", "server", "true", "true")
            ),
            update!("B", "<FP_B>", "desk", "true", "true"),
            update!("A", "<FP_B>", "desk", "true", "true"),
            r#"{"ws":"A","send":{"command":"get_list"}}"#,
            r#"{"ws":"A","recv":{"peers":[
                {"name":"laptop","fp":"<FP_A>","kind":"client","created_on":"<>","last_seen":"<>","verified_on":"<>"},
                {"name":"desk","fp":"<FP_B>","kind":"server","created_on":"<>","last_seen":"<>","verified_on":"<>"}]}}"#,
            r#"{"ws":"A","send":{"target":"<FP_B>","offer":"<encoded offer>"}}"#,
            r#"{"ws":"B","recv":{"source_fp":"<FP_A>","source_name":"laptop","offer":"<encoded offer>"}}"#,
            r#"{"ws":"B","send":{"target":"<FP_A>","answer":"<encoded answer>"}}"#,
            r#"{"ws":"A","recv":{"source_fp":"<FP_B>","source_name":"desk","answer":"<encoded answer>"}}"#,
            r#"{"call":["POST","/verify",{"fp":"<FP_NEW>","email":"<EMAIL_R>"}],"gives":[200,"{\"verified\":false}"]}"#,
            r#"{"mail":{"envelope_to":["<EMAIL_R>"],"text":"<TOKEN>"}}"#,
            r#"{"ws":"U","open":"/ws?fp=<FP_OTHER>&email=<EMAIL_U_URLENCODED>"}"#,
            r#"{"ws":"U","recv":{"code":401,"text":"Unverified peer"}}"#,
            r#"{"mail":{"envelope_to":["<EMAIL_U>"],"text":"<TOKEN_U>"}}"#,
            r#"{"ws":"U","quiet":true}"#,
        ],
        reason: FILLED_IN,
    },
];
