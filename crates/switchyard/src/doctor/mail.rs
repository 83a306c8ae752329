//! The mail server: reached, greeted, encrypted, logged in to. Mail only when asked for.

use std::time::Duration;

use anyhow::Context as _;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error as Refusal;
use lettre::{AsyncTransport as _, Message};
use smtp::{Encryption, Server, Transport};

use super::Finding;
use crate::cli::DoctorMailArgs;

const CHECK: &str = "mail";
const PATIENCE: Duration = Duration::from_secs(10);

/// Talks to the mail server, if one is named.
pub(super) async fn check(args: &DoctorMailArgs) -> Finding {
    let Some(server) = server(args) else {
        return Finding::ok(CHECK, "no server is set; mails become files, or are not sent");
    };
    let place = format!("{}:{}", server.host, server.port);
    let transport = match server.transport(PATIENCE, None) {
        Ok(transport) => transport,
        Err(smtp::Error::NoPassword) => {
            let found = "a name for the mail server is set (PEERBOOK_SMTP_USER) and no password";
            return Finding::broken(CHECK, found, "PEERBOOK_SMTP_PASS=…");
        }
        Err(why) => {
            return Finding::broken(CHECK, format!("{:#}", anyhow::Error::new(why)), "ls -l FILE");
        }
    };
    match transport.test_connection().await {
        Ok(true) => {}
        Ok(false) => {
            let fix = format!("nc -v {} {}", server.host, server.port);
            return Finding::broken(CHECK, format!("{place} hangs up"), fix);
        }
        Err(why) => return explain(&why, &place, &server),
    }
    let login = if server.login().is_some() { " and takes the login" } else { "" };
    let Some(to) = &args.mail_to else {
        return Finding::ok(CHECK, format!("{place} answers{login}; nothing was sent"));
    };
    match send(&transport, args, to).await {
        Ok(()) => Finding::ok(CHECK, format!("{place} took a mail to {to}")),
        Err(why) => match why.downcast_ref::<Refusal>() {
            Some(why) => explain(why, &place, &server),
            None => Finding::broken(CHECK, format!("{why:#}"), "--mail-to you@example.org"),
        },
    }
}

/// The peerbook's mail server.
fn server(args: &DoctorMailArgs) -> Option<Server<'_>> {
    Some(Server {
        host: args.smtp_host.as_deref().filter(|host| !host.is_empty())?,
        port: args.smtp_port,
        user: args.smtp_user.as_deref(),
        password: args.smtp_pass.as_deref(),
        encryption: args.smtp_tls,
        authority: args.smtp_ca.as_deref(),
    })
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

fn explain(why: &Refusal, place: &str, server: &Server<'_>) -> Finding {
    let said = cause(why);
    let fix = match why.status().map(u16::from) {
        Some(530 | 534 | 535 | 538) => "PEERBOOK_SMTP_USER and PEERBOOK_SMTP_PASS".to_owned(),
        Some(_) => "PEERBOOK_MAIL_FROM   # a sender the server lets you use".to_owned(),
        None if why.is_tls() || said.contains("ertificate") => {
            "PEERBOOK_SMTP_CA=FILE   # of an authority of your own".to_owned()
        }
        None if why.is_client() && server.encryption() == Encryption::Required => {
            "PEERBOOK_SMTP_TLS=off   # only for a server on this machine".to_owned()
        }
        None => {
            format!("nc -v {}   # PEERBOOK_SMTP_HOST, PEERBOOK_SMTP_PORT", place.replace(':', " "))
        }
    };
    Finding::broken(CHECK, format!("{place}: {said}"), fix)
}

/// The whole chain: the first link only says that something failed.
fn cause(why: &Refusal) -> String {
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
