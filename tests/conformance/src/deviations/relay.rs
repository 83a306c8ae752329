//! The relay's deviations.

use super::{ALWAYS, Deviation, SOUND, Seen};

const STRICT_BASE64: &str =
    "the client cannot decode it, and one such envelope makes its whole page fail";
const TIMES: &str =
    "times are whole numbers: a client that reads an envelope with another fails on its whole page";
const LIFETIMES: &str = "a lifetime is positive";
const NAMES: &str = "peer ids are 1 to 64 characters of A-Z a-z 0-9 _ -, as all real ones are";
const UNKNOWN: &str = "members that the protocol does not name are not kept: an unsigned `groupId` among them would switch off the receiver's signature check";
const PINNED: &str = "the first key that proves itself for a peer id owns it";
const NEGATIVE: &str = "a negative limit is taken for none given";

/// Nothing was stored.
const EMPTY: Seen = Seen::Answer(200, r#"{"messages":[],"cursor":null}"#);

/// Nothing is ever stored for such a name.
const NO_SUCH_NAME: Seen = Seen::Answer(400, r#"{"error":"invalid to"}"#);

/// A page of alice's plain envelopes to bob: ids and names of signatures.
macro_rules! page {
    ($id:literal $sig:literal) => {
        concat!(r#"{"messages":["#, envelope!($id $sig), r#"],"cursor":"${run}"#, $id, r#""}"#)
    };
    ($a:literal $b:literal, $id:literal $sig:literal) => {
        concat!(r#"{"messages":["#, envelope!($a $b), ",", envelope!($id $sig), r#"],"cursor":"${run}"#, $id, r#""}"#)
    };
    ($a:literal $b:literal, $c:literal $d:literal, $id:literal $sig:literal) => {
        concat!(r#"{"messages":["#, envelope!($a $b), ",", envelope!($c $d), ",", envelope!($id $sig), r#"],"cursor":"${run}"#, $id, r#""}"#)
    };
}

macro_rules! envelope {
    ($id:literal $sig:literal) => {
        concat!(
            r#"{"id":"${run}"#,
            $id,
            r#"","from":"${run}alice0000000000000000000","to":"${run}bob000000000000000000000","#,
            r#""ts":${ts},"ttl":86400,"payload":"eyJpZCI6IngiLCJ0eXBlIjoicGxhaW5NZXNzYWdlIn0=","#,
            r#""sig":"${sig:"#,
            $sig,
            r#"}","signingPub":"${pub:alice}"}"#
        )
    };
}

/// Sorted by case.
pub const RELAY: &[Deviation] = &[
    Deviation {
        case: "ack.ts-float",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts"}"#))],
        until: None,
    },
    Deviation {
        case: "blob.ttl-expired-reupload",
        modes: SOUND,
        reason: "a blob that has expired is gone, whether or not it was swept yet: the upload is not lost",
        instead: &[
            (2, Seen::Answer(200, r#"{"ok":true,"blobId":"${run}b1","duplicate":false}"#)),
            (
                3,
                Seen::Answer(
                    200,
                    concat!(
                        r#"{"id":"${run}b1","groupId":"${run}group","fileName":"photo.jpg","mimeType":"image/jpeg","#,
                        r#""sizeBytes":48,"payload":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v"}"#
                    ),
                ),
            ),
        ],
        until: None,
    },
    Deviation {
        case: "blob.ttl-fraction",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#))],
        until: None,
    },
    Deviation {
        case: "blob.ttl-negative",
        modes: SOUND,
        reason: LIFETIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#))],
        until: None,
    },
    Deviation {
        case: "blob.ttl-zero",
        modes: SOUND,
        reason: LIFETIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#))],
        until: None,
    },
    Deviation {
        case: "complete.total-smaller",
        modes: SOUND,
        reason: "an upload is completed with the number of chunks it was begun with",
        instead: &[
            (2, Seen::Answer(409, r#"{"error":"totalChunks mismatch"}"#)),
            (3, Seen::Answer(404, r#"{"error":"blob not found"}"#)),
        ],
        until: None,
    },
    Deviation {
        case: "fetch.bad-percent",
        modes: SOUND,
        reason: NAMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid id/from/to"}"#)), (1, NO_SUCH_NAME)],
        until: None,
    },
    Deviation {
        case: "fetch.limit-minus1",
        modes: SOUND,
        reason: NEGATIVE,
        instead: &[(3, Seen::Answer(200, page!("m1" "s", "m2" "s2", "m3" "s3")))],
        until: None,
    },
    Deviation {
        case: "fetch.limit-minus1-cursor",
        modes: SOUND,
        reason: NEGATIVE,
        instead: &[(3, Seen::Answer(200, page!("m2" "s2", "m3" "s3")))],
        until: None,
    },
    Deviation {
        case: "fetch.plus",
        modes: SOUND,
        reason: NAMES,
        instead: &[
            (0, Seen::Answer(400, r#"{"error":"invalid id/from/to"}"#)),
            (1, NO_SUCH_NAME),
            (2, NO_SUCH_NAME),
        ],
        until: None,
    },
    Deviation {
        case: "members.owner-unbound",
        modes: SOUND,
        reason: PINNED,
        instead: &[(1, Seen::Answer(401, r#"{"error":"signing key does not own this peer"}"#))],
        until: None,
    },
    Deviation {
        case: "store.deep-extra",
        modes: ALWAYS,
        reason: "nesting is limited: in the original this envelope makes every fetch of the mailbox fail",
        instead: &[(0, Seen::Page(400)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.extra-fields",
        modes: SOUND,
        reason: UNKNOWN,
        instead: &[(1, Seen::Answer(200, page!("m1" "s")))],
        until: None,
    },
    Deviation {
        case: "store.extra-proto",
        modes: SOUND,
        reason: UNKNOWN,
        instead: &[(1, Seen::Answer(200, page!("m1" "s")))],
        until: None,
    },
    Deviation {
        case: "store.from-unbound",
        modes: SOUND,
        reason: PINNED,
        instead: &[
            (1, Seen::Answer(401, r#"{"error":"signing key does not own this peer"}"#)),
            (2, Seen::Answer(200, page!("m1" "s"))),
        ],
        until: None,
    },
    Deviation {
        case: "store.int-keys",
        modes: SOUND,
        reason: UNKNOWN,
        instead: &[(1, Seen::Answer(200, page!("m1" "s")))],
        until: None,
    },
    Deviation {
        case: "store.payload-afterpad",
        modes: SOUND,
        reason: STRICT_BASE64,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid payload encoding"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.payload-garbage",
        modes: SOUND,
        reason: STRICT_BASE64,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid payload encoding"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.payload-onechar",
        modes: SOUND,
        reason: STRICT_BASE64,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid payload encoding"}"#))],
        until: None,
    },
    Deviation {
        case: "store.payload-space",
        modes: SOUND,
        reason: STRICT_BASE64,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid payload encoding"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.pub-smallorder",
        modes: SOUND,
        reason: "under a key of small order one signature fits many messages: it proves nothing",
        instead: &[(0, Seen::Answer(401, r#"{"error":"invalid signature"}"#))],
        until: None,
    },
    Deviation {
        case: "store.to-not-trimmed",
        modes: SOUND,
        reason: NAMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid id/from/to"}"#)), (2, NO_SUCH_NAME)],
        until: None,
    },
    Deviation {
        case: "store.ts-1e-6",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.ts-1e-7",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.ts-1e21",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.ts-2pow53",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.ts-fraction",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.ts-tiny-fraction",
        modes: SOUND,
        reason: TIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#))],
        until: None,
    },
    Deviation {
        case: "store.ttl-negative",
        modes: SOUND,
        reason: LIFETIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#)), (1, EMPTY)],
        until: None,
    },
    Deviation {
        case: "store.ttl-zero",
        modes: SOUND,
        reason: LIFETIMES,
        instead: &[(0, Seen::Answer(400, r#"{"error":"invalid ts/ttl"}"#)), (1, EMPTY)],
        until: None,
    },
];
