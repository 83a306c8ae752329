//! What a user is shown of their peers, wherever those are connected.

use std::collections::HashMap;

use super::{
    book::{Book, Listed},
    circle::needs_proof,
};
use crate::{error::Error, store, store::Peer};

impl Book {
    /// Everything a user has: peers, requests, and what was refused; oldest first.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; the database's.
    pub(crate) async fn list(&self, uid: &str) -> Result<Vec<Listed>, Error> {
        let shelf = store::peer::shelf(&self.pool, uid).await?.ok_or(Error::UnknownUser)?;
        let (_, elsewhere) = self.presence.read(&[uid.to_owned()]).await?;
        let circle = self.known_circle(uid);
        let is_here = |peer: &Peer| circle.as_ref().is_some_and(|all| all.is_online(&peer.fp));
        let mut names: HashMap<&str, usize> = HashMap::new();
        for peer in shelf.peers.iter().filter(|peer| !peer.name.is_empty()) {
            *names.entry(&peer.name).or_default() += 1;
        }
        let listed = shelf.peers.iter().map(|peer| {
            let needs_proof = needs_proof(shelf.account.require_proof, peer);
            let mut others = elsewhere.iter().filter(|one| one.fp == peer.fp);
            let is_there = || peer.verified && others.clone().any(|one| one.may_be_in(needs_proof));
            Listed {
                online: is_here(peer) || is_there(),
                waiting: self.lobby.has(peer.fp.as_str()) || others.any(|one| !one.is_in),
                clashes: names.get(peer.name.as_str()).is_some_and(|count| *count > 1),
                peer: peer.clone(),
            }
        });
        Ok(listed.collect())
    }
}
