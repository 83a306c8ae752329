//! The mail server: reached, greeted, encrypted, logged in to. Mail only when asked for.

use std::time::Duration;

use anyhow::Context as _;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{self, AsyncSmtpTransport};
use lettre::{AsyncTransport as _, Message, Tokio1Executor};

use super::Finding;
use crate::cli::{DoctorMailArgs, SmtpTls};

const CHECK: &str = "mail";
const PATIENCE: Duration = Duration::from_secs(10);

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Talks to the mail server, if one is named.
pub(super) async fn check(args: &DoctorMailArgs) -> Finding {
    let Some(host) = args.smtp_host.as_deref().filter(|host| !host.is_empty()) else {
        return Finding::ok(CHECK, "no server is set; mails become files, or are not sent");
    };
    let place = format!("{host}:{}", args.smtp_port);
    if login(args).is_some() && args.smtp_pass.as_ref().is_none_or(String::is_empty) {
        let found = "a name for the mail server is set (PEERBOOK_SMTP_USER) and no password";
        return Finding::broken(CHECK, found, "PEERBOOK_SMTP_PASS=…");
    }
    let transport = match transport(args, host) {
        Ok(transport) => transport,
        Err(why) => return Finding::broken(CHECK, format!("{why:#}"), "ls -l FILE"),
    };
    match transport.test_connection().await {
        Ok(true) => {}
        Ok(false) => {
            let fix = format!("nc -v {host} {}", args.smtp_port);
            return Finding::broken(CHECK, format!("{place} hangs up"), fix);
        }
        Err(why) => return explain(&why, &place, args),
    }
    let login = if login(args).is_some() { " and takes the login" } else { "" };
    let Some(to) = &args.mail_to else {
        return Finding::ok(CHECK, format!("{place} answers{login}; nothing was sent"));
    };
    match send(&transport, args, to).await {
        Ok(()) => Finding::ok(CHECK, format!("{place} took a mail to {to}")),
        Err(why) => match why.downcast_ref::<smtp::Error>() {
            Some(why) => explain(why, &place, args),
            None => Finding::broken(CHECK, format!("{why:#}"), "--mail-to you@example.org"),
        },
    }
}

fn transport(args: &DoctorMailArgs, host: &str) -> anyhow::Result<Transport> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(path) = &args.smtp_ca {
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let authority = Certificate::from_pem(&pem)
            .with_context(|| format!("{} holds no certificate", path.display()))?;
        parameters = parameters.add_root_certificate(authority);
    }
    let parameters = parameters.build_rustls().context("TLS towards the mail server")?;
    let tls = match when(args) {
        SmtpTls::Off => Tls::None,
        SmtpTls::Offered => Tls::Opportunistic(parameters),
        SmtpTls::Required => Tls::Required(parameters),
        SmtpTls::Implicit => Tls::Wrapper(parameters),
    };
    let mut builder =
        Transport::builder_dangerous(host).port(args.smtp_port).tls(tls).timeout(Some(PATIENCE));
    if let (Some(user), Some(password)) = (login(args), &args.smtp_pass) {
        builder = builder.credentials(Credentials::new(user.to_owned(), password.clone()));
    }
    Ok(builder.build())
}

/// The name to log in with; an empty one counts as none.
fn login(args: &DoctorMailArgs) -> Option<&str> {
    args.smtp_user.as_deref().filter(|user| !user.is_empty())
}

/// As the peerbook decides it.
fn when(args: &DoctorMailArgs) -> SmtpTls {
    let unset = if login(args).is_some() { SmtpTls::Required } else { SmtpTls::Offered };
    args.smtp_tls.unwrap_or(unset)
}

async fn send(transport: &Transport, args: &DoctorMailArgs, to: &str) -> anyhow::Result<()> {
    let to: Mailbox = to.parse().with_context(|| format!("`{to}` is no mail address"))?;
    let from = match &args.mail_from {
        Some(from) => from.parse().with_context(|| format!("`{from}` is no mail address"))?,
        None => to.clone(),
    };
    let mail = Message::builder()
        .from(from)
        .to(to)
        .subject("switchyard doctor")
        .body("Mail from this stack arrives.\n".to_owned())?;
    transport.send(mail).await?;
    Ok(())
}

fn explain(why: &smtp::Error, place: &str, args: &DoctorMailArgs) -> Finding {
    let said = cause(why);
    let fix = match why.status().map(u16::from) {
        Some(530 | 534 | 535 | 538) => "PEERBOOK_SMTP_USER and PEERBOOK_SMTP_PASS".to_owned(),
        Some(_) => "PEERBOOK_MAIL_FROM   # a sender the server lets you use".to_owned(),
        None if why.is_tls() || said.contains("ertificate") => {
            "PEERBOOK_SMTP_CA=FILE   # of an authority of your own".to_owned()
        }
        None if why.is_client() && when(args) == SmtpTls::Required => {
            "PEERBOOK_SMTP_TLS=off   # only for a server on this machine".to_owned()
        }
        None => {
            format!("nc -v {}   # PEERBOOK_SMTP_HOST, PEERBOOK_SMTP_PORT", place.replace(':', " "))
        }
    };
    Finding::broken(CHECK, format!("{place}: {said}"), fix)
}

/// The whole chain: the first link only says that something failed.
fn cause(why: &smtp::Error) -> String {
    let mut parts = vec![why.to_string()];
    let mut next = std::error::Error::source(why);
    while let Some(why) = next {
        let part = why.to_string();
        if !parts.iter().any(|known| known.contains(&part)) {
            parts.push(part);
        }
        next = why.source();
    }
    parts.join(": ")
}
