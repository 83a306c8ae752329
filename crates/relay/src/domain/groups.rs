//! Who belongs to a group, and who may say so (spec 2.6, 2.7).

use std::sync::Arc;
use std::time::Duration;

use proto::relay::{GroupStore, MembersUpdate};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::time::Instant;

use super::rules::Rules;
use crate::error::Error;
use crate::store::{Membership, Memberships};

/// How long a membership is believed. An update through another replica takes effect here this
/// much later; one through this process at once.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// Groups kept in the cache.
const CACHED: usize = 10_000;

/// Updates of one group that are recognised when they come again.
const APPLIED_MAX: usize = 128;

/// Bytes of a digest that are kept.
const DIGEST_BYTES: usize = 16;

/// The groups of this relay.
pub(crate) struct Groups {
    pool: PgPool,
    rules: Rules,
    cache: Cache<Box<[u8]>, (Instant, Arc<Membership>)>,
}

/// What becomes of a members update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Apply,
    /// Applied before; changes nothing.
    Replay,
    OwnerMismatch,
    Stale,
    Stranger,
}

impl Groups {
    /// The groups in `pool` under `rules`.
    pub(crate) fn new(pool: PgPool, rules: Rules) -> Self {
        Self { pool, rules, cache: Cache::new(CACHED) }
    }

    /// Refuses a message unless its sender and all its recipients are members. A group that is not
    /// known yet is inferred from it.
    pub(crate) async fn admit(&self, message: &GroupStore<'_, '_>) -> Result<(), Error> {
        let group_id = message.group_id.as_bytes();
        let membership = match self.find(group_id).await? {
            Some(membership) => membership,
            None => self.infer(message).await?,
        };
        let is_member = |id: &[u8]| {
            membership.members.binary_search_by(|member| member.as_slice().cmp(id)).is_ok()
        };
        if !is_member(message.from.as_bytes()) {
            return Err(Error::SenderNotMember);
        }
        let strangers = message.recipients.iter().map(|id| id.as_bytes());
        let strangers: Vec<Vec<u8>> =
            strangers.filter(|id| !is_member(id)).map(<[u8]>::to_vec).collect();
        if strangers.is_empty() { Ok(()) } else { Err(Error::RecipientsNotMembers(strangers)) }
    }

    /// Whether `peer` belongs to the group; `None` when the group is not known.
    pub(crate) async fn is_member(
        &self,
        group_id: &[u8],
        peer: &[u8],
    ) -> Result<Option<bool>, Error> {
        let found = self.find(group_id).await?;
        Ok(found.map(|group| group.members.iter().any(|member| member == peer)))
    }

    /// Carries out an owner's update, whose signature has been checked.
    pub(crate) async fn update(&self, update: &MembersUpdate<'_, '_>) -> Result<(), Error> {
        let group_id = update.group_id.as_bytes();
        let digest = Sha256::digest(update.signature_text())[..DIGEST_BYTES].to_vec();
        let mut tx = self.pool.begin().await?;
        let current = Memberships::lock(&mut tx, group_id).await?;
        match decide(current.as_ref(), update, &digest, &self.rules) {
            Verdict::Apply => {}
            Verdict::Replay => return Ok(()),
            Verdict::OwnerMismatch => return Err(Error::OwnerMismatch),
            Verdict::Stale => return Err(Error::StaleUpdate),
            Verdict::Stranger => return Err(Error::ClaimByStranger),
        }
        let mut applied = current.map(|current| current.applied).unwrap_or_default();
        applied.push(digest);
        let excess = applied.len().saturating_sub(APPLIED_MAX);
        applied.drain(..excess);
        let membership = Membership {
            owner: update.from.as_bytes().to_vec(),
            provisional: false,
            members: sorted(update.members.iter().map(|member| member.as_bytes())),
            updated_ts: update.ts,
            applied,
        };
        Memberships::put(&mut tx, group_id, &membership).await?;
        tx.commit().await?;
        self.cache.remove(group_id);
        Ok(())
    }

