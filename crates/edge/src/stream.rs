//! One connection's bytes, plain or inside TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

use crate::listener::Permit;

/// A connection. One that was accepted holds its place under the connection limits until it is
/// dropped.
pub struct Stream {
    io: Io,
    _permit: Option<Permit>,
}

enum Io {
    Plain(TcpStream),
    /// Boxed: a TLS session is over a kilobyte, which plain connections must not pay.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream, permit: Permit) -> Self {
        Self { io: Io::Plain(tcp), _permit: Some(permit) }
    }

    pub(crate) fn tls(tls: TlsStream<TcpStream>, permit: Permit) -> Self {
        Self { io: Io::Tls(Box::new(tls)), _permit: Some(permit) }
    }

    /// A connection of our own making.
    pub fn dialed(tls: tokio_rustls::client::TlsStream<TcpStream>) -> Self {
        Self { io: Io::Tls(Box::new(tls.into())), _permit: None }
    }

    /// Waits for the first byte and leaves it there; 0 bytes are the end of the stream. `None`
    /// inside TLS, where nothing can be looked at before it is read.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn peek(&self, first: &mut [u8; 1]) -> io::Result<Option<usize>> {
        match &self.io {
            Io::Plain(tcp) => tcp.peek(first).await.map(Some),
            Io::Tls(_) => Ok(None),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Io::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Io::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
