//! An owner of a channel at work, and what all owners gave out.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use bytes::Bytes;
use testkit::pad_client::PadClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pads that owners gave and guests got.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Pads>>);

#[derive(Debug, Default)]
struct Pads {
    given: HashSet<String>,
    got: HashSet<String>,
}

impl Ledger {
    fn give(&self, pad: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).given.insert(pad.to_owned());
    }

    /// Checks what a guest was told about `channel`.
    pub(super) fn check(&self, channel: &str, pad: Option<Bytes>) -> anyhow::Result<()> {
        let Some(pad) = pad else { return Ok(()) };
        let pad = String::from_utf8(pad.to_vec())?;
        let own = pad.strip_prefix(channel).is_some_and(|rest| rest.starts_with('/'));
        ensure!(own, "asked for {channel}, given {pad}");
        let mut pads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(pads.given.contains(&pad), "nobody gave {pad}");
        ensure!(pads.got.insert(pad.clone()), "two guests got {pad}");
        Ok(())
    }
}

/// An owner's connection; ends when dropped.
#[derive(Debug)]
pub(super) struct Host {
    serving: JoinHandle<()>,
}

impl Host {
    /// Takes requests for `channel`, and answers them while owners are answering.
    pub(super) fn start(
        client: PadClient,
        channel: String,
        registered: u64,
        answering: watch::Receiver<bool>,
        ledger: Ledger,
    ) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
        let serving = tokio::spawn(async move {
            // It ends with its connection; what that leads to is seen by others.
            let _ = serve(client, &channel, registered, answering, &ledger).await;
        });
        Self { serving }
    }

    /// Whether it is connected, as far as it knows.
    pub(super) fn is_open(&self) -> bool {
        !self.serving.is_finished()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut client: PadClient,
    channel: &str,
    registered: u64,
    mut answering: watch::Receiver<bool>,
    ledger: &Ledger,
) -> anyhow::Result<()> {
    let mut waiting = VecDeque::new();
    let mut given = 0;
    loop {
        while *answering.borrow_and_update()
            && let Some(request) = waiting.pop_front()
        {
            given += 1;
            let pad = format!("{channel}/{registered}/{given}");
            ledger.give(&pad);
            // Refused when its guest has left.
            client.answer_pad_request(&request, Some(pad.as_bytes())).await?;
        }
        tokio::select! {
            request = client.next_pad_request() => waiting.push_back(request?),
            changed = answering.changed() => changed?,
        }
    }
}
