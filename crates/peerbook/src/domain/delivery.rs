//! Passing an envelope on, or finding out why it cannot be.

use proto::book::{Dialect, Envelope, encode, sdp};

use super::{book::Book, circle::Forwarded, connection::Connection, presence::Parcel};
use crate::error::Error;

/// What became of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// On its way.
    Sent,
    /// The sender may not send.
    Blocked,
    /// The SDP names another certificate than the sender's.
    Contradicted,
    /// The target is one of the user's, but not there.
    Offline,
    /// Nobody's peer.
    Unknown,
    /// Another user's peer.
    Foreign,
}

impl Book {
    /// Passes on an envelope that came as `text`, and counts what became of it.
    ///
    /// # Errors
    /// [`Error::TooMany`] when the sender names too many targets that its user does not have; the
    /// database's, which is asked about those.
    pub(crate) async fn deliver(
        &self,
        from: &Connection,
        envelope: &Envelope<'_>,
        text: &[u8],
    ) -> Result<Delivery, Error> {
        // The rare cases ask the database, and would make every future larger.
        let done = match self.forward(from, envelope, text) {
            Some(Delivery::Offline) => Box::pin(self.look_and_forward(from, envelope, text)).await,
            done => done,
        };
        let done = match done {
            Some(done) => done,
            None => Box::pin(self.explain(from, envelope)).await?,
        };
        let metrics = &self.metrics;
        match done {
            Delivery::Sent => &metrics.sent,
            Delivery::Blocked => &metrics.blocked,
            Delivery::Contradicted => &metrics.contradicted,
            Delivery::Offline => &metrics.offline,
            Delivery::Unknown => &metrics.unknown,
            Delivery::Foreign => &metrics.foreign,
        }
        .inc();
        Ok(done)
    }

    /// `None` when the database has to be asked why it cannot be passed on.
    fn forward(&self, from: &Connection, envelope: &Envelope<'_>, text: &[u8]) -> Option<Delivery> {
        let Some(circle) = from.circle() else { return Some(Delivery::Blocked) };
        let Some(target) = envelope.target.as_ref().and_then(|target| target.as_str()) else {
            return Some(Delivery::Unknown);
        };
        if self.settings.check_sdp
            && envelope.descriptions().any(|raw| sdp::contradicts(raw, &from.fp))
        {
            return Some(Delivery::Contradicted);
        }
        match circle.forward(from, envelope, target, encode::envelope_capacity(text.len())) {
            Forwarded::Sent => Some(Delivery::Sent),
            Forwarded::Elsewhere { nodes, target, proven_only, version, sent } => {
                let parcel = Parcel {
                    uid: circle.uid.clone(),
                    from: from.fp.as_str().to_owned(),
                    to: target.as_str().to_owned(),
                    proven_only,
                    version,
                    plan: from.dialect == Dialect::Plan,
                    text: String::from_utf8_lossy(text).into_owned(),
                };
                let passed = self.presence.pass_on(&nodes, parcel);
                if passed {
                    self.metrics.elsewhere.inc();
                }
                Some(if passed || sent { Delivery::Sent } else { Delivery::Offline })
            }
            Forwarded::Blocked => Some(Delivery::Blocked),
            Forwarded::Offline => Some(Delivery::Offline),
            Forwarded::Unknown => None,
        }
    }

    /// Forwards to a peer that seems not to be there: it may just have been greeted elsewhere, which
    /// its row says before the other replica does.
    async fn look_and_forward(
        &self,
        from: &Connection,
        envelope: &Envelope<'_>,
        text: &[u8],
    ) -> Option<Delivery> {
        let circle = from.circle()?;
        if self.pay_errand(&from.fp).is_err() {
            return Some(Delivery::Offline);
        }
        match self.look_elsewhere(std::slice::from_ref(&circle.uid)).await {
            Ok(()) => self.forward(from, envelope, text),
            Err(_) => Some(Delivery::Offline), // as far as anybody can tell
        }
    }

    /// Tells a target that the user does not have: another user's, or nobody's.
    async fn explain(&self, from: &Connection, envelope: &Envelope<'_>) -> Result<Delivery, Error> {
        self.pay_errand(&from.fp)?;
        let target = envelope.target.as_ref().and_then(|target| target.as_str()).unwrap_or("");
        let foreign = self.is_somebodys(target).await?;
        Ok(if foreign { Delivery::Foreign } else { Delivery::Unknown })
    }
}
