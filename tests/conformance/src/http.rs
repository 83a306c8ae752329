//! One HTTP/1.1 request on a connection of its own, every byte of it under control.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A debug build storing 20 MB on a busy machine stays well below.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What to send.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: Option<Vec<u8>>,
    /// Send the body chunked, in pieces of this size.
    pub(crate) chunked: Option<usize>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends, and reads the answer to its end. An answer may come before all is sent.
pub(crate) async fn exchange(
    address: SocketAddr,
    request: &Request<'_>,
) -> anyhow::Result<Response> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    let (mut reader, mut writer) = stream.into_split();
    let wire = request.wire(address);
    let send = async {
        // A server that refuses a body need not read it: the answer says how it went.
        writer.write_all(&wire).await.ok();
        std::future::pending::<()>().await;
    };
    let receive = async {
        let mut answer = Vec::new();
        let end = reader.read_to_end(&mut answer).await;
        parse(&answer, request.method == "HEAD").with_context(|| format!("connection: {end:?}"))
    };
    tokio::select! {
        () = send => bail!("sending never ends by itself"),
        answer = tokio::time::timeout(ANSWER_WITHIN, receive) => answer.context("no answer")?,
    }
}

impl Request<'_> {
    fn wire(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", self.method, self.path);
        for (name, value) in self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            head += "Connection: close\r\n";
        }
        let Some(body) = &self.body else { return (head + "\r\n").into_bytes() };
        let Some(size) = self.chunked else {
            head += &format!("Content-Length: {}\r\n\r\n", body.len());
            return [head.as_bytes(), body].concat();
        };
        let mut wire = (head + "Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for piece in body.chunks(size) {
            wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            wire.extend_from_slice(piece);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        wire
    }
}

fn parse(answer: &[u8], head_only: bool) -> anyhow::Result<Response> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.with_context(|| format!("no head in {} bytes", answer.len()))?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status: status.parse()?, headers, body: Vec::new() };
    let rest = &answer[end + 4..];
    if head_only {
        return Ok(response);
    }
    response.body = if response.header("transfer-encoding").is_some() {
        unchunk(rest)?
    } else {
        let length = response.header("content-length").map_or(Ok(rest.len()), str::parse)?;
        rest.get(..length).context("the body is cut short")?.to_vec()
    };
    Ok(response)
}

fn unchunk(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("no chunk size")?;
        let size = std::str::from_utf8(&rest[..line])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16)?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(..size).context("a chunk is cut short")?);
        rest = rest.get(size + 2..).context("a chunk has no end")?;
    }
}
