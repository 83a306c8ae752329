//! One connection's bytes and deadlines, driven by the pump's polls.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use edge::{
    Stream,
    ws::{Close, Ended, Frame, codec::Violation},
};
use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;

use crate::{
    Packet,
    args::FAR,
    line::{Ending, Queued, Shared, Took},
    wire::{Codec, Incoming},
};

/// Size of a thread's read buffer: the longest packet with its framing, and a little. What a block
/// holds beside a queued packet is as good as lost, so a larger one would cost memory, and a
/// smaller one a copy of every long packet.
const SCRATCH_BYTES: usize = 66 * 1024;
/// What has to be free in it before a read.
const SCRATCH_MIN: usize = 16 * 1024;
/// Up to here the beginning of a frame is copied rather than given a buffer of its own.
const COPIED_BYTES: usize = 4 * 1024;
/// Frames per write call.
const SLICES: usize = 64;
/// Packets handled before answers are written, so that a burst cannot fill its own queue.
const BURST: u32 = 32;
/// Bytes read before other tasks get their turn: a packet of the longest kind, so that a pair's round
/// trip waits some tens of microseconds for another that moves all it can.
const TURN_BYTES: usize = 64 * 1024;
/// Batches written before other tasks get theirs; sealing one takes as long as reading it.
const TURN_BATCHES: u32 = 2;
/// How often a draining connection looks whether it has to stop at once.
const KILL_CHECK: Duration = Duration::from_millis(200);

thread_local! {
    /// Idle connections own no read buffer: bytes arrive here and leave with the packets.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    /// Where packets are between the queue and the socket.
    static BATCH: RefCell<VecDeque<Queued>> = const { RefCell::new(VecDeque::new()) };
}

/// The state of one connection between polls.
pub(crate) struct Conn {
    stream: Stream,
    codec: Codec,
    line: Arc<Shared>,
    /// Whole frames on their way out, the first of them sent up to `sent`.
    writing: VecDeque<Bytes>,
    sent: usize,
    unflushed: bool,
    /// The client broke the protocol: what it sends now cannot be told apart any more.
    broken: bool,
    /// The answer to the newest ping. Waits here while the client reads nothing.
    pong: Option<Bytes>,
    burst: u32,
    turn_bytes: usize,
    /// When the last pong came, or the connection.
    last_pong: Instant,
    pinged: Option<Instant>,
    /// When the session has to be active; `None` once it is.
    activate_by: Option<Instant>,
    stalled: Option<Instant>,
    drain_at: Option<Instant>,
    stop: service::Stop,
    /// Boxed: it is empty for as long as the connection lives.
    over: Option<Box<Over>>,
}

/// The connection is over; this is how, and what the client is still told.
pub(crate) struct Over {
    pub(crate) how: Ended,
    pub(crate) farewell: Farewell,
}

/// What is left to be sent.
pub(crate) enum Farewell {
    /// Nothing: the connection is dropped.
    Nothing,
    /// What is queued, if `flush`, then a close frame where there are such.
    Close { frame: Frame, flush: bool },
}

impl Over {
    /// We end it: what is queued goes out before.
    pub(crate) fn by_us(close: &Close) -> Self {
        let frame = Frame::close(Some(close.code), close.reason.as_bytes());
        Self { how: Ended::ByUs(close.code), farewell: Farewell::Close { frame, flush: true } }
    }
}

/// What the pump has to do next.
pub(crate) enum Next {
    Packet(Packet),
    Malformed,
    End(Over),
}

impl Conn {
    pub(crate) fn new(
        stream: Stream,
        codec: Codec,
        line: Arc<Shared>,
        stop: service::Stop,
    ) -> Self {
        let now = Instant::now();
        let activate_by = Some(now + line.limits.activation_timeout);
        Self {
            stream,
            codec,
            line,
            writing: VecDeque::new(),
            sent: 0,
            unflushed: false,
            broken: false,
            pong: None,
            burst: 0,
            turn_bytes: 0,
            last_pong: now,
            pinged: None,
            activate_by,
            stalled: None,
            drain_at: None,
            stop,
            over: None,
        }
    }

    /// The session is active: it may stay for as long as it likes.
    pub(crate) fn activated(&mut self) {
        self.activate_by = None;
    }

