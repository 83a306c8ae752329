//! An HTTP/1.1 client that shows the answer as it came.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// One whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text, with U+FFFD where it is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: {}", self.status, self.text()))
    }

    /// The JSON body of a 200; anything else is an error that shows the answer.
    pub fn ok(&self) -> anyhow::Result<serde_json::Value> {
        anyhow::ensure!(self.status == 200, "{}: {}", self.status, self.text());
        self.json()
    }

    /// A header's text, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A client of one server; requests take turns on one connection unless
/// [`HttpClient::new_connections`] is chosen. Share it or make many, as the test needs.
#[derive(Debug)]
pub struct HttpClient {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    keep_alive: bool,
    open: Mutex<Option<Connection>>,
}

impl HttpClient {
    /// Speaks plain HTTP.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, keep_alive: true, open: Mutex::new(None) }
    }

    /// Speaks TLS and accepts any certificate.
    pub fn tls(address: SocketAddr) -> Self {
        Self { tls: Some(crate::tls::accept_any()), ..Self::plain(address) }
    }

    /// Opens a connection for every request, as PeerLink's client does.
    pub fn new_connections(self) -> Self {
        Self { keep_alive: false, ..self }
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, path, &json, body.into()).await
    }

    /// Any request; the whole answer is read into memory.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", self.address.to_string());
        if !self.keep_alive {
            request = request.header("connection", "close");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, body) = self.start(request.body(Full::new(body))?).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Sends `request` and returns the answer with its body still arriving.
    pub async fn start(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        if !self.keep_alive {
            let mut connection = self.connect().await?;
            let answer = connection.sender.send_request(request).await?;
            // The body is read after this returns; the connection ends with it.
            connection.driver.take();
            return Ok(answer);
        }
        let mut open = self.open.lock().await;
        let usable = match open.as_mut() {
            Some(connection) => connection.sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            *open = Some(self.connect().await?);
        }
        let connection = open.as_mut().context("opened just now")?;
        Ok(connection.sender.send_request(request).await?)
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Connection::over(stream).await };
        let name = self.address.ip().into();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        Connection::over(connector.connect(name, stream).await?).await
    }
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Option<JoinHandle<()>>,
}

impl Connection {
    async fn over<S>(stream: S) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = async move {
            // The request on the connection reports the error.
            let _ = driver.await;
        };
        #[expect(clippy::disallowed_methods, reason = "a client has no service context")]
        let driver = Some(tokio::spawn(driver));
        Ok(Self { sender, driver })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }
}
