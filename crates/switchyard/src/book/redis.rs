//! As much of a Redis client (RESP2) as an import needs: look, never touch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest value taken, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Most members of an answer.
const MAX_MEMBERS: usize = 100_000;
/// Keys looked at per step.
const STEP: &str = "1000";

/// One connection.
pub(super) struct Redis(BufReader<TcpStream>);

enum Reply {
    Text(String),
    List(Vec<Reply>),
    Nothing,
    Refused(String),
}

impl Redis {
    /// Connects to `redis://[[user]:password@]host[:port][/database]`.
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("redis://").context(
            "expected redis://[user:password@]host[:port][/database]; TLS is not spoken, use a tunnel",
        )?;
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = match address.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, address),
        };
        let with_port = |port: &str| format!("{address}{port}");
        let has_port =
            address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { with_port("") } else { with_port(":6379") };
        let stream = timeout(ANSWER, TcpStream::connect(&address)).await;
        let stream = stream
            .context("no answer")?
            .with_context(|| format!("cannot reach Redis at {address}"))?;
        let mut redis = Self(BufReader::new(stream));
        if let Some(login) = login {
            match login.split_once(':') {
                Some(("", password)) => redis.ask(&["AUTH", password]).await?,
                Some((user, password)) => redis.ask(&["AUTH", user, password]).await?,
                None => redis.ask(&["AUTH", login]).await?,
            };
        }
        if !database.is_empty() {
            redis.ask(&["SELECT", database]).await?;
        }
        Ok(redis)
    }

    /// Every key that matches, each once.
    pub(super) async fn keys(&mut self, pattern: &str) -> anyhow::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = self.ask(&["SCAN", &cursor, "MATCH", pattern, "COUNT", STEP]).await?;
            let Reply::List(parts) = reply else { bail!("Redis does not understand SCAN") };
            let mut parts = parts.into_iter();
            let (Some(Reply::Text(next)), Some(Reply::List(keys))) = (parts.next(), parts.next())
            else {
                bail!("Redis answers SCAN with something else");
            };
            found.extend(keys.into_iter().filter_map(Reply::text));
            if next == "0" {
                return Ok(found);
            }
            cursor = next;
        }
    }

    /// The fields of a hash; `None` when the key is something else.
    pub(super) async fn hash(
        &mut self,
        key: &str,
    ) -> anyhow::Result<Option<BTreeMap<String, String>>> {
        if self.ask(&["TYPE", key]).await?.text().as_deref() != Some("hash") {
            return Ok(None);
        }
        let Reply::List(parts) = self.ask(&["HGETALL", key]).await? else { return Ok(None) };
        let texts: Vec<String> = parts.into_iter().filter_map(Reply::text).collect();
        let pairs = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        Ok(Some(pairs.collect()))
    }

    async fn ask(&mut self, words: &[&str]) -> anyhow::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        let exchange = async {
            self.0.get_mut().write_all(&request).await?;
            self.reply(3).await
        };
        match timeout(ANSWER, exchange).await.context("Redis does not answer")?? {
            Reply::Refused(why) => bail!("Redis refuses {}: {why}", words[0]),
            reply => Ok(reply),
        }
    }

    async fn reply(&mut self, depth: u8) -> anyhow::Result<Reply> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1).context("Redis answers with nothing")?;
        Ok(match kind {
            "+" | ":" => Reply::Text(rest.to_owned()),
            "-" => Reply::Refused(rest.to_owned()),
            "$" => match rest.parse::<usize>() {
                Ok(length) if length <= MAX_BYTES => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes).await?;
                    bytes.truncate(length);
                    Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
                Ok(length) => bail!("Redis sends a value of {length} bytes"),
                Err(_) => Reply::Nothing,
            },
            "*" => match rest.parse::<usize>() {
                Ok(count) if count <= MAX_MEMBERS && depth > 0 => {
                    let mut parts = Vec::new();
                    for _ in 0..count {
                        parts.push(Box::pin(self.reply(depth - 1)).await?);
                    }
                    Reply::List(parts)
                }
                Ok(count) => bail!("Redis sends a list of {count}"),
                Err(_) => Reply::Nothing,
            },
            _ => bail!("this is not Redis"),
        })
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        (&mut self.0).take(64 * 1024).read_until(b'\n', &mut line).await?;
        let line = line.strip_suffix(b"\r\n").context("Redis hung up")?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}

impl Reply {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}
