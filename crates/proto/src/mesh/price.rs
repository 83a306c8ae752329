//! What a post costs, in tries: integers all the way, so that both sides come to the same number.

/// What kinds of request cost, as multiples of a post to an idle room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A post to a room, or a DHT get past the free allowance.
    Post,
    /// A DHT put.
    Put,
    /// TURN credentials.
    Credential,
}

impl Kind {
    /// The multiple.
    pub const fn multiplier(self) -> u64 {
        match self {
            Self::Post => 1,
            Self::Put => 4,
            Self::Credential => 16,
        }
    }
}

/// Tries a proof is expected to take: `(2^height · multiplier · (8 + recent)) >> 3`, where `recent`
/// is the number of posts to the room in the last minute.
pub fn work(height: u8, kind: Kind, recent: u32) -> u64 {
    let base = u128::from(kind.multiplier()) * (8 + u128::from(recent));
    u64::try_from((base << height.min(56)) >> 3).unwrap_or(u64::MAX).max(1)
}

/// The largest first word a proof's hash may have.
pub const fn target(work: u64) -> u64 {
    u64::MAX / if work == 0 { 1 } else { work }
}

/// Leading zero bits that always suffice: `ceil(log2 work)`.
pub const fn height(work: u64) -> u32 {
    if work <= 1 { 0 } else { 64 - (work - 1).leading_zeros() }
}

/// What is accepted for `work`: half of it per bit of grace, so that a quote survives one step of
/// load, or the room's price doubling, while the client computes.
pub const fn accepted(work: u64, grace_bits: u32) -> u64 {
    let least = if grace_bits < 64 { work >> grace_bits } else { 0 };
    if least == 0 { 1 } else { least }
}