    async fn find(&self, group_id: &[u8]) -> Result<Option<Arc<Membership>>, Error> {
        let now = Instant::now();
        if let Some((until, known)) = self.cache.get(group_id)
            && now < until
        {
            return Ok(Some(known));
        }
        let Some(found) = Memberships::get(&self.pool, group_id).await? else { return Ok(None) };
        Memberships::touch(&self.pool, group_id).await?;
        let found = Arc::new(found);
        self.cache.insert(group_id.into(), (now + BELIEVED_FOR, found.clone()));
        Ok(Some(found))
    }

    async fn infer(&self, message: &GroupStore<'_, '_>) -> Result<Arc<Membership>, Error> {
        let (group_id, from) = (message.group_id.as_bytes(), message.from.as_bytes());
        let recipients = message.recipients.iter().map(|id| id.as_bytes());
        let members = sorted(recipients.chain([from]));
        Memberships::infer(&self.pool, group_id, from, &members).await?;
        // Somebody else may have been faster: what is recorded counts.
        let recorded = Memberships::get(&self.pool, group_id).await?;
        Ok(Arc::new(recorded.ok_or(Error::OwnerMismatch)?))
    }
}

/// What an update may do to a group. Replays are harmless and answered as when they were new,
/// because clients send them again when an answer is lost.
fn decide(
    current: Option<&Membership>,
    update: &MembersUpdate<'_, '_>,
    digest: &[u8],
    rules: &Rules,
) -> Verdict {
    let Some(current) = current else { return Verdict::Apply };
    let from = update.from.as_bytes();
    if !current.provisional && current.owner != from {
        return Verdict::OwnerMismatch;
    }
    if !rules.open() && current.applied.iter().any(|applied| applied == digest) {
        return Verdict::Replay;
    }
    if current.provisional && rules.claim_by_members && !current.members.iter().any(|id| id == from)
    {
        return Verdict::Stranger;
    }
    if !current.provisional && rules.members_monotonic && update.ts < current.updated_ts {
        return Verdict::Stale;
    }
    Verdict::Apply
}

fn sorted<'m>(members: impl Iterator<Item = &'m [u8]>) -> Vec<Vec<u8>> {
    let mut members: Vec<Vec<u8>> = members.map(<[u8]>::to_vec).collect();
    members.sort_unstable();
    members.dedup();
    members
}

#[cfg(test)]
mod tests {
    use proto::js::Str;

    use super::*;
    use crate::config::Config;

    fn rules(policy: &str) -> Rules {
        let arguments =
            ["--database-url", "postgres://x", "--listen", "[::]:0", "--identity-policy", policy];
        Rules::new(&Config::for_tests(&arguments))
    }

    fn verdict(policy: &str, provisional: bool, by: &str, ts: f64, digest: &[u8]) -> Verdict {
        let current = Membership {
            owner: b"alice".to_vec(),
            provisional,
            members: vec![b"alice".to_vec(), b"bob".to_vec()],
            updated_ts: 10.0,
            applied: vec![b"seen".to_vec()],
        };
        let (id, from, group_id) = (Str::from("u"), Str::from(by), Str::from("g"));
        let update = MembersUpdate {
            id: &id,
            from: &from,
            group_id: &group_id,
            members: vec![Str::from(by)],
            ts,
            ttl: 1.0,
            proof: None,
        };
        decide(Some(&current), &update, digest, &rules(policy))
    }

    #[test]
    fn an_owner_is_replaced_only_while_provisional() {
        assert_eq!(verdict("pin", false, "mallory", 11.0, b"new"), Verdict::OwnerMismatch);
        assert_eq!(verdict("pin", true, "mallory", 11.0, b"new"), Verdict::Apply);
        assert_eq!(verdict("strict", true, "mallory", 11.0, b"new"), Verdict::Stranger);
        assert_eq!(verdict("strict", true, "bob", 11.0, b"new"), Verdict::Apply);
    }

    #[test]
    fn replays_are_known_except_under_open_and_age_counts_under_strict() {
        assert_eq!(verdict("pin", false, "alice", 5.0, b"seen"), Verdict::Replay);
        assert_eq!(verdict("open", false, "alice", 5.0, b"seen"), Verdict::Apply);
        assert_eq!(verdict("pin", false, "alice", 5.0, b"new"), Verdict::Apply);
        assert_eq!(verdict("strict", false, "alice", 5.0, b"new"), Verdict::Stale);
        assert_eq!(verdict("strict", false, "alice", 10.0, b"new"), Verdict::Apply);
    }
}
