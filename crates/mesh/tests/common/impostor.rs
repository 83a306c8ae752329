//! A server that answers as it is told: for nodes that are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ed25519_dalek::{Signer as _, SigningKey};
use proto::mesh::descriptor::Signed;
use proto::mesh::{hex, identity};
use testkit::process::Port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is written back for a path, before the connection is closed.
pub(crate) type Answer = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// The server; ends with this.
pub(crate) struct Impostor {
    pub(crate) port: Port,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Impostor {
    /// Answers on a port of `127.0.0.1`.
    pub(crate) async fn start(
        port: Port,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(port.address()).await?;
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, count): (Arc<Answer>, _) = (Arc::new(answer), asked.clone());
        #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer.clone()));
            }
        });
        Ok(Self { port, asked, serving })
    }

    /// Connections so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<Answer>) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    // The other side may have heard enough.
    let _ = stream.write_all(&answer(path)).await;
    let _ = stream.shutdown().await;
}

/// A whole answer of 200.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A descriptor as the key of `seed` signs it; its stamp has eight bits.
pub(crate) fn descriptor(seed: u8, network: &str, url: Option<&str>) -> anyhow::Result<Signed> {
    let signing = SigningKey::from_bytes(&[seed; 32]);
    let key = signing.verifying_key().to_bytes();
    let stamp = identity::stamp(network, &key).mine(u64::MAX >> 8, 0, 1 << 20);
    let (nonce, _) = anyhow::Context::context(stamp, "no stamp")?;
    let sign = |message: &[u8]| signing.sign(message).to_bytes();
    Ok(Signed::new(&key, network, url, nonce, now_s(), sign))
}

/// What an honest node answers to `/mesh/hello`.
pub(crate) fn hello(seed: u8, network: &str, url: &str, path: &str) -> String {
    let asked = path.split("c=").nth(1).unwrap_or_default();
    let signing = SigningKey::from_bytes(&[seed; 32]);
    let ts = u64::try_from(now_s()).unwrap_or(0);
    let signature = signing.sign(identity::hello(network, url, asked, ts).as_bytes());
    let k = hex(&signing.verifying_key().to_bytes());
    serde_json::json!({ "k": k, "url": url, "ts": ts, "sig": hex(&signature.to_bytes()) })
        .to_string()
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "a test has no service context")]
pub(crate) fn now_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}
