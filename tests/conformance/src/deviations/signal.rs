//! Signal's deviations.

use super::{ALWAYS, Deviation, SOUND, Seen};

const TOLD: &str = "a close frame that punishes a violation says which one";

/// Sorted by case.
pub const SIGNAL: &[Deviation] = &[
    Deviation {
        case: "reg.peer-true",
        modes: SOUND,
        reason: "peer ids are strings: every client sends one, and `true` cannot be told from \"true\" in a table",
        instead: &[(
            2,
            Seen::Event(
                r#"{"kind":"text","frame":{"v":"1","id":"reg-1","type":"error",
                "payload":{"code":"INVALID_REGISTER","message":"peerId must be a string"}}}"#,
            ),
        )],
        until: None,
    },
    Deviation {
        case: "sess.takeover-other-key",
        modes: SOUND,
        reason: "the first key that proves itself for a peer id owns it; the victim keeps its session",
        instead: &[
            (
                5,
                Seen::Event(
                    r#"{"kind":"text","frame":{"v":"1","id":"reg-1","type":"error",
                    "payload":{"code":"INVALID_REGISTER_AUTH","message":"peerId is pinned to another key"}}}"#,
                ),
            ),
            (6, Seen::Event(r#"{"kind":"timeout"}"#)),
        ],
        until: Some(7),
    },
    Deviation {
        case: "sess.zombie",
        modes: ALWAYS,
        reason: "a replaced session is mute at once: nobody hears two holders of one peer id",
        instead: &[(14, Seen::Event(r#"{"kind":"timeout"}"#))],
        until: None,
    },
    Deviation {
        case: "sig.4m",
        modes: SOUND,
        reason: "messages over the default limit of 1 MiB are refused; real ones have a few KiB",
        instead: &[(
            8,
            Seen::Event(r#"{"c":"A","kind":"close","code":1009,"reason":"message too big"}"#),
        )],
        until: None,
    },
    Deviation {
        case: "sig.deep",
        modes: ALWAYS,
        reason: "nesting is limited, so that no message exhausts a stack (the original exits on deeper ones)",
        instead: &[(
            8,
            Seen::Event(
                r#"{"c":"A","kind":"text","frame":{"v":"1","id":"srv-error-<uuid>","type":"error",
                "payload":{"code":"INVALID_JSON","message":"Invalid JSON format"}}}"#,
            ),
        )],
        until: None,
    },
    Deviation {
        case: "ws.close-1byte",
        modes: ALWAYS,
        reason: TOLD,
        instead: &[(
            2,
            Seen::Event(r#"{"kind":"close","code":1002,"reason":"half a close code"}"#),
        )],
        until: None,
    },
    Deviation {
        case: "ws.oversize",
        modes: ALWAYS,
        reason: TOLD,
        instead: &[(2, Seen::Event(r#"{"kind":"close","code":1009,"reason":"message too big"}"#))],
        until: None,
    },
    Deviation {
        case: "ws.ping-frag",
        modes: ALWAYS,
        reason: TOLD,
        instead: &[(
            2,
            Seen::Event(
                r#"{"kind":"close","code":1002,"reason":"control frame too long or fragmented"}"#,
            ),
        )],
        until: None,
    },
];
