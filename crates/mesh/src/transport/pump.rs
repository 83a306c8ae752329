//! Writes one subscriber's events to its connection, many at once, until either side has enough.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use edge::{Raw, Stream};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::domain::stream::{Outbox, Took, shrink};

/// Events per write call.
const SLICES: usize = 64;

/// One subscriber. `H` lives as long as it is there.
pub(super) struct Pump<H> {
    stream: Stream,
    outbox: Arc<Outbox>,
    /// What was taken of the outbox, the first of it written up to `written`.
    out: VecDeque<Bytes>,
    written: usize,
    _held: H,
}

impl<H> Pump<H> {
    /// Begins with the answer's head and `first`.
    pub(super) fn new(
        Raw { head, stream }: Raw,
        first: impl Iterator<Item = Bytes>,
        outbox: Arc<Outbox>,
        held: H,
    ) -> Self {
        let out = std::iter::once(head).chain(first).collect();
        Self { stream, outbox, out, written: 0, _held: held }
    }

    /// Writes all there is; ready when there will be no more.
    fn poll_written(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.out.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut used = 0;
                for (slice, event) in slices.iter_mut().zip(&self.out) {
                    let from = if used == 0 { self.written } else { 0 };
                    *slice = IoSlice::new(&event[from..]);
                    used += 1;
                }
                let stream = Pin::new(&mut self.stream);
                let count = ready!(stream.poll_write_vectored(task, &slices[..used]))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.advance(count);
            }
            match self.outbox.take(&mut self.out, task) {
                Took::Events => {}
                Took::Nothing => {
                    shrink(&mut self.out);
                    ready!(Pin::new(&mut self.stream).poll_flush(task))?;
                    return Poll::Pending;
                }
                Took::End => return Pin::new(&mut self.stream).poll_shutdown(task),
            }
        }
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.out.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.out.pop_front();
        }
    }

    /// Ready when the client has gone. Nothing it sends means anything.
    fn poll_gone(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 64];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(task, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<H: Unpin> Future for Pump<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let written = this.poll_written(task).is_ready();
        if written || this.poll_gone(task).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<H> Drop for Pump<H> {
    fn drop(&mut self) {
        self.outbox.close();
    }
}
