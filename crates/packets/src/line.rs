//! The sending half of a connection, for any task.
//!
//! # Order
//! One queue, two kinds of entries. *Payload* comes from another client and may be much;
//! *control* is the service's own and little. A control packet overtakes the payload that waits,
//! back to the last packet that may not be overtaken:
//!
//! ```text
//! queue:  payload payload Unlinked | payload payload        Unlinked was queued as ordered
//! control:                         ^ goes in here
//! ```
//! [`Line::control`] is for answers and requests, [`Line::ordered`] for what has to arrive behind
//! all payload sent before it. What has been handed to the socket, up to 64 KiB and the
//! kernel's buffer, is not overtaken. Pings and pongs go before everything.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context as Task, Poll, Waker},
};

use edge::ws::Close;
use parking_lot::{Mutex, MutexGuard};

use crate::{Id, Packet, Wire, args::Limits, metrics::Metrics, packet::Carrier};

/// Bytes handed to the socket at once.
const BATCH_BYTES: usize = 64 * 1024;
/// Packets handed to the socket at once.
const BATCH_PACKETS: usize = 64;

/// Queues packets for one client. Cloning gives another handle to the same queue.
#[derive(Clone)]
pub struct Line(Arc<Shared>);

/// Why a packet was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
    /// The client reads none of its answers; it is now being closed.
    #[error("too much is waiting")]
    Full,
    /// The packet would be longer than the wire can say.
    #[error("the packet is too long")]
    TooLong,
    /// The packet came in the other generation.
    #[error("the packet is of another generation")]
    OtherWire,
}

pub(crate) struct Shared {
    pub(crate) wire: Wire,
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Queued>,
    /// Where the next control packet goes in: behind all that it may not overtake.
    control_at: usize,
    payload_bytes: usize,
    control_bytes: usize,
    /// The pump knows that it has to look; no need to wake it again.
    notified: bool,
    draining: bool,
    ending: Option<Ending>,
    pump: Option<Waker>,
    /// Tasks in [`Line::ready`].
    waiting: Vec<Waker>,
}

pub(crate) struct Queued {
    pub(crate) carrier: Carrier,
    /// The id is the connection's next own.
    pub(crate) own_id: bool,
    payload: bool,
}

/// What ends a connection from outside its own task.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Close(Close),
    Overflow,
    Killed,
    /// The pump has taken note already.
    Gone,
}

/// What the pump found.
pub(crate) enum Took {
    Packets,
    Nothing { draining: bool },
    End(Ending),
}

