//! Changes to a user's book: one transaction each, then everybody connected is told.

use std::sync::Arc;

use proto::book::{Fingerprint, Name};
use sqlx::PgTransaction;

use super::{
    book::Book,
    circle::{Fence, Welcome},
    secret,
};
use crate::{
    error::Error,
    store::{self, Account, RequireProof, Shelf, peer::Introduction},
};

/// What is to be changed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A peer asks to be known, or says something new of itself.
    Introduce(Introduction),
    /// Let this peer in.
    Approve(Fingerprint),
    /// Let the peer in that shows the code of this hash.
    Pair([u8; 32]),
    /// Refuse a request, or end an approval.
    Refuse(Fingerprint),
    /// Call a peer something else.
    Rename(Fingerprint, Name),
    /// Replace a peer's properties by this JSON object.
    SetProperties(Fingerprint, String),
    /// The fingerprint was proven in this way.
    Proven(Fingerprint, &'static str),
    /// Forget a peer.
    Remove(Fingerprint),
    /// Forget all peers and requests.
    RemoveAll,
    /// Forget the user.
    RemoveUser,
    /// Whose fingerprints have to be proven.
    RequireProof(RequireProof),
}

impl Change {
    /// Whom it puts out.
    fn fence(&self) -> Option<Fence> {
        match self {
            Self::Refuse(fp) | Self::Remove(fp) => Some(Fence::One(fp.clone())),
            Self::RemoveAll | Self::RemoveUser | Self::RequireProof(RequireProof::All) => {
                Some(Fence::All)
            }
            _ => None,
        }
    }
}

/// What a change came to.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// The user with everything they have now; `None` when there is no such user any more.
    pub(crate) shelf: Option<Shelf>,
    /// Whom it was about, where the change did not say.
    pub(crate) fp: Option<Fingerprint>,
}

