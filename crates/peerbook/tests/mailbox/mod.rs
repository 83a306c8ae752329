//! A peerbook with a mail directory, and what a browser and an authenticator do with it.
#![allow(dead_code, missing_docs, reason = "a test; not every file uses everything")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use sha1::Sha1;
use testkit::database::Database;
use testkit::http_client::{Answer, HttpClient};
use testkit::process::Service;

/// Longest wait for a mail; the outbox is looked at at once, on a busy machine a little later.
const MAIL_WITHIN: Duration = Duration::from_secs(20);

pub(crate) const PUBLIC_URL: &str = "https://book.example.org";

pub(crate) struct Peerbook {
    pub(crate) service: Service,
    pub(crate) http: HttpClient,
    pub(crate) database: Database,
    directory: PathBuf,
}

impl Peerbook {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let database = Database::fresh().await?;
        let directory = std::env::temp_dir().join(format!("peerbook-mail-{}", std::process::id()));
        let directory = directory.join(format!("{:x}", rand::random::<u64>()));
        std::fs::create_dir_all(&directory)?;
        let mut builder = Service::named("peerbook")
            .database(&database.url())
            .set("PUBLIC_URL", PUBLIC_URL)
            .set("MAIL_DIR", directory.display());
        for (name, value) in settings {
            builder = builder.set(name, value);
        }
        let service = builder.start().await?;
        let http = HttpClient::plain(service.address());
        Ok(Self { service, http, database, directory })
    }

    /// `POST /verify`: a peer asks to be known.
    pub(crate) async fn ask(&self, fp: &str, email: &str, name: &str) -> anyhow::Result<()> {
        let body = serde_json::json!({ "fp": fp, "email": email, "name": name, "kind": "webexec" });
        let answer = self.http.post("/verify", body.to_string()).await?;
        anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        Ok(())
    }

    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.form_from(path, fields, &[]).await
    }

    pub(crate) async fn form_from(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let headers = [&[kind], headers].concat();
        self.http.send(Method::POST, path, &headers, body.into()).await
    }

    /// The mails so far, oldest first, with quoted-printable undone.
    pub(crate) fn mails(&self) -> anyhow::Result<Vec<String>> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&self.directory)?
            .map(|e| Ok(e?.path()))
            .collect::<anyhow::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
        paths.sort();
        paths.iter().map(|path| read_mail(path)).collect()
    }

    /// Waits until there are `count` mails.
    pub(crate) async fn mail(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let end = Instant::now() + MAIL_WITHIN;
        loop {
            let mails = self.mails()?;
            if mails.len() >= count {
                return Ok(mails);
            }
            if Instant::now() > end {
                anyhow::bail!("{} of {count} mails\n{}", mails.len(), self.service.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The token in the newest of `count` mails.
    pub(crate) async fn token(&self, count: usize) -> anyhow::Result<String> {
        let mails = self.mail(count).await?;
        link(mails.last().context("a mail")?).map(|(_, token)| token)
    }

    /// Has a peer ask, and returns the token its user was mailed.
    pub(crate) async fn token_for(&self, fp: &str, email: &str) -> anyhow::Result<String> {
        let before = self.mails()?.len();
        self.ask(fp, email, "alpha").await?;
        self.token(before + 1).await
    }

    /// What the page lists of one peer.
    pub(crate) async fn verified(&self, token: &str, fp: &str) -> anyhow::Result<Option<bool>> {
        let listed = self.http.get(&format!("/list/{token}")).await?.ok()?;
        let found = listed.as_array().and_then(|all| all.iter().find(|peer| peer["fp"] == fp));
        Ok(found.and_then(|peer| peer["verified"].as_bool()))
    }
}

impl Drop for Peerbook {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn read_mail(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.replace("=\r\n", "").replace("=3D", "="))
}

/// Page and token of the first link in a mail.
pub(crate) fn link(mail: &str) -> anyhow::Result<(String, String)> {
    let start = mail.find("https://").context("no link")?;
    let link = mail[start..].split_whitespace().next().context("no link")?;
    let rest = link.strip_prefix(PUBLIC_URL).with_context(|| format!("{link} is elsewhere"))?;
    let (page, token) = rest[1..].split_once('/').context("no token")?;
    Ok((page.to_owned(), token.to_owned()))
}

/// The token the page's forms post to.
pub(crate) fn next_token(page: &str) -> anyhow::Result<String> {
    for prefix in ["action=\"/pb/", "href=\"/auth/", "action=\"/qr/"] {
        if let Some((_, rest)) = page.split_once(prefix) {
            return Ok(rest.split('"').next().context("no end")?.to_owned());
        }
    }
    anyhow::bail!("no form in {page}")
}

/// What an authenticator shows `steps` of 30 seconds from now for a key in base32.
pub(crate) fn code(base32: &str, steps: i64) -> String {
    let mut secret = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for letter in base32.bytes().filter(|byte| *byte != b' ') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            _ => letter - b'2' + 26,
        };
        bits = bits << 5 | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            secret.push(u8::try_from(bits >> held & 255).expect("masked"));
        }
    }
    let step = testkit::time::now_ms() / 30_000 + steps;
    let mut mac = Hmac::<Sha1>::new_from_slice(&secret).expect("any length");
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let offset = usize::from(hash[19] & 15);
    let word = u32::from_be_bytes(hash[offset..offset + 4].try_into().expect("four bytes"));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// The key the set-up page shows.
pub(crate) fn shown_key(page: &str) -> anyhow::Result<String> {
    let (_, rest) = page.split_once("class=\"secret\">").context("no key")?;
    Ok(rest.split('<').next().context("no end")?.replace(' ', ""))
}
