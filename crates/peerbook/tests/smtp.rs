//! Mail over a real SMTP conversation: encryption, login, busy and dead servers.
#![allow(missing_docs, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::process::{Builder, Service};
use testkit::smtp_sink::{Rules, SmtpSink};

type Outcome = anyhow::Result<()>;

const TO: &str = "a@example.org";

fn peerbook(database: &Database, port: u16) -> Builder {
    Service::named("peerbook")
        .database(&database.url())
        .set("PUBLIC_URL", "https://book.example.org")
        .environment("PB_SMTP_HOST", "localhost")
        .environment("PB_SMTP_PORT", port)
}

async fn ask(service: &Service) -> Outcome {
    let body = format!("{{\"fp\":\"A\",\"email\":\"{TO}\",\"name\":\"alpha\"}}");
    let answer = HttpClient::plain(service.address()).post("/verify", body).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_out_encrypted_and_logged_in() -> Outcome {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let login = Some(("switchyard".to_owned(), "s3cret".to_owned()));
    let sink = SmtpSink::with(Rules { tls: Some(Arc::new(tls)), login }).await?;
    let ca = std::env::temp_dir().join(format!("peerbook-ca-{}.pem", std::process::id()));
    std::fs::write(&ca, made.cert.pem())?;
    let database = Database::fresh().await?;
    let service = peerbook(&database, sink.address().port())
        .environment("PB_SMTP_USER", "switchyard")
        .environment("PB_SMTP_PASS", "s3cret")
        .set("SMTP_CA", ca.display())
        .start()
        .await?;
    ask(&service).await?;
    let mail = sink.next_to(TO).await?;
    assert!(mail.tls, "STARTTLS is demanded where there is a login");
    assert_eq!(mail.user.as_deref(), Some("switchyard"));
    assert_eq!(mail.from, "peerbook@book.example.org");
    assert_eq!(mail.header("Subject"), "Pending changes to your peerbook");
    assert!(mail.header("Content-Type").starts_with("multipart/alternative"));
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert!(mail.text().contains("https://book.example.org/pb/"), "{}", mail.text());
    assert!(mail.html().contains("href=\"https://book.example.org/pb/"), "{}", mail.html());
    std::fs::remove_file(ca)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mail_leaves_unencrypted_where_there_is_a_login() -> Outcome {
    let sink = SmtpSink::start().await?;
    let database = Database::fresh().await?;
    let service = peerbook(&database, sink.address().port())
        .environment("PB_SMTP_USER", "switchyard")
        .environment("PB_SMTP_PASS", "s3cret")
        .start()
        .await?;
    ask(&service).await?;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while service.metric("peerbook_mails_total").await.unwrap_or_default() < 1.0 {
        anyhow::ensure!(std::time::Instant::now() < end, "no attempt\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(sink.all().is_empty(), "a server that offers no STARTTLS gets no password");
    assert!(service.log().contains("mail not sent"), "{}", service.log());
    assert!(!service.log().contains("s3cret"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_gets_the_mail_later_and_a_restart_loses_none() -> Outcome {
    let sink = SmtpSink::start().await?;
    sink.put_off(1);
    let database = Database::fresh().await?;
    let mut service = peerbook(&database, sink.address().port()).start().await?;
    ask(&service).await?;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while service.metric("peerbook_mails_total").await.unwrap_or_default() < 1.0 {
        anyhow::ensure!(std::time::Instant::now() < end, "no attempt\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.kill();
    service.start_again().await?;
    let mail = sink.next_to_within(Duration::from_secs(40), TO).await?;
    let mail = mail.ok_or_else(|| anyhow::anyhow!("no mail\n{}", service.log()))?;
    assert!(mail.link().starts_with("https://book.example.org/pb/"), "{}", mail.text());
    let path = mail.link_path();
    let page = HttpClient::plain(service.address()).get(&path).await?;
    assert_eq!(page.status, 200, "the link was made when the mail was");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_contradict_each_other_fail_the_start() -> Outcome {
    let database = Database::fresh().await?;
    for (name, value) in [("PB_SMTP_USER", "switchyard"), ("PEERBOOK_MAIL_DIR", "/nonexistent/x")] {
        // Whoever sees it ready sees a process that was about to end.
        let started = peerbook(&database, 25).environment(name, value).start().await;
        assert!(started.is_err(), "{name}");
    }
    Ok(())
}
