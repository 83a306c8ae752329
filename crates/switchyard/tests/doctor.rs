//! `switchyard doctor` away from a stack: mail servers and clocks that are well and that are not.
//! What needs HAProxy and coturn is in `tests/deploy`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use serde_json::Value;
use testkit::process::{Place, Port};
use testkit::smtp_sink::{Rules, SmtpSink};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};

type Outcome = anyhow::Result<()>;

/// The findings of one check.
async fn findings(check: &'static str, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let arguments: Vec<String> =
        ["doctor", "--json"].iter().chain(arguments).map(|part| (*part).to_owned()).collect();
    // The mail server runs on this thread.
    let all = spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Place::new(&[], 0)?.json(&arguments)
    });
    let all = all.await??;
    let checks = all["checks"].as_array().expect("a list").iter();
    Ok(checks.filter(|finding| finding["check"] == check).cloned().collect())
}

async fn mail(arguments: &[&str]) -> anyhow::Result<Value> {
    let mut found = findings("mail", arguments).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    Ok(found.remove(0))
}

#[tokio::test]
async fn a_mail_server_is_greeted_and_gets_mail_only_when_asked() -> Outcome {
    let sink = SmtpSink::start().await?;
    let port = sink.address().port().to_string();
    let server = ["--smtp-host", "127.0.0.1", "--smtp-port", &port];
    let found = mail(&server).await?;
    assert_eq!(found["condition"], "ok", "{found}");
    assert!(sink.all().is_empty(), "it was only to look");

    let found = mail(&[&server[..], &["--mail-to", "ops@example.org"]].concat()).await?;
    assert_eq!(found["condition"], "ok", "{found}");
    let arrived = sink.next_to("ops@example.org").await?;
    assert_eq!(arrived.header("subject"), "switchyard doctor");
    Ok(())
}

#[tokio::test]
async fn a_closed_port_and_a_refused_login_are_told_apart() -> Outcome {
    let closed = Port::reserve()?;
    let port = closed.number().to_string();
    let found = mail(&["--smtp-host", "127.0.0.1", "--smtp-port", &port]).await?;
    assert_eq!(found["condition"], "broken", "{found}");
    assert!(found["fix"].as_str().is_some_and(|fix| fix.contains("SMTP_PORT")), "{found}");

    let login = Some(("me".to_owned(), "secret".to_owned()));
    let sink = SmtpSink::with(Rules { login, tls: None }).await?;
    let port = sink.address().port().to_string();
    let server = ["--smtp-host", "127.0.0.1", "--smtp-port", &port, "--smtp-tls", "off"];
    let with = |password| [&server[..], &["--smtp-user", "me", "--smtp-pass", password]].concat();
    let found = mail(&with("secret")).await?;
    assert_eq!(found["condition"], "ok", "{found}");
    let found = mail(&with("mistaken")).await?;
    assert_eq!(found["condition"], "broken", "{found}");
    assert!(found["fix"].as_str().is_some_and(|fix| fix.contains("SMTP_PASS")), "{found}");
    assert!(!found.to_string().contains("mistaken"), "a password was shown: {found}");
    Ok(())
}

#[tokio::test]
async fn encryption_is_verified() -> Outcome {
    let made = generate_simple_self_signed(vec!["localhost".into()])?;
    let key = made.signing_key.serialize_der().try_into().map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let sink = SmtpSink::with(Rules { tls: Some(Arc::new(config)), login: None }).await?;
    let port = sink.address().port().to_string();
    let server = ["--smtp-host", "localhost", "--smtp-port", &port, "--smtp-tls", "required"];
    let found = mail(&server).await?;
    assert_eq!(found["condition"], "broken", "nobody vouches for it: {found}");
    assert!(found["fix"].as_str().is_some_and(|fix| fix.contains("SMTP_CA")), "{found}");

    let file = std::env::temp_dir().join(format!("doctor-ca-{}.pem", std::process::id()));
    std::fs::write(&file, made.cert.pem())?;
    let ca = file.to_str().expect("a path in UTF-8");
    let found = mail(&[&server[..], &["--smtp-ca", ca]].concat()).await;
    std::fs::remove_file(&file)?;
    let found = found?;
    assert_eq!(found["condition"], "ok", "{found}");
    Ok(())
}

/// A web server whose clock says `date`.
async fn web(date: &'static str) -> anyhow::Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok((address, serving))
}

#[tokio::test]
async fn a_clock_that_is_off_is_noticed() -> Outcome {
    let (address, _serving) = web("Sun, 06 Nov 1994 08:49:37 GMT").await?;
    let found = findings("clock", &["--time-url", &format!("http://{address}/")]).await?;
    let off: Vec<_> = found.iter().filter(|finding| finding["condition"] == "broken").collect();
    assert_eq!(off.len(), 1, "{found:?}");
    assert!(off[0]["found"].as_str().is_some_and(|found| found.contains("ahead of")), "{off:?}");
    Ok(())
}

#[tokio::test]
async fn a_host_that_serves_nothing_is_broken_everywhere() -> Outcome {
    let closed = Port::reserve()?;
    let turn = format!("turn:127.0.0.1:{}?transport=tcp", closed.number());
    let pair = ["--turn", &turn, "--turn-user", "a", "--turn-password", "b"];
    let found = findings("turn over tcp", &pair).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["condition"], "broken", "{found:?}");
    assert!(found[0]["fix"].as_str().is_some_and(|fix| fix.starts_with("ss ")), "{found:?}");
    Ok(())
}

#[test]
fn nonsense_is_refused() -> Outcome {
    let place = Place::new(&[], 0)?;
    let output = place.run(&["doctor", "--mail-to", "a@b"])?;
    assert_eq!(output.status.code(), Some(2));
    // Half a pair, as an environment may have it.
    for half in [
        &["--smtp-host", "127.0.0.1", "--smtp-user", "me"][..],
        &["--turn", "turn:127.0.0.1", "--turn-user", "me"],
    ] {
        let all = place.json(&[&["doctor", "--json"], half].concat())?;
        assert!(all.to_string().contains("and no password"), "{all:#}");
    }
    let missing = place.run(&["doctor", "--certificate", "/nonexistent"])?;
    assert_eq!(missing.status.code(), Some(1));
    Ok(())
}