    /// The next packet or the end; meanwhile writes, pings and keeps time.
    pub(crate) fn poll_next(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        task: &mut Task<'_>,
    ) -> Poll<Next> {
        loop {
            let crowded = self.line.is_crowded();
            if self.burst >= BURST || crowded {
                self.burst = 0;
                self.poll_output(task);
            }
            if let Some(over) = self.over.take() {
                return Poll::Ready(Next::End(*over));
            }
            if crowded && self.stalled.is_some() {
                // A client that does not read its answers is not asked for more questions.
                self.poll_time(timer.as_mut(), task, false);
                if self.stalled.is_some() && self.over.is_none() {
                    return Poll::Pending;
                }
                continue;
            }
            match self.codec.next(&self.line.metrics) {
                Ok(Some(incoming)) => {
                    if let Some(next) = self.received(incoming) {
                        return Poll::Ready(next);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(violation) => return Poll::Ready(Next::End(self.violated(violation))),
            }
            self.burst = 0;
            self.poll_output(task);
            if self.turn_bytes > TURN_BYTES {
                self.turn_bytes = 0;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.poll_fill(task) {
                Poll::Ready(Ok(read @ 1..)) => self.turn_bytes += read,
                Poll::Ready(Ok(0) | Err(_)) => self.end(Ended::Lost, Farewell::Nothing),
                Poll::Pending => {
                    self.turn_bytes = 0;
                    self.poll_time(timer.as_mut(), task, true);
                    if self.over.is_none() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Writes and keeps time while a packet is being handled. Ready when that has to be broken
    /// off, because the process is being killed or the connection is over.
    pub(crate) fn poll_meanwhile(
        &mut self,
        timer: Pin<&mut Sleep>,
        task: &mut Task<'_>,
    ) -> Poll<Over> {
        self.turn_bytes = 0;
        self.poll_output(task);
        self.poll_time(timer, task, false);
        match self.over.take() {
            Some(over) => Poll::Ready(*over),
            None => Poll::Pending,
        }
    }

    /// Nothing is written any more but the farewell.
    pub(crate) fn begin_closing(&mut self, farewell: Farewell) -> bool {
        let mut rest = VecDeque::new();
        match farewell {
            Farewell::Nothing => {
                self.line.finish(&mut rest, false);
                false
            }
            Farewell::Close { frame, flush } => {
                if !flush {
                    self.writing.truncate(usize::from(self.sent > 0));
                }
                self.line.finish(&mut rest, flush);
                for queued in rest {
                    self.codec.encode(queued, &mut self.writing);
                }
                self.writing.extend(self.codec.frame(|| frame));
                true
            }
        }
    }

    /// Writes the farewell, then waits for the client's close frame (unless `answered`) or the
    /// end of its stream, so that nothing unread turns our last bytes into a reset.
    pub(crate) fn poll_closing(&mut self, answered: &mut bool, task: &mut Task<'_>) -> Poll<()> {
        if self.poll_write_all(task).is_err() {
            return Poll::Ready(());
        }
        let written = self.writing.is_empty() && !self.unflushed;
        let silent = matches!(self.codec, Codec::Encrypted(_));
        if written && (*answered || self.broken || silent) {
            let shut = Pin::new(&mut self.stream).poll_shutdown(task);
            if *answered {
                return shut.map(|_| ());
            }
        }
        while !*answered {
            match self.codec.next(&self.line.metrics) {
                Ok(Some(Incoming::Close(_))) if !self.broken => {
                    *answered = true;
                    return self.poll_closing(answered, task);
                }
                Ok(Some(_)) => {}
                Ok(None) => match self.poll_fill(task) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
                Err(_) => {
                    *self.codec.buffer() = BytesMut::new();
                    self.broken = true;
                }
            }
        }
        Poll::Pending
    }

    fn received(&mut self, incoming: Incoming) -> Option<Next> {
        self.burst += 1;
        match incoming {
            Incoming::Packet(packet) => {
                self.line.metrics.received(self.line.wire).inc();
                if self.line.limits.dump_packets {
                    packet.dump();
                }
                Some(Next::Packet(packet))
            }
            Incoming::Malformed => Some(Next::Malformed),
            Incoming::Nothing => None,
            Incoming::Ping(payload) => {
                self.pong = self.codec.frame(|| Frame::pong(&payload));
                None
            }
            Incoming::Pong => {
                (self.last_pong, self.pinged) = (Instant::now(), None);
                None
            }
            Incoming::Close(said) => {
                let frame = match &said {
                    Some((code, reason)) => Frame::close(Some(*code), reason),
                    None => Frame::close(None, b""),
                };
                let how = Ended::ByPeer(said.map(|(code, _)| code));
                Some(Next::End(Over { how, farewell: Farewell::Close { frame, flush: true } }))
            }
        }
    }

    fn violated(&mut self, violation: Violation) -> Over {
        self.line.metrics.violations.inc();
        self.broken = true;
        let frame = Frame::close(Some(violation.code()), violation.to_string().as_bytes());
        Over {
            how: Ended::Violation(violation.code()),
            farewell: Farewell::Close { frame, flush: true },
        }
    }

    fn end(&mut self, how: Ended, farewell: Farewell) {
        if self.over.is_none() {
            self.over = Some(Box::new(Over { how, farewell }));
        }
    }

    /// Reads once: into the thread's buffer, or when much of a frame is there already the rest of
    /// it into a buffer of exactly its size.
    fn poll_fill(&mut self, task: &mut Task<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let missing = self.codec.missing();
        let buffer = self.codec.buffer();
        let read = if buffer.len() <= COPIED_BYTES {
            SCRATCH.with_borrow_mut(|scratch| {
                if scratch.capacity() < SCRATCH_MIN {
                    scratch.reserve(SCRATCH_BYTES);
                }
                scratch.clear(); // whatever happened before, nobody gets another's bytes
                scratch.extend_from_slice(buffer);
                let read = poll_read_buf(stream, task, scratch);
                match read {
                    Poll::Ready(Ok(1..)) => *buffer = scratch.split(),
                    _ => scratch.clear(),
                }
                read
            })
        } else {
            if buffer.capacity() - buffer.len() < missing {
                let mut own = BytesMut::with_capacity(buffer.len() + missing);
                own.extend_from_slice(buffer);
                *buffer = own;
            }
            poll_read_buf(stream, task, &mut buffer.limit(missing))
        };
        if buffer.is_empty() {
            // An empty slice would keep the thread's buffer alive.
            *buffer = BytesMut::new();
        }
        if let Poll::Ready(Ok(read)) = &read {
            self.line.metrics.bytes_in.inc_by(*read as u64);
        }
        read
    }

    /// Writes what there is until the socket takes no more.
    fn poll_output(&mut self, task: &mut Task<'_>) {
        let mut batches = 0;
        while self.over.is_none() {
            if let Err(error) = self.poll_write_all(task) {
                tracing::trace!(%error, "connection lost");
                return self.end(Ended::Lost, Farewell::Nothing);
            }
            if batches == TURN_BATCHES && self.writing.is_empty() {
                return task.waker().wake_by_ref();
            }
            // While blocked, still notice when the connection is ended from outside.
            let took = match self.writing.is_empty() {
                true => BATCH.with_borrow_mut(|batch| {
                    let took = self.line.take(task, batch);
                    for queued in batch.drain(..) {
                        self.codec.encode(queued, &mut self.writing);
                    }
                    took
                }),
                false => self.line.take_none(task),
            };
            match took {
                Took::Packets => batches += 1,
                Took::Nothing { draining } => {
                    if self.writing.is_empty() {
                        self.writing = VecDeque::new(); // a connection at rest holds no buffer
                    }
                    return self.note_draining(draining);
                }
                Took::End(ending) => return self.ended_from_outside(ending),
            }
        }
    }

    fn ended_from_outside(&mut self, ending: Ending) {
        match ending {
            Ending::Close(close) => {
                let Over { how, farewell } = Over::by_us(&close);
                self.end(how, farewell);
            }
            Ending::Overflow => {
                let frame = Frame::close(Some(1013), b"too slow");
                self.end(Ended::Slow, Farewell::Close { frame, flush: false });
            }
            Ending::Killed | Ending::Gone => self.end(Ended::Lost, Farewell::Nothing),
        }
    }

    fn note_draining(&mut self, draining: bool) {
        if draining && self.drain_at.is_none() {
            // The other half of the grace is for what the sessions do at their end.
            let spread = self.stop.grace() / 2;
            self.drain_at = Some(Instant::now() + spread.mul_f64(rand::random::<f64>()));
        }
    }

    /// Writes `writing` as far as the socket takes it.
    fn poll_write_all(&mut self, task: &mut Task<'_>) -> io::Result<()> {
        loop {
            if self.stalled.is_none()
                && let Some(pong) = self.pong.take()
            {
                self.write_next(pong);
            }
            if self.writing.is_empty() {
                break;
            }
            match self.poll_write_some(task) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.written(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return Ok(());
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(task)? {
                Poll::Ready(()) => (self.unflushed, self.stalled) = (false, None),
                Poll::Pending => {
                    self.stalled.get_or_insert_with(Instant::now);
                }
            }
        }
        Ok(())
    }

    /// Puts a frame before everything that has not begun to be written.
    fn write_next(&mut self, frame: Bytes) {
        let at = usize::from(self.sent > 0).min(self.writing.len());
        self.writing.insert(at, frame);
    }

    fn poll_write_some(&mut self, task: &mut Task<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let first = &self.writing[0][self.sent..];
        if self.writing.len() == 1 {
            return stream.poll_write(task, first);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(first);
        let used = self.writing.len().min(SLICES);
        for (slice, frame) in slices[1..used].iter_mut().zip(self.writing.iter().skip(1)) {
            *slice = IoSlice::new(frame);
        }
        stream.poll_write_vectored(task, &slices[..used])
    }

    fn written(&mut self, mut bytes: usize) {
        self.line.metrics.bytes_out.inc_by(bytes as u64);
        (self.stalled, self.unflushed) = (None, true);
        while let Some(first) = self.writing.front() {
            let left = first.len() - self.sent;
            if bytes < left {
                self.sent += bytes;
                break;
            }
            bytes -= left;
            self.sent = 0;
            self.writing.pop_front();
        }
    }

    /// Does what is due. Deadlines only move forward, so the timer is set again when it fires and
    /// not with every packet.
    fn poll_time(&mut self, mut timer: Pin<&mut Sleep>, task: &mut Task<'_>, reading: bool) {
        loop {
            let due = self.next_deadline();
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(task).is_pending() || self.over.is_some() {
                return;
            }
            let now = Instant::now();
            self.on_time(now, reading, task);
            let due = self.next_deadline();
            timer.as_mut().reset(due.max(now + Duration::from_millis(1)));
        }
    }

    /// When there can be something to do.
    pub(crate) fn next_deadline(&self) -> Instant {
        let limits = &self.line.limits;
        let mut due = match (&self.codec, self.pinged) {
            (Codec::Encrypted(_), _) => self.last_pong + FAR,
            (Codec::WebSocket(_), None) => self.last_pong + limits.ping_interval,
            (Codec::WebSocket(_), Some(at)) => at + limits.pong_timeout,
        };
        if let Some(by) = self.activate_by {
            due = due.min(by);
        }
        if let Some(stalled) = self.stalled {
            due = due.min(stalled + limits.write_deadline);
        }
        if let Some(drain_at) = self.drain_at {
            due = due.min(drain_at).min(Instant::now() + KILL_CHECK);
        }
        due
    }

    fn on_time(&mut self, now: Instant, reading: bool, task: &mut Task<'_>) {
        let line = self.line.clone();
        let limits = &line.limits;
        if self.stalled.is_some_and(|since| now >= since + limits.write_deadline) {
            line.metrics.write_timeouts.inc();
            return self.end(Ended::Slow, Farewell::Nothing);
        }
        if self.drain_at.is_some() && self.stop.killed().is_cancelled() {
            return self.end(Ended::Lost, Farewell::Nothing);
        }
        if self.drain_at.is_some_and(|at| now >= at) {
            let Over { how, farewell } = Over::by_us(&Close::new(1012, "restarting"));
            return self.end(how, farewell);
        }
        if self.activate_by.is_some_and(|by| now >= by) {
            line.metrics.activation_timeouts.inc();
            let Over { how, farewell } = Over::by_us(&Close::new(1008, "not activated"));
            return self.end(how, farewell);
        }
        if matches!(self.codec, Codec::WebSocket(_)) {
            self.keep_alive(now, reading, task);
        }
        if line.wire == crate::Wire::Encrypted && self.last_pong + FAR <= now {
            self.last_pong = now;
        }
    }

    /// Pings, and drops the connection that does not answer.
    fn keep_alive(&mut self, now: Instant, reading: bool, task: &mut Task<'_>) {
        let (interval, timeout) = (self.line.limits.ping_interval, self.line.limits.pong_timeout);
        match self.pinged {
            Some(at) if now >= at + timeout => {
                if reading {
                    self.line.metrics.pong_timeouts.inc();
                    return self.end(Ended::Idle, Farewell::Nothing);
                }
                // Its pong may be there; it is we who do not read.
                self.pinged = Some(now);
            }
            None if now >= self.last_pong + interval => {
                self.pinged = Some(now);
                self.write_next(Frame::ping().into_bytes());
                self.poll_output(task);
            }
            _ => {}
        }
    }
}