impl Line {
    pub(crate) fn new(wire: Wire, limits: Arc<Limits>, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { wire, limits, metrics, queue: Mutex::default() }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The generation of the client.
    pub fn wire(&self) -> Wire {
        self.0.wire
    }

    /// Whether both are the same connection's.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Queues an answer or a request of the service; it overtakes payload that waits.
    ///
    /// # Errors
    /// When the connection is over or now is because nothing is read, or the body is too long;
    /// then nothing was queued.
    pub fn control(&self, kind: u16, id: Id, body: &[u8]) -> Result<(), SendError> {
        self.push_control(kind, id, body, false)
    }

    /// As [`Line::control`], but behind everything queued before.
    ///
    /// # Errors
    /// As [`Line::control`].
    pub fn ordered(&self, kind: u16, id: Id, body: &[u8]) -> Result<(), SendError> {
        self.push_control(kind, id, body, true)
    }

    /// Queues another client's packet: generation A gets it byte for byte, generation B with the
    /// connection's next own id and a correct size. Never fails for want of room, but says whether
    /// more than the mark waits now: then await [`Line::ready`] before the sender's next packet is
    /// taken.
    ///
    /// # Errors
    /// When the connection is over, or of the other generation.
    pub fn payload(&self, packet: Packet) -> Result<bool, SendError> {
        if packet.wire() != self.0.wire {
            return Err(SendError::OtherWire);
        }
        let mut queue = self.0.queue.lock();
        if queue.ending.is_some() {
            return Err(SendError::Closed);
        }
        queue.payload_bytes += weight(packet.carrier.len());
        let own_id = matches!(packet.carrier, Carrier::Encrypted(_));
        queue.entries.push_back(Queued { carrier: packet.carrier, own_id, payload: true });
        let crowded = queue.payload_bytes > self.0.pause_at();
        notify(queue);
        Ok(crowded)
    }

    /// Waits while more payload waits than the mark; once over it, until it is down to half.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn ready(&self) -> Result<(), SendError> {
        let mut paused = false;
        poll_fn(|task| {
            let mut queue = self.0.queue.lock();
            if queue.ending.is_some() {
                return Poll::Ready(Err(SendError::Closed));
            }
            let mark = self.0.pause_at();
            if queue.payload_bytes <= if paused { mark / 2 } else { mark } {
                return Poll::Ready(Ok(()));
            }
            if !paused {
                paused = true;
                self.0.metrics.paused.inc();
            }
            if !queue.waiting.iter().any(|waker| waker.will_wake(task.waker())) {
                queue.waiting.push(task.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Bytes of payload that wait for the client to read them.
    pub fn waiting_bytes(&self) -> usize {
        self.0.queue.lock().payload_bytes
    }

    /// Ends the connection; what is queued is sent before, within the time a close may take.
    pub fn close(&self, code: u16, reason: &'static str) {
        self.0.end(self.0.queue.lock(), Ending::Close(Close::new(code, reason)));
    }

    /// Ends the connection at once.
    pub fn kill(&self) {
        self.0.end(self.0.queue.lock(), Ending::Killed);
    }

    /// Whether the connection is over, so that nothing can be queued any more.
    pub fn is_closed(&self) -> bool {
        self.0.queue.lock().ending.is_some()
    }

    fn push_control(&self, kind: u16, id: Id, body: &[u8], ordered: bool) -> Result<(), SendError> {
        let (id, own_id) = match id {
            Id::Of(id) => (id, false),
            Id::Own => (0, self.0.wire == Wire::Encrypted),
        };
        let carrier = Carrier::encode(self.0.wire, kind, id, body);
        let carrier = carrier.map_err(|_| SendError::TooLong)?;
        let mut queue = self.0.queue.lock();
        if queue.ending.is_some() {
            return Err(SendError::Closed);
        }
        let bytes = queue.control_bytes + weight(carrier.len());
        if queue.control_bytes > 0 && bytes > self.0.limits.control_max {
            self.0.metrics.overflows.inc();
            self.0.end(queue, Ending::Overflow);
            return Err(SendError::Full);
        }
        queue.control_bytes = bytes;
        let at = if ordered { queue.entries.len() } else { queue.control_at };
        queue.entries.insert(at, Queued { carrier, own_id, payload: false });
        queue.control_at = at + 1;
        notify(queue);
        Ok(())
    }
}

impl Shared {
    /// Bytes in the queue that are too many: the mark, less what has been handed to the socket
    /// and waits too.
    fn pause_at(&self) -> usize {
        let mark = self.limits.payload_mark;
        mark.saturating_sub(BATCH_BYTES).max(mark / 2)
    }

    /// Moves what is to be written next to `out`, or says what else there is to do. Registers
    /// the pump to be woken when there was nothing.
    pub(crate) fn take(&self, task: &mut Task<'_>, out: &mut VecDeque<Queued>) -> Took {
        let mut queue = self.queue.lock();
        if queue.ending.is_some() {
            return Took::End(queue.ending.replace(Ending::Gone).unwrap_or(Ending::Gone));
        }
        if queue.fill(out, BATCH_BYTES, BATCH_PACKETS) {
            let waiting = match queue.payload_bytes <= self.pause_at() / 2 {
                true => std::mem::take(&mut queue.waiting),
                false => Vec::new(),
            };
            drop(queue);
            waiting.into_iter().for_each(Waker::wake);
            return Took::Packets;
        }
        queue.entries = VecDeque::new(); // a connection at rest holds no buffer
        queue.notified = false;
        queue.register(task);
        Took::Nothing { draining: queue.draining }
    }

    /// What there is to know while the client takes no more: the end, or that the process drains.
    pub(crate) fn take_none(&self, task: &mut Task<'_>) -> Took {
        let mut queue = self.queue.lock();
        if queue.ending.is_some() {
            return Took::End(queue.ending.replace(Ending::Gone).unwrap_or(Ending::Gone));
        }
        queue.register(task);
        Took::Nothing { draining: queue.draining }
    }

    /// Ends the connection for good: nothing is queued any more. With `flush`, what is queued
    /// moves to `out`.
    pub(crate) fn finish(&self, out: &mut VecDeque<Queued>, flush: bool) {
        let mut queue = self.queue.lock();
        if flush {
            queue.fill(out, usize::MAX, usize::MAX);
        }
        let ending = Some(Ending::Gone);
        let old = std::mem::replace(&mut *queue, Queue { ending, ..Queue::default() });
        drop(queue);
        old.waiting.into_iter().for_each(Waker::wake);
    }

    /// Tells the pump that the process is draining.
    pub(crate) fn drain(&self) {
        let mut queue = self.queue.lock();
        queue.draining = true;
        queue.notified = false;
        notify(queue);
    }

    /// Whether so many of its own answers wait that the client should be asked for no more.
    pub(crate) fn is_crowded(&self) -> bool {
        self.queue.lock().control_bytes > self.limits.control_max / 2
    }

    /// Notes what ends the connection, unless something has already. Wakes the pump even while it
    /// waits for the client to read.
    fn end(&self, mut queue: MutexGuard<'_, Queue>, ending: Ending) {
        match (&queue.ending, &ending) {
            (None, _) | (Some(Ending::Close(_) | Ending::Overflow), Ending::Killed) => {
                queue.ending = Some(ending);
            }
            _ => return,
        }
        queue.notified = true;
        let waiting = std::mem::take(&mut queue.waiting);
        let pump = queue.pump.clone();
        drop(queue);
        waiting.into_iter().chain(pump).for_each(Waker::wake);
    }
}

/// What a packet in the queue takes: its bytes, a quarter more because the blocks that were read
/// into are seldom full, and its entry, so that many small ones count for what they are.
fn weight(bytes: usize) -> usize {
    bytes + bytes / 4 + size_of::<Queued>()
}

/// One wake per burst, after the lock is released.
fn notify(mut queue: MutexGuard<'_, Queue>) {
    if queue.notified {
        return;
    }
    queue.notified = true;
    let pump = queue.pump.clone();
    drop(queue);
    if let Some(pump) = pump {
        pump.wake();
    }
}

impl Queue {
    fn register(&mut self, task: &Task<'_>) {
        if !self.pump.as_ref().is_some_and(|pump| pump.will_wake(task.waker())) {
            self.pump = Some(task.waker().clone());
        }
    }

    /// Moves packets in order until about `max_bytes`; whether there were any.
    fn fill(&mut self, out: &mut VecDeque<Queued>, max_bytes: usize, max_packets: usize) -> bool {
        let (mut bytes, mut packets) = (0, 0);
        while bytes < max_bytes && packets < max_packets {
            let Some(queued) = self.entries.pop_front() else { break };
            let length = queued.carrier.len();
            bytes += length;
            packets += 1;
            let side =
                if queued.payload { &mut self.payload_bytes } else { &mut self.control_bytes };
            *side -= weight(length);
            self.control_at = self.control_at.saturating_sub(1);
            out.push_back(queued);
        }
        packets > 0
    }
}
