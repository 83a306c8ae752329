//! What a mailbox may hold, and what a sender may store a second.
//!
//! Counting a mailbox on every store would cost more than the store. Each process counts what it
//! adds itself and asks the database when that could have filled the mailbox, or when it has added
//! a sixteenth of the quota without asking. So a mailbox is refused only after a count that
//! says so, and overshoots by at most a sixteenth per replica.

use std::time::Duration;

use edge::limit::{Keyed, Rate};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::config::QuotaArgs;
use crate::error::Error;
use crate::store::Usage;

/// Mailboxes counted at the same time.
const MAILBOXES: usize = 100_000;

/// Senders counted at the same time.
const SENDERS: usize = 100_000;

/// How long a full mailbox counts as full without counting again.
const FULL_FOR: Duration = Duration::from_secs(1);

/// What senders of a full mailbox are told to wait.
const MAILBOX_RETRY: Duration = Duration::from_secs(60);

/// Part of a quota that may be added between two counts.
const SLACK: u64 = 16;

/// The quotas and what counts against them in this process.
pub(crate) struct Quota {
    most: Usage,
    mailboxes: Cache<i64, Counted>,
    sender_messages: Option<Keyed<i64>>,
    sender_bytes: Option<Keyed<i64>>,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    /// At the last count; nothing before the first.
    base: Usage,
    /// Since then, here.
    added: Usage,
    full_until: Option<Instant>,
}

/// What to do with an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room; it has been reserved.
    Admitted,
    /// There may be no room: count, then ask again.
    Count,
    /// The last count said full.
    Full,
}

impl Quota {
    /// The quotas of the settings.
    pub(crate) fn new(args: &QuotaArgs) -> Self {
        let unlimited = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        let per_second = |rate: u32| {
            (rate > 0).then(|| {
                Keyed::new(Rate { burst: rate.saturating_mul(10), per_second: rate }, SENDERS)
            })
        };
        // Buckets of kibibytes: 32 bits of bytes would end at 4 GiB a burst.
        let kib = u32::try_from(args.sender_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        Self {
            most: Usage {
                messages: unlimited(args.mailbox_messages),
                bytes: unlimited(args.mailbox_bytes),
            },
            mailboxes: Cache::new(MAILBOXES),
            sender_messages: per_second(args.sender_messages),
            sender_bytes: per_second(kib),
        }
    }

    /// Spends a sender's allowance for `messages` of `bytes` together.
    pub(crate) fn spend(&self, sender: i64, messages: usize, bytes: usize) -> Result<(), Error> {
        let spend = |bucket: &Option<Keyed<i64>>, cost: usize| {
            let cost = u32::try_from(cost).unwrap_or(u32::MAX);
            bucket.as_ref().map_or(Ok(()), |bucket| bucket.check(&sender, cost))
        };
        let spent = spend(&self.sender_messages, messages)
            .and_then(|()| spend(&self.sender_bytes, bytes.div_ceil(1024)));
        spent.map_err(|retry_after| Error::TooMany { what: "sender quota exceeded", retry_after })
    }

    /// Whether a mailbox takes `bytes` more. `counted` is what the database said just now.
    pub(crate) fn admit(&self, mailbox: i64, bytes: u64, counted: Option<Usage>) -> Admission {
        if self.most.messages == u64::MAX && self.most.bytes == u64::MAX {
            return Admission::Admitted;
        }
        let mut entry = self.mailboxes.get(&mailbox).unwrap_or_default();
        if let Some(base) = counted {
            entry = Counted { base, added: Usage::default(), full_until: None };
        }
        if entry.full_until.is_some_and(|until| Instant::now() < until) {
            return Admission::Full;
        }
        let added = Usage { messages: entry.added.messages + 1, bytes: entry.added.bytes + bytes };
        let fits = entry.base.messages.saturating_add(added.messages) <= self.most.messages
            && entry.base.bytes.saturating_add(added.bytes) <= self.most.bytes;
        let fresh = counted.is_some()
            || (added.messages <= (self.most.messages / SLACK).max(1)
                && added.bytes <= (self.most.bytes / SLACK).max(1));
        let admission = match (fits, fresh) {
            (true, true) => Admission::Admitted,
            (false, true) if counted.is_some() => Admission::Full,
            _ => Admission::Count,
        };
        match admission {
            Admission::Admitted => entry.added = added,
            Admission::Full => entry.full_until = Some(Instant::now() + FULL_FOR),
            Admission::Count => return admission,
        }
        self.mailboxes.insert(mailbox, entry);
        admission
    }

    /// How far a count has to go.
    pub(crate) fn count_limit(&self) -> i64 {
        i64::try_from(self.most.messages.saturating_add(1)).unwrap_or(i64::MAX)
    }

    /// The refusal of a full mailbox.
    pub(crate) fn full() -> Error {
        Error::TooMany { what: "mailbox full", retry_after: MAILBOX_RETRY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(mailbox_messages: u64, mailbox_bytes: u64) -> Quota {
        Quota::new(&QuotaArgs {
            mailbox_messages,
            mailbox_bytes,
            sender_messages: 2,
            sender_bytes: 0,
            address_requests: 0,
        })
    }

    #[test]
    fn the_database_is_asked_before_anybody_is_refused() {
        let quota = quota(32, 0);
        assert_eq!(quota.admit(1, 10, None), Admission::Admitted);
        assert_eq!(quota.admit(1, 10, None), Admission::Admitted);
        assert_eq!(quota.admit(1, 10, None), Admission::Count, "a sixteenth was added");
        let held = |messages| Some(Usage { messages, bytes: 0 });
        assert_eq!(quota.admit(1, 10, held(31)), Admission::Admitted);
        assert_eq!(quota.admit(1, 10, None), Admission::Count);
        assert_eq!(quota.admit(1, 10, held(32)), Admission::Full);
        assert_eq!(quota.admit(1, 10, None), Admission::Full, "without counting again at once");
        assert_eq!(quota.admit(1, 10, held(5)), Admission::Admitted);
    }

    #[test]
    fn bytes_count_too_and_zero_means_no_quota() {
        let bounded = quota(0, 100);
        assert_eq!(bounded.admit(1, 101, Some(Usage::default())), Admission::Full);
        assert_eq!(bounded.admit(2, 100, Some(Usage::default())), Admission::Admitted);
        let unbounded = quota(0, 0);
        for _ in 0..1000 {
            assert_eq!(unbounded.admit(1, u64::from(u32::MAX), None), Admission::Admitted);
        }
    }

    #[test]
    fn a_sender_learns_when_to_come_back() {
        let quota = quota(0, 0);
        quota.spend(1, 20, 0).unwrap();
        let refused = quota.spend(1, 1, 0).unwrap_err();
        assert!(matches!(refused, Error::TooMany { what: "sender quota exceeded", .. }));
        quota.spend(2, 1, 0).unwrap();
    }
}
