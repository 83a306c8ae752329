//! One conversation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Mail, Shared};

/// Longer lines end the conversation (RFC 5321 section 4.5.3.1.6 allows 1000 bytes).
const LINE_LIMIT: u64 = 4096;
/// What SIZE announces.
const MAIL_LIMIT: usize = 1024 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) async fn serve(stream: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    let mut session = Session {
        stream: BufReader::new(Box::new(stream)),
        shared,
        tls: false,
        user: None,
        from: None,
        to: Vec::new(),
    };
    session.say("220 sink.test ESMTP").await?;
    while let Some(line) = session.line().await? {
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => session.ehlo().await?,
            "HELO" => session.say("250 sink.test").await?,
            "STARTTLS" => session = session.start_tls().await?,
            "AUTH" => session.auth(rest).await?,
            "MAIL" => session.mail(rest).await?,
            "RCPT" => session.rcpt(rest).await?,
            "DATA" => session.data().await?,
            "RSET" => {
                session.reset();
                session.say("250 forgotten").await?;
            }
            "NOOP" => session.say("250 yes").await?,
            "QUIT" => return session.say("221 bye").await,
            _ => session.say("500 what").await?,
        }
    }
    Ok(())
}

struct Session<'s> {
    stream: BufReader<Box<dyn Stream>>,
    shared: &'s Shared,
    tls: bool,
    user: Option<String>,
    from: Option<String>,
    to: Vec<String>,
}

impl Session<'_> {
    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next line without its end; none when the client has gone.
    async fn line(&mut self) -> anyhow::Result<Option<String>> {
        let raw = self.raw_line().await?;
        Ok((!raw.is_empty()).then(|| String::from_utf8_lossy(&raw).trim_end().to_owned()))
    }

    async fn raw_line(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut raw = Vec::new();
        (&mut self.stream).take(LINE_LIMIT).read_until(b'\n', &mut raw).await?;
        ensure!(raw.is_empty() || raw.ends_with(b"\r\n"), "a line without an end");
        Ok(raw)
    }

    async fn ehlo(&mut self) -> anyhow::Result<()> {
        self.say("250-sink.test").await?;
        if self.shared.rules.tls.is_some() && !self.tls {
            self.say("250-STARTTLS").await?;
        } else if self.shared.rules.login.is_some() {
            self.say("250-AUTH PLAIN LOGIN").await?;
        }
        self.say("250-8BITMIME").await?;
        self.say(&format!("250 SIZE {MAIL_LIMIT}")).await
    }

    async fn start_tls(mut self) -> anyhow::Result<Self> {
        let Some(config) = self.shared.rules.tls.clone().filter(|_| !self.tls) else {
            self.say("502 not here").await?;
            return Ok(self);
        };
        self.say("220 go ahead").await?;
        // Whatever came in the clear behind STARTTLS must not count as encrypted (RFC 3207 section 5).
        ensure!(self.stream.buffer().is_empty(), "talks before the handshake");
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let stream = acceptor.accept(self.stream.into_inner()).await?;
        let stream: BufReader<Box<dyn Stream>> = BufReader::new(Box::new(stream));
        Ok(Self { stream, tls: true, user: None, from: None, to: Vec::new(), ..self })
    }

    async fn auth(&mut self, rest: &str) -> anyhow::Result<()> {
        let Some((name, password)) = self.shared.rules.login.clone() else {
            return self.say("502 not here").await;
        };
        let (method, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match method.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let response = if initial.is_empty() {
                    self.ask("").await?
                } else {
                    STANDARD.decode(initial)?
                };
                let mut parts = response.split(|byte| *byte == 0).skip(1);
                let mut part = || parts.next().unwrap_or_default().to_vec();
                (part(), part())
            }
            "LOGIN" => {
                let name = if initial.is_empty() {
                    self.ask("Username:").await?
                } else {
                    STANDARD.decode(initial)?
                };
                (name, self.ask("Password:").await?)
            }
            _ => return self.say("504 no such mechanism").await,
        };
        if given == (name.clone().into_bytes(), password.into_bytes()) {
            self.user = Some(name);
            self.say("235 welcome").await
        } else {
            self.say("535 wrong").await
        }
    }

    async fn ask(&mut self, prompt: &str) -> anyhow::Result<Vec<u8>> {
        self.say(&format!("334 {}", STANDARD.encode(prompt))).await?;
        let Some(line) = self.line().await? else { bail!("gone") };
        Ok(STANDARD.decode(line)?)
    }

    async fn mail(&mut self, rest: &str) -> anyhow::Result<()> {
        let rules = &self.shared.rules;
        if rules.tls.is_some() && !self.tls {
            return self.say("530 STARTTLS first").await;
        }
        if rules.login.is_some() && self.user.is_none() {
            return self.say("530 AUTH first").await;
        }
        let Some(from) = path(rest, "FROM:") else { return self.say("501 no path").await };
        self.reset();
        self.from = Some(from);
        self.say("250 ok").await
    }

    async fn rcpt(&mut self, rest: &str) -> anyhow::Result<()> {
        match path(rest, "TO:") {
            _ if self.from.is_none() => self.say("503 MAIL first").await,
            Some(to) if !to.is_empty() && self.to.len() < 100 => {
                self.to.push(to);
                self.say("250 ok").await
            }
            _ => self.say("501 no path").await,
        }
    }

    async fn data(&mut self) -> anyhow::Result<()> {
        if self.to.is_empty() {
            return self.say("503 RCPT first").await;
        }
        self.say("354 end with a dot").await?;
        let mut raw = Vec::new();
        loop {
            let line = self.raw_line().await?;
            ensure!(!line.is_empty(), "gone inside a mail");
            if line == b".\r\n" {
                break;
            }
            raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            ensure!(raw.len() <= MAIL_LIMIT, "more than SIZE allows");
        }
        let less = |left: usize| left.checked_sub(1);
        if self.shared.put_off.try_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            self.reset();
            return self.say("451 later").await;
        }
        let from = self.from.take().unwrap_or_default();
        let to = std::mem::take(&mut self.to);
        let mail = Arc::new(Mail::new(from, to, self.tls, self.user.clone(), raw));
        self.shared.mails.send_modify(|all| all.push(mail));
        self.say("250 kept").await
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }
}

/// What stands between `<` and `>` after `keyword`.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    let inner = tail.trim_start().strip_prefix('<')?;
    let (path, _) = inner.split_once('>')?;
    head.eq_ignore_ascii_case(keyword).then(|| path.to_owned())
}
