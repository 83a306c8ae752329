//! Where peer-linker and channel-hub do not follow the original over the edge.
//!
//! A rewrite replaces some steps of a scenario by others, in the short form of
//! [`Step::short`](crate::pad::vectors::Step::short).

use std::ops::Range;

use super::{ALWAYS, SOUND};
use crate::Mode;

/// One scenario in which something else happens.
#[derive(Debug)]
pub struct Rewrite {
    /// The scenario's id.
    pub case: &'static str,
    /// The modes in which it holds.
    pub modes: &'static [Mode],
    /// Why ours is better, or what the original's would cost.
    pub reason: &'static str,
    /// Steps of the scenario (counted from 0) and what stands in their place; in order.
    pub instead: &'static [(Range<usize>, &'static [&'static str])],
}

const SYMMETRY: &str = "a linked pad is not linked to a third: in the original its partner's link dangles, and the next packet kills the server";

/// Sorted by case.
pub const PAD: &[Rewrite] = &[
    Rewrite {
        case: "A channel-hub/pad-request-errors",
        modes: ALWAYS,
        reason: "only the session that was asked may answer: in the original anybody who counts to 1 may",
        instead: &[(
            26..31,
            &[
                "x> 0e0008000100000001006576696c",
                "x< 0800010001000000",
                "owner> 0b00080001000000010070",
                "owner< 0800000001000000",
                "req< 0b00080000000000010070",
                "owner> 0b00080001000000010070",
                "owner< 0800010001000000",
            ],
        )],
    },
    Rewrite {
        case: "A peer-linker/UPSTREAM-BUG-second-accept-leaves-dangling-link",
        modes: ALWAYS,
        reason: SYMMETRY,
        instead: &[(
            21..40,
            &[
                "c> 1100050005000000050000007061642d61",
                "c< 0800010005000000",
                "a> 0f000b000600000001007061642d63",
                "a< 0800010006000000",
                "b> 0e000c000700000066726f6d2062",
                "a< 0e000c000700000066726f6d2062",
                "a> 0e000c000800000066726f6d2061",
                "b< 0e000c000800000066726f6d2061",
                "a hangs up",
                "b< 0800090000000000",
                "a is closed",
                "b> 09000c000900000078",
                "b< 0800010009000000",
            ],
        )],
    },
    Rewrite {
        case: "A peer-linker/link-accept-and-passthrough",
        modes: SOUND,
        reason: "types 7 to 10 are the server's own words: a client does not pass them to its partner as such",
        instead: &[
            (29..30, &["a< 0800010057000000"]),
            (31..32, &["a< 0800010058000000"]),
            (33..34, &["a< 0800010059000000"]),
            (35..36, &["a< 080001005a000000"]),
        ],
    },
    Rewrite {
        case: "A peer-linker/link-auth-response-errors",
        modes: ALWAYS,
        reason: "a request is answered once: in the original a second response repeats LinkSuccess",
        instead: &[(34..36, &["a< 080001000c000000"])],
    },
    Rewrite {
        case: "A peer-linker/link-deny",
        modes: ALWAYS,
        reason: "a denial ends the request: in the original the requester never links again and the denied may be let in later",
        instead: &[(
            18..20,
            &[
                "a> 0f000b007900000001007061642d62",
                "a< 0800010079000000",
                "b> 1600050005000000050005007061642d61616761696e",
                "a< 16000a0000000000050005007061642d62616761696e",
                "b< 0800000005000000",
            ],
        )],
    },
    Rewrite {
        case: "A peer-linker/unlink",
        modes: ALWAYS,
        reason: "whoever was linked may link again: in the original the former requester never can",
        instead: &[(
            28..29,
            &[
                "a< 11000a0000000000050000007061642d62",
                "b< 080000000a000000",
                "a> 0f000b001000000000007061642d62",
                "a< 0800000010000000",
                "b< 0800080010000000",
            ],
        )],
    },
    Rewrite {
        case: "B channel-hub/channel-unregistered-while-pending",
        modes: ALWAYS,
        reason: "whoever waits for a channel that goes is told: in the original it waits for ever",
        instead: &[(16..16, &["req< 01030000"])],
    },
    Rewrite {
        case: "B channel-hub/requester-disconnect-UPSTREAM-UAF",
        modes: ALWAYS,
        reason: "the answer to a requester that has gone is consumed: it kills the original",
        instead: &[(17..20, &["owner< 01010000"])],
    },
    Rewrite {
        case: "B peer-linker/UPSTREAM-BUG-slow-reader-blocks-everybody",
        modes: ALWAYS,
        reason: "a reader that stops stops its partner and nobody else, and misses nothing: the original stands still",
        instead: &[(23..28, &["stall b a c"])],
    },
    Rewrite {
        case: "B peer-linker/auth-response-errors",
        modes: ALWAYS,
        reason: "any ok but 0 links: in the original 2 is answered with Success and does not",
        instead: &[(36..37, &["b< 10010700 6c696e6b65643f"])],
    },
    Rewrite {
        case: "B peer-linker/link-deny",
        modes: ALWAYS,
        reason: "a denial is an Error: the original answers Success without linking",
        instead: &[(17..18, &["b< 01030000"])],
    },
    Rewrite {
        case: "B peer-linker/requestee-gone-before-response",
        modes: ALWAYS,
        reason: "whoever waits for a pad that goes is told: in the original it waits for ever",
        instead: &[(18..18, &["b< 01030000"])],
    },
    Rewrite {
        case: "B peer-linker/third-party-link-to-linked-pad",
        modes: ALWAYS,
        reason: SYMMETRY,
        instead: &[
            (26..27, &["c< 01050000"]),
            (28..29, &["a< 01020000"]),
            (30..31, &["a< 10020c007374696c6c206c696e6b6564"]),
        ],
    },
];

/// The entry for a scenario in a mode.
pub(crate) fn rewrite(case: &str, mode: Mode) -> Option<&'static Rewrite> {
    PAD.iter().find(|entry| entry.case == case && entry.modes.contains(&mode))
}
