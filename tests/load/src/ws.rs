//! The client's side of a WebSocket, as little of it as a generator needs.

use anyhow::{bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::target::Target;

/// A masked frame of text, ready to be sent any number of times.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    message(0x81, payload)
}

/// As [`text`], with any first byte.
pub(crate) fn message(first: u8, payload: &[u8]) -> Vec<u8> {
    let key: [u8; 4] = rand::random();
    let mut frame = vec![first];
    match payload.len() {
        small @ 0..126 => frame.push(0x80 | small as u8),
        middle @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        big => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(big as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Shakes hands; what has come behind the server's answer is returned.
pub(crate) async fn upgrade(
    stream: &mut TcpStream,
    path: &str,
    subprotocol: Option<&str>,
) -> anyhow::Result<Vec<u8>> {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    if let Some(subprotocol) = subprotocol {
        request += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes()).await?;
    let mut buffer = Vec::with_capacity(512);
    let end = loop {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "closed during the handshake");
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let refused = || String::from_utf8_lossy(&buffer).into_owned();
    ensure!(buffer.starts_with(b"HTTP/1.1 101 "), "not upgraded: {}", refused());
    buffer.drain(..end);
    Ok(buffer)
}

/// An open WebSocket.
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens the `nth` WebSocket to the target.
    pub(crate) async fn open(target: &Target, nth: usize) -> anyhow::Result<Self> {
        Self::open_at(target, nth, "/").await
    }

    /// As [`Socket::open`], at a path of the target.
    pub(crate) async fn open_at(target: &Target, nth: usize, path: &str) -> anyhow::Result<Self> {
        let mut stream = target.connect(nth).await?;
        let buffer = upgrade(&mut stream, path, None).await?;
        Ok(Self { stream, buffer })
    }

    /// Sends a frame made by [`text`], or several in a row.
    pub(crate) async fn send(&mut self, frames: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(frames).await?)
    }

    /// Waits for more and hands every whole data frame's payload to `see`. The number of them
    /// may be 0. Pings are answered; a close is an error.
    pub(crate) async fn receive(&mut self, mut see: impl FnMut(&[u8])) -> anyhow::Result<()> {
        if self.buffer.capacity() < 1024 {
            self.buffer.reserve(16 * 1024);
        }
        let seen = self.scan(&mut see).await?;
        if seen > 0 {
            return Ok(());
        }
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server hung up");
        self.scan(&mut see).await?;
        Ok(())
    }

    /// As [`Socket::receive`], without waiting: only what has arrived already.
    pub(crate) async fn receive_ready(&mut self, mut see: impl FnMut(&[u8])) -> anyhow::Result<()> {
        loop {
            if self.buffer.capacity() == self.buffer.len() {
                self.buffer.reserve(16 * 1024);
            }
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => bail!("the server hung up"),
                Ok(_) => self.scan(&mut see).await?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
        }
    }

    /// Waits until there may be more to receive.
    pub(crate) async fn readable(&self) -> anyhow::Result<()> {
        Ok(self.stream.readable().await?)
    }

    async fn scan(&mut self, see: &mut impl FnMut(&[u8])) -> anyhow::Result<usize> {
        let (mut at, mut seen) = (0, 0);
        while let Some((opcode, start, end)) = frame(&self.buffer[at..]) {
            let payload = &self.buffer[at + start..at + end];
            match opcode {
                0x1 | 0x2 => {
                    see(payload);
                    seen += 1;
                }
                // An empty pong with an all-zero mask answers any ping well enough.
                0x9 => self.stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?,
                0xa => {}
                _ => bail!("unexpected frame: {}", String::from_utf8_lossy(payload)),
            }
            at += end;
        }
        self.buffer.drain(..at);
        Ok(seen)
    }

    /// Hangs up without the closing handshake's second half.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await?;
        Ok(self.stream.shutdown().await?)
    }
}

/// The first whole unmasked frame: opcode, where its payload starts and ends.
pub(crate) fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, start) = match second & 0x7f {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        small => (small.into(), 2),
    };
    (bytes.len() >= start + length).then_some((first & 0x0f, start, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_at_every_length() {
        assert_eq!(frame(&[0x81, 2, b'h', b'i', 0x89]), Some((1, 2, 4)));
        assert_eq!(frame(&[0x81, 2, b'h']), None);
        let mut long = vec![0x82, 126, 1, 0];
        long.resize(4 + 256, 7);
        assert_eq!(frame(&long), Some((2, 4, 260)));
        assert_eq!(text(&[7; 200]).len(), 4 + 4 + 200);
    }
}