impl Book {
    /// Commits a change, then tells everybody connected here and the other processes.
    ///
    /// Runs in a task of its own: who asked may go away, a change that was committed is applied.
    ///
    /// # Errors
    /// Those of the change; the database's.
    pub(crate) async fn change(
        self: &Arc<Self>,
        uid: &str,
        change: Change,
    ) -> Result<Changed, Error> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (book, uid) = (self.clone(), uid.to_owned());
        self.cx.spawn("change", async move {
            let _ = answer.send(book.carry_out(&uid, change).await); // nobody may be waiting
        });
        answered.await.unwrap_or(Err(Error::Storage(pg::Error::Closed)))
    }

    async fn carry_out(self: &Arc<Self>, uid: &str, change: Change) -> Result<Changed, Error> {
        let circle = self.known_circle(uid);
        let fence = change.fence();
        if let (Some(circle), Some(fence)) = (&circle, &fence) {
            circle.shut(fence);
        }
        let committed = self.commit(uid, &change).await;
        // It may have come into being since: look again.
        if let Ok((changed, welcome)) = &committed {
            self.bring_up_to_date(uid, changed.shelf.clone(), welcome.as_ref()).await;
        }
        if let (Some(circle), Some(fence)) = (&circle, &fence) {
            circle.reopen(fence);
        }
        let (changed, _) = committed?;
        self.metrics.changes.inc();
        self.tell_others(uid, changed.shelf.as_ref().map_or(i64::MAX, |s| s.account.version)).await;
        Ok(changed)
    }

    async fn commit(
        &self,
        uid: &str,
        change: &Change,
    ) -> Result<(Changed, Option<Welcome>), Error> {
        let mut tx = self.pool.begin().await?;
        let account = store::account::change(&mut tx, uid).await?.ok_or(Error::UnknownUser)?;
        let (fp, welcome) = self.write(&mut tx, &account, change).await?;
        let shelf = match store::account::by_uid(&mut *tx, uid).await? {
            Some(account) => Some(Shelf { account, peers: store::peer::of(&mut *tx, uid).await? }),
            None => None,
        };
        tx.commit().await?;
        Ok((Changed { shelf, fp }, welcome))
    }

    async fn write(
        &self,
        tx: &mut PgTransaction<'_>,
        account: &Account,
        change: &Change,
    ) -> Result<(Option<Fingerprint>, Option<Welcome>), Error> {
        let uid = account.uid.as_str();
        let found = match change {
            Change::Introduce(who) => {
                self.introduce(tx, uid, who).await?;
                true
            }
            Change::Approve(fp) => {
                let welcome = self.let_in(tx, account, fp).await?;
                return Ok((Some(fp.clone()), welcome));
            }
            Change::Pair(hash) => {
                let who = store::pairing::take(tx, hash).await?.ok_or(Error::UnknownPeer)?;
                self.introduce(tx, uid, &who).await?;
                let welcome = self.let_in(tx, account, &who.fp).await?;
                return Ok((Some(who.fp), welcome));
            }
            Change::Refuse(fp) => store::peer::refuse(tx, uid, fp).await?,
            Change::Rename(fp, name) => store::peer::rename(tx, uid, fp, name).await?,
            Change::SetProperties(fp, text) => {
                store::peer::set_properties(tx, uid, fp, text).await?
            }
            Change::Proven(fp, proof) => {
                store::peer::proven(tx, uid, fp, proof).await?;
                true
            }
            Change::Remove(fp) => store::peer::remove(tx, uid, fp).await?,
            Change::RemoveAll => {
                store::peer::remove_all(tx, uid).await?;
                true
            }
            Change::RemoveUser => {
                store::account::remove(tx, uid).await?;
                true
            }
            Change::RequireProof(policy) => {
                store::account::set_require_proof(tx, uid, *policy).await?;
                true
            }
        };
        if found { Ok((None, None)) } else { Err(Error::UnknownPeer) }
    }

    async fn introduce(
        &self,
        tx: &mut PgTransaction<'_>,
        uid: &str,
        who: &Introduction,
    ) -> Result<(), Error> {
        let known = store::peer::of(&mut **tx, uid).await?.iter().any(|peer| peer.fp == who.fp);
        if !known && !store::peer::make_room(tx, uid, self.settings.max_requests_per_user).await? {
            self.metrics.full.inc();
            return Err(Error::Full);
        }
        Ok(store::peer::introduce(tx, uid, who).await?)
    }

    async fn let_in(
        &self,
        tx: &mut PgTransaction<'_>,
        account: &Account,
        fp: &Fingerprint,
    ) -> Result<Option<Welcome>, Error> {
        let uid = account.uid.as_str();
        match store::peer::owner(&mut **tx, fp).await? {
            Some(owner) if owner == uid => return Ok(None),
            Some(_) => return Err(Error::OwnedElsewhere),
            None => {}
        }
        if store::peer::verified_count(tx, uid).await? >= self.settings.max_peers_per_user {
            self.metrics.full.inc();
            return Err(Error::Full);
        }
        let needs_proof = account.require_proof != RequireProof::None;
        let approved = store::peer::approve(tx, uid, fp, needs_proof).await;
        match approved {
            Ok(true) => {}
            Ok(false) => return Err(Error::UnknownPeer),
            // Somebody else was faster.
            Err(sqlx::Error::Database(why)) if why.is_unique_violation() => {
                return Err(Error::OwnedElsewhere);
            }
            Err(why) => return Err(why.into()),
        }
        store::account::confirm(tx, uid).await?;
        // Handed to the one connection that waits; among several nobody could tell which is it.
        let waiting = self.lobby.of(fp);
        let [alone] = waiting.as_slice() else { return Ok(None) };
        let node = self.presence.bus.node();
        let others = store::session::count_elsewhere(&mut **tx, node, fp).await?;
        if others > 0 || needs_proof && !alone.is_proven() {
            return Ok(None);
        }
        let token = secret::token();
        store::peer::pin_bearer(tx, uid, fp, &secret::hash(token.as_bytes())).await?;
        Ok(Some(Welcome { to: alone.clone(), token }))
    }

    /// As [`Book::apply`], with what the other replicas have of the user as it is now.
    pub(super) async fn bring_up_to_date(
        &self,
        uid: &str,
        shelf: Option<Shelf>,
        welcome: Option<&Welcome>,
    ) {
        // A circle that comes into being by this change has to be there before the others are read:
        // what they tell from then on finds it.
        if shelf.as_ref().is_some_and(|shelf| self.is_waited_for(shelf)) {
            self.circle(uid);
        }
        if let Err(why) = self.look_before(uid).await {
            tracing::debug!(%why, "others' sessions not read");
        }
        self.apply(uid, shelf, welcome).await;
    }

    /// Whether a connection waits here that this lets in.
    fn is_waited_for(&self, shelf: &Shelf) -> bool {
        let mut verified = shelf.peers.iter().filter(|peer| peer.verified);
        verified.any(|peer| self.lobby.has(peer.fp.as_str()))
    }

    /// Brings what is in memory up to what was committed.
    async fn apply(&self, uid: &str, shelf: Option<Shelf>, welcome: Option<&Welcome>) {
        let waited_for = shelf.as_ref().is_some_and(|shelf| self.is_waited_for(shelf));
        let circle = if waited_for { Some(self.circle(uid)) } else { self.known_circle(uid) };
        match circle {
            Some(circle) => circle.apply(shelf, &self.lobby, welcome, self.now()),
            None => self.lobby.call_nobody(),
        }
    }

    /// Tells the other processes of this database that a user has changed. They would find out by
    /// themselves a few seconds later.
    async fn tell_others(&self, uid: &str, version: i64) {
        let told = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(super::book::CHANNEL)
            .bind(format!("{version} {uid}"))
            .execute(&self.pool)
            .await;
        if let Err(why) = told {
            tracing::debug!(%why, "others not told of a change");
        }
    }
}
