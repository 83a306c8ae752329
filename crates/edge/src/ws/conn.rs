//! One socket's bytes and deadlines, driven by the pump's polls.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;

use super::{
    Close, Ended, Frame, Message, Outbox, Socket,
    codec::{Decoder, Item, Violation},
    outbox::{Ending, Shared, Took},
};
use crate::stream::Stream;

/// Size of a thread's read buffer, and what has to be free in it before a read.
const SCRATCH_BYTES: usize = 64 * 1024;
const SCRATCH_MIN: usize = 16 * 1024;
/// Most that is reserved for a frame before it arrives.
const RESERVE_MAX: usize = 256 * 1024;
/// Frames per write call.
const SLICES: usize = 64;
/// Messages handled before replies are written, so that a burst cannot fill its own outbox.
const BURST: u32 = 32;
/// How often a draining socket looks whether it has to stop at once.
const KILL_CHECK: Duration = Duration::from_millis(200);

thread_local! {
    /// Idle sockets own no read buffer: bytes arrive here and leave with the messages.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// The state of one socket between polls.
pub(super) struct Conn {
    stream: Stream,
    decoder: Decoder,
    outbox: Arc<Shared>,
    /// Whole frames on their way out, the first of them sent up to `sent`.
    writing: VecDeque<Bytes>,
    sent: usize,
    unflushed: bool,
    /// The peer broke the protocol: what it sends now cannot be told apart any more.
    broken: bool,
    /// The answer to the newest ping. Waits here while the peer reads nothing.
    pong: Option<Bytes>,
    burst: u32,
    last_received: Instant,
    last_ping: Instant,
    stalled: Option<Instant>,
    drain_at: Option<Instant>,
    stop: service::Stop,
    /// Boxed: it is empty for as long as the socket lives.
    over: Option<Box<Over>>,
}

/// The session is over; this is how, and what the peer is still told.
pub(super) struct Over {
    pub(super) how: Ended,
    pub(super) farewell: Farewell,
}

/// What is left to be sent.
pub(super) enum Farewell {
    /// Nothing: the connection is dropped.
    Nothing,
    /// A close frame, before it what is queued if `flush`.
    Close { frame: Frame, flush: bool },
}

/// What the pump has to do next.
pub(super) enum Next {
    Handle(Message),
    End(Over),
}

impl Conn {
    pub(super) fn new(socket: Socket, outbox: &Outbox, stop: service::Stop) -> Self {
        let outbox = outbox.shared().clone();
        let mut decoder = Decoder::new(outbox.limits.max_message_bytes);
        decoder.buffer = socket.early;
        let now = Instant::now();
        Self {
            stream: socket.stream,
            decoder,
            outbox,
            writing: VecDeque::new(),
            sent: 0,
            unflushed: false,
            broken: false,
            pong: None,
            burst: 0,
            last_received: now,
            last_ping: now,
            stalled: None,
            drain_at: None,
            stop,
            over: None,
        }
    }

    /// The next message or the end; meanwhile writes, pings and keeps time.
    pub(super) fn poll_next(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        task: &mut Task<'_>,
    ) -> Poll<Next> {
        loop {
            if self.burst >= BURST {
                self.burst = 0;
                self.poll_output(task);
            }
            if let Some(over) = self.over.take() {
                return Poll::Ready(Next::End(*over));
            }
            if self.stalled.is_some() && self.outbox.is_crowded() {
                // A peer that does not read its answers is not asked for more questions.
                self.poll_output(task);
                self.poll_time(timer.as_mut(), task, false);
                self.last_received = Instant::now();
                if self.stalled.is_some() && self.over.is_none() {
                    return Poll::Pending;
                }
                continue;
            }
            match self.decoder.next_item() {
                Ok(Some(item)) => {
                    if let Some(next) = self.received(item) {
                        return Poll::Ready(next);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(violation) => return Poll::Ready(Next::End(self.violated(violation))),
            }
            self.burst = 0;
            self.poll_output(task);
            match self.poll_fill(task) {
                Poll::Ready(Ok(1..)) => self.last_received = Instant::now(),
                Poll::Ready(Ok(0) | Err(_)) => self.end(Ended::Lost, Farewell::Nothing),
                Poll::Pending => {
                    self.poll_time(timer.as_mut(), task, true);
                    if self.over.is_none() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Writes and keeps time while the session handles a message. Ready when that has to be
    /// broken off, because the process is being killed.
    pub(super) fn poll_meanwhile(
        &mut self,
        timer: Pin<&mut Sleep>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        self.poll_output(task);
        self.poll_time(timer, task, false);
        // What the peer sent in the meantime was not read, so it is not idle.
        self.last_received = Instant::now();
        match self.stop.killed().is_cancelled() && self.drain_at.is_some() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Nothing of the session is written any more but its farewell.
    pub(super) fn begin_closing(&mut self, farewell: Farewell) -> bool {
        match farewell {
            Farewell::Nothing => {
                self.outbox.finish(&mut self.writing, false);
                false
            }
            Farewell::Close { frame, flush } => {
                if !flush {
                    self.writing.truncate(usize::from(self.sent > 0));
                }
                self.outbox.finish(&mut self.writing, flush);
                self.writing.push_back(frame.into_bytes());
                true
            }
        }
    }

    /// Writes the farewell, then waits for the peer's close frame (unless `answered`) or the
    /// end of its stream, so that nothing unread turns our last bytes into a reset.
    pub(super) fn poll_closing(&mut self, answered: &mut bool, task: &mut Task<'_>) -> Poll<()> {
        if self.poll_write_all(task).is_err() {
            return Poll::Ready(());
        }
        let written = self.writing.is_empty() && !self.unflushed;
        if written && (*answered || self.broken) {
            let shut = Pin::new(&mut self.stream).poll_shutdown(task);
            if *answered {
                return shut.map(|_| ());
            }
        }
        while !*answered {
            match self.decoder.next_item() {
                Ok(Some(Item::Close(_))) if !self.broken => {
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
                    self.decoder.buffer = BytesMut::new();
                    self.broken = true;
                }
            }
        }
        Poll::Pending
    }

    /// When there can be something to do for a socket that has just opened.
    pub(super) fn first_look(&self) -> Instant {
        self.next_deadline()
    }

    pub(super) fn close_timeout(&self) -> Duration {
        self.outbox.limits.close_timeout
    }

    fn received(&mut self, item: Item) -> Option<Next> {
        let message = match item {
            Item::Text(text) => Message::Text(text),
            Item::Binary(bytes) => Message::Binary(bytes),
            Item::Ping(payload) => {
                self.pong = Some(Frame::pong(&payload).into_bytes());
                self.burst += 1;
                return None;
            }
            // The last two come from opaque decoders only.
            Item::Pong | Item::Oversized => return None,
            Item::Whole(frame) => Message::Binary(frame.payload()),
            Item::Close(said) => {
                let frame = match &said {
                    Some((code, reason)) => Frame::close(Some(*code), reason),
                    None => Frame::close(None, b""),
                };
                let how = Ended::ByPeer(said.map(|(code, _)| code));
                return Some(Next::End(Over {
                    how,
                    farewell: Farewell::Close { frame, flush: true },
                }));
            }
        };
        self.burst += 1;
        self.outbox.metrics.frames_in.inc();
        Some(Next::Handle(message))
    }

    fn violated(&mut self, violation: Violation) -> Over {
        self.outbox.metrics.violations.inc();
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

    /// Reads once, into the thread's buffer unless a frame has already begun.
    fn poll_fill(&mut self, task: &mut Task<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let read = if self.decoder.buffer.is_empty() {
            SCRATCH.with_borrow_mut(|scratch| {
                if scratch.capacity() < SCRATCH_MIN {
                    scratch.reserve(SCRATCH_BYTES);
                }
                let read = poll_read_buf(stream, task, scratch);
                self.decoder.buffer = scratch.split();
                read
            })
        } else {
            let buffer = &mut self.decoder.buffer;
            if buffer.capacity() == buffer.len() {
                let missing = self.decoder.missing();
                self.decoder.buffer.reserve(missing.clamp(SCRATCH_MIN, RESERVE_MAX));
            }
            poll_read_buf(stream, task, &mut self.decoder.buffer)
        };
        if self.decoder.buffer.is_empty() {
            // An empty slice would keep the thread's buffer alive.
            self.decoder.buffer = BytesMut::new();
        }
        if let Poll::Ready(Ok(read)) = &read {
            self.outbox.metrics.bytes_in.inc_by(*read as u64);
        }
        read
    }

    /// Writes what there is until the socket takes no more.
    fn poll_output(&mut self, task: &mut Task<'_>) {
        while self.over.is_none() {
            if let Err(error) = self.poll_write_all(task) {
                tracing::trace!(%error, "socket lost");
                return self.end(Ended::Lost, Farewell::Nothing);
            }
            // While blocked, still notice when the session is ended from outside.
            let took = match self.writing.is_empty() {
                true => self.outbox.take(task, &mut self.writing),
                false => self.outbox.take_none(task),
            };
            match took {
                Took::Frames(frames) => self.outbox.metrics.frames_out.inc_by(frames),
                Took::Nothing { draining } => return self.note_draining(draining),
                Took::End(ending) => return self.ended_from_outside(ending),
            }
        }
    }

    fn ended_from_outside(&mut self, ending: Ending) {
        let too_slow = || Frame::close(Some(1013), b"too slow");
        match ending {
            Ending::Close(Close { code, reason }) => {
                let frame = Frame::close(Some(code), reason.as_bytes());
                self.end(Ended::ByUs(code), Farewell::Close { frame, flush: true });
            }
            Ending::Overflow | Ending::Lagged => {
                self.end(Ended::Slow, Farewell::Close { frame: too_slow(), flush: false });
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
                self.writing.insert(usize::from(self.sent > 0), pong);
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
        self.outbox.metrics.bytes_out.inc_by(bytes as u64);
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
    /// not with every frame.
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

    fn next_deadline(&self) -> Instant {
        let limits = &self.outbox.limits;
        let ping = self.last_received.max(self.last_ping) + limits.ping_interval;
        let mut due = ping.min(self.last_received + limits.idle_timeout);
        if let Some(stalled) = self.stalled {
            due = due.min(stalled + limits.write_timeout);
        }
        if let Some(drain_at) = self.drain_at {
            due = due.min(drain_at).min(Instant::now() + KILL_CHECK);
        }
        due
    }

    fn on_time(&mut self, now: Instant, reading: bool, task: &mut Task<'_>) {
        let limits = self.outbox.limits.clone();
        if self.stalled.is_some_and(|since| now >= since + limits.write_timeout) {
            self.outbox.metrics.write_timeouts.inc();
            return self.end(Ended::Slow, Farewell::Nothing);
        }
        if self.drain_at.is_some() && self.stop.killed().is_cancelled() {
            return self.end(Ended::Lost, Farewell::Nothing);
        }
        if self.drain_at.is_some_and(|at| now >= at) {
            let frame = Frame::close(Some(1012), b"restarting");
            return self.end(Ended::ByUs(1012), Farewell::Close { frame, flush: true });
        }
        if reading && now >= self.last_received + limits.idle_timeout {
            self.outbox.metrics.idle_timeouts.inc();
            let frame = Frame::close(Some(1001), b"idle");
            return self.end(Ended::Idle, Farewell::Close { frame, flush: false });
        }
        if now >= self.last_received.max(self.last_ping) + limits.ping_interval {
            self.last_ping = now;
            if self.writing.is_empty() {
                self.writing.push_back(Frame::ping().into_bytes());
                self.poll_output(task);
            }
            self.shrink();
        }
    }

    /// A socket that has been quiet for a ping interval gives back what bursts have left.
    fn shrink(&mut self) {
        self.outbox.shrink();
        if self.writing.is_empty() {
            self.writing = VecDeque::new();
        }
    }
}
