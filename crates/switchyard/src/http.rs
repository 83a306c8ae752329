//! One HTTP request to a service on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer we ask for is bigger.
const ANSWER_MAX: usize = 8 << 20;

/// An answer: status and body.
pub(crate) struct Answer {
    /// 200 and the like.
    pub(crate) status: u16,
    /// All of it.
    pub(crate) body: Vec<u8>,
    /// The server's clock.
    pub(crate) date: Option<String>,
}

/// `GET path`.
pub(crate) async fn get(to: SocketAddr, path: &str, within: Duration) -> anyhow::Result<Answer> {
    send(to, Method::GET, path, Vec::new(), within).await
}

/// `POST path` with a JSON body.
pub(crate) async fn post(
    to: SocketAddr,
    path: &str,
    body: Vec<u8>,
    within: Duration,
) -> anyhow::Result<Answer> {
    send(to, Method::POST, path, body, within).await
}

async fn send(
    to: SocketAddr,
    method: Method,
    path: &str,
    body: Vec<u8>,
    within: Duration,
) -> anyhow::Result<Answer> {
    timeout(within, exchange(to, method, path, body))
        .await
        .with_context(|| format!("no answer from {to}{path} within {within:?}"))?
}

async fn exchange(
    to: SocketAddr,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("cannot reach {to}"))?;
    over(stream, &to.to_string(), method, path, body).await
}

/// One request over a connection of its own.
///
/// # Errors
/// When the other side speaks no HTTP, breaks off, or answers with more than 8 MiB.
pub(crate) async fn over<S>(
    stream: S,
    host: &str,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(&method).uri(path).header(header::HOST, host);
    if method == Method::POST {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let talk = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let date = response.headers().get(header::DATE);
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|why| anyhow::anyhow!(why))?.to_bytes().to_vec();
        anyhow::Ok(Answer { status, body, date })
    };
    // The connection has to be driven while we talk; dropping the sender ends it.
    let (_, answer) = tokio::join!(connection, talk);
    answer
}
