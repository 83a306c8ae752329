//! HTTP pads: one sender, one reader, and a handful of buffers between them.
//!
//! Whoever comes first waits for the other. From then on the name is taken until both are done.
//! What the sender does not finish never looks finished to the reader.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Chunks between sender and reader; each is at most what one read of a socket gives.
const CHUNKS: usize = 4;

/// What HTTP pads may take.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Pads in use at once.
    pub(crate) max: usize,
    /// Time to wait for the other side.
    pub(crate) meet: Duration,
    /// Time in which nothing moves before a transfer is given up.
    pub(crate) stall: Duration,
}

/// Why there is no transfer, or no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Another one of the same side has the name.
    Taken,
    /// Too many HTTP pads are in use.
    Full,
    /// The other side did not come in time.
    Unmet,
    /// The other side left before the end.
    Left,
    /// Nothing moved for too long.
    Stalled,
    /// The process is about to stop.
    Stopping,
}

/// Length of what is sent, where the sender told.
pub(crate) type Announced = Option<u64>;

/// Every HTTP pad of this process.
pub(crate) struct Transfers {
    places: Arc<Places>,
    bounds: Bounds,
    stopping: CancellationToken,
}

struct Places {
    by_name: Mutex<HashMap<Box<[u8]>, Place>>,
    metrics: Arc<Metrics>,
}

/// What happens under one name. The name is free when both sides have let go of it.
#[derive(Default)]
struct Place {
    sender: bool,
    reader: bool,
    /// What the side that waits has for the other.
    waiting: Option<Waiting>,
}

enum Waiting {
    Sender(oneshot::Sender<()>, Announced, mpsc::Receiver<Piece>, Whole),
    Reader(oneshot::Sender<Announced>, mpsc::Sender<Piece>, Whole),
}

/// Set when the reader has had all that was announced: whoever serves it asks for no more then,
/// not even for the end.
type Whole = Arc<AtomicBool>;

enum Piece {
    Data(Bytes),
    /// All of it was sent. The reader says when it has come to this.
    End(oneshot::Sender<()>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Sender,
    Reader,
}

/// One side's claim to a name.
struct Claim {
    places: Arc<Places>,
    name: Box<[u8]>,
    side: Side,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut by_name = self.places.by_name.lock();
        let Some(place) = by_name.get_mut(&self.name) else { return };
        *place.of(self.side) = false;
        let waiting = place.waiting.take();
        if !place.sender && !place.reader {
            by_name.remove(&self.name);
            self.places.metrics.transfers.dec();
        }
        drop(by_name);
        drop(waiting); // wakes nobody under the lock
    }
}

impl Place {
    fn of(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Sender => &mut self.sender,
            Side::Reader => &mut self.reader,
        }
    }
}

/// The sending half of a transfer.
pub(crate) struct Sending {
    pieces: mpsc::Sender<Piece>,
    whole: Whole,
    stall: Duration,
    claim: Claim,
}

/// The reading half of a transfer: a stream that ends with an error unless all was sent.
pub(crate) struct Reading {
    pieces: mpsc::Receiver<Piece>,
    /// What is left of the length that the sender told.
    left: Announced,
    whole: Whole,
    over: bool,
    /// Goes with it.
    row: Option<Row>,
    _claim: Claim,
}

/// What says to other processes that the name is in use here, until it is dropped.
pub(crate) type Row = Arc<dyn Send + Sync>;

impl Transfers {
    /// Nobody waits for the other side once `stopping`; what moves goes on.
    pub(crate) fn new(bounds: Bounds, metrics: Arc<Metrics>, stopping: CancellationToken) -> Self {
        let places = Arc::new(Places { by_name: Mutex::default(), metrics });
        Self { places, bounds, stopping }
    }

    /// Comes to the pad `name` as its sender, and waits for the reader.
    ///
    /// # Errors
    /// [`Failed::Taken`], [`Failed::Full`], [`Failed::Unmet`], [`Failed::Stopping`].
    pub(crate) async fn send(&self, name: &[u8], announced: Announced) -> Result<Sending, Failed> {
        let stall = self.bounds.stall;
        let (sending, met) = {
            let mut by_name = self.places.by_name.lock();
            let (claim, waiting) = self.claim(&mut by_name, name, Side::Sender)?;
            match waiting {
                Some(Waiting::Reader(met, pieces, whole)) => {
                    let _ = met.send(announced); // a reader that left shows at the first chunk
                    return Ok(Sending { pieces, whole, stall, claim });
                }
                _ => {
                    let (pieces, reader) = mpsc::channel(CHUNKS);
                    let (meeting, met) = oneshot::channel();
                    let whole = Whole::default();
                    if let Some(place) = by_name.get_mut(name) {
                        let waiting = Waiting::Sender(meeting, announced, reader, whole.clone());
                        place.waiting = Some(waiting);
                    }
                    (Sending { pieces, whole, stall, claim }, met)
                }
            }
        };
        self.meet(met).await.map(|()| sending)
    }

