//! The admin port: is it alive, is it ready, what does it count.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TextEncoder;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::Context;

/// Probes and scrapers at one time; more than any honest set-up has.
const MAX_CONNECTIONS: usize = 64;

/// Opens the admin port and serves it until the process is killed: it outlives the drain, so
/// that readiness can be seen to end. `off` opens nothing.
pub(crate) async fn start(listen: &str, cx: &Context) -> anyhow::Result<Option<SocketAddr>> {
    if listen == "off" {
        return Ok(None);
    }
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on the admin address {listen}"))?;
    let address = listener.local_addr()?;
    let (killed, cx) = (cx.stop.killed().clone(), cx.clone());
    detach(async move {
        tokio::select! {
            () = accept(listener, cx) => {}
            () = killed.cancelled() => {}
        }
    });
    Ok(Some(address))
}

#[expect(clippy::disallowed_methods, reason = "the drain must not wait for the admin port")]
fn detach(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

async fn accept(listener: TcpListener, cx: Context) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files: the next one to close makes room.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let cx = cx.clone();
        detach(async move {
            let answer = service_fn(move |request| std::future::ready(answer(&request, &cx)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(why) = connection.await {
                tracing::debug!(%why, "admin connection ended");
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, cx: &Context) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n"));
    }
    let good_or_503 = |good| if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(match request.uri().path() {
        "/livez" if cx.is_alive() => reply(StatusCode::OK, "text/plain", "ok\n"),
        "/livez" => reply(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "an essential task panicked; see the log\n",
        ),
        "/readyz" | "/healthz" => {
            let report = cx.ready.report();
            let body = serde_json::to_vec(&report).expect("plain data serialises");
            reply(good_or_503(report.ready), "application/json", body)
        }
        "/metrics" => match TextEncoder::new().encode_to_string(&cx.metrics.gather()) {
            Ok(text) => reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(why) => {
                tracing::error!(%why, "metrics cannot be written");
                reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "see the log\n")
            }
        },
        _ => reply(StatusCode::NOT_FOUND, "text/plain", "/livez /readyz /metrics\n"),
    })
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    #[tokio::test]
    async fn probes_follow_gates_and_drain() {
        let cx = Context::for_tests();
        let gate = cx.ready.gate("database");
        let address = start("127.0.0.1:0", &cx).await.expect("a port is free").expect("it is on");
        assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
        let closed = ask(address, "GET /readyz").await;
        assert!(closed.starts_with("HTTP/1.1 503") && closed.contains("starting"), "{closed}");
        gate.open();
        assert!(ask(address, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        cx.stop.leaving().cancel();
        assert!(ask(address, "GET /readyz").await.starts_with("HTTP/1.1 503"));
        assert!(ask(address, "GET /metrics").await.contains("service_tasks 0"));
        assert!(ask(address, "GET /other").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /livez").await.starts_with("HTTP/1.1 405"));
        cx.stop.killed().cancel();
    }

    #[tokio::test]
    async fn a_taken_address_fails_the_start_and_off_opens_nothing() {
        let cx = Context::for_tests();
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = taken.local_addr().expect("it is bound").to_string();
        assert!(start(&address, &cx).await.is_err());
        assert_eq!(start("off", &cx).await.expect("nothing to fail"), None);
    }
}