    /// Comes to the pad `name` as its reader, and waits for the sender.
    ///
    /// # Errors
    /// [`Failed::Taken`], [`Failed::Full`], [`Failed::Unmet`], [`Failed::Stopping`].
    pub(crate) async fn read(&self, name: &[u8]) -> Result<Reading, Failed> {
        let (reading, met) = {
            let mut by_name = self.places.by_name.lock();
            let (claim, waiting) = self.claim(&mut by_name, name, Side::Reader)?;
            let reading = |pieces, whole| Reading {
                pieces,
                left: None,
                whole,
                over: false,
                row: None,
                _claim: claim,
            };
            match waiting {
                Some(Waiting::Sender(met, announced, pieces, whole)) => {
                    let _ = met.send(()); // a sender that left shows as a broken transfer
                    return Ok(reading(pieces, whole).of(announced));
                }
                _ => {
                    let (sender, pieces) = mpsc::channel(CHUNKS);
                    let (meeting, met) = oneshot::channel();
                    let whole = Whole::default();
                    if let Some(place) = by_name.get_mut(name) {
                        place.waiting = Some(Waiting::Reader(meeting, sender, whole.clone()));
                    }
                    (reading(pieces, whole), met)
                }
            }
        };
        Ok(reading.of(self.meet(met).await?))
    }

    /// Whether somebody is at the pad `name`.
    pub(crate) fn is_here(&self, name: &[u8]) -> bool {
        self.places.by_name.lock().contains_key(name)
    }

    /// Counts the end of a transfer that had begun.
    pub(crate) fn count(&self, whole: bool) {
        let metrics = &self.places.metrics;
        if whole { metrics.transfers_done.inc() } else { metrics.transfers_broken.inc() }
    }

    /// Takes one side of a name, and what the other side has left for it.
    fn claim(
        &self,
        by_name: &mut HashMap<Box<[u8]>, Place>,
        name: &[u8],
        side: Side,
    ) -> Result<(Claim, Option<Waiting>), Failed> {
        let metrics = &self.places.metrics;
        let count = by_name.len();
        let place = match by_name.entry(name.into()) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(_) if count >= self.bounds.max => {
                metrics.transfers_refused.inc();
                return Err(Failed::Full);
            }
            Entry::Vacant(place) => {
                metrics.transfers.inc();
                place.insert(Place::default())
            }
        };
        // Nobody waits in a place that is not new: both are there, or one of two has left.
        let is_new = !place.sender && !place.reader;
        if *place.of(side) || (!is_new && place.waiting.is_none()) {
            metrics.transfers_refused.inc();
            return Err(Failed::Taken);
        }
        *place.of(side) = true;
        let claim = Claim { places: self.places.clone(), name: name.into(), side };
        Ok((claim, place.waiting.take()))
    }

    async fn meet<T>(&self, met: oneshot::Receiver<T>) -> Result<T, Failed> {
        let met = self.stopping.run_until_cancelled(timeout(self.bounds.meet, met));
        match met.await {
            Some(Ok(Ok(said))) => Ok(said),
            None => Err(Failed::Stopping),
            Some(_) => {
                self.places.metrics.transfers_unmet.inc();
                Err(Failed::Unmet)
            }
        }
    }
}

impl Sending {
    /// Hands a chunk on; waits while the reader has enough.
    ///
    /// # Errors
    /// [`Failed::Left`] and [`Failed::Stalled`].
    pub(crate) async fn push(&self, chunk: Bytes) -> Result<(), Failed> {
        let bytes = chunk.len() as u64;
        self.hand(Piece::Data(chunk)).await?;
        self.claim.places.metrics.transfer_bytes.inc_by(bytes);
        Ok(())
    }

    /// All is sent: waits until the reader has come to the end.
    ///
    /// # Errors
    /// As [`Sending::push`].
    pub(crate) async fn finish(self) -> Result<(), Failed> {
        let (done, seen) = oneshot::channel();
        let ended = match self.hand(Piece::End(done)).await {
            Ok(()) => match timeout(self.stall, seen).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(Failed::Left),
                Err(_) => Err(Failed::Stalled),
            },
            Err(why) => Err(why),
        };
        ended.or_else(|why| if self.whole.load(Ordering::Acquire) { Ok(()) } else { Err(why) })
    }

    /// How long nothing may move.
    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }

    async fn hand(&self, piece: Piece) -> Result<(), Failed> {
        match timeout(self.stall, self.pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Failed::Left),
            Err(_) => Err(Failed::Stalled),
        }
    }
}

/// The sender left before it was done.
#[derive(Debug, thiserror::Error)]
#[error("the sender left before the end")]
pub(crate) struct Cut;

impl Reading {
    /// Length of the whole, before any of it is read, where the sender told.
    pub(crate) fn announced(&self) -> Announced {
        self.left
    }

    /// Keeps `row` for as long as it is read.
    pub(crate) fn keep(&mut self, row: Option<Row>) {
        self.row = row;
    }

    fn of(mut self, announced: Announced) -> Self {
        self.left = announced;
        self.had(0);
        self
    }

    fn had(&mut self, bytes: usize) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes as u64);
            if *left == 0 {
                self.whole.store(true, Ordering::Release);
            }
        }
    }
}

impl Stream for Reading {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        match ready!(self.pieces.poll_recv(task)) {
            Some(Piece::Data(chunk)) => {
                self.had(chunk.len());
                Poll::Ready(Some(Ok(chunk)))
            }
            Some(Piece::End(done)) => {
                self.over = true;
                let _ = done.send(()); // a sender that does not want to know
                Poll::Ready(None)
            }
            None => {
                self.over = true;
                Poll::Ready(Some(Err(Cut)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
