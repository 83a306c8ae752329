//! ICE servers with credentials that expire.

use std::fmt;
use std::time::Duration;

use proto::book::Fingerprint;
use serde::Serialize;
use service::{Clock, duration};

use super::book::{Book, has_bearer};
use crate::error::Error;

/// Where TURN is, and the secret shared with it.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "TURN")]
pub(crate) struct TurnArgs {
    /// Secret shared with coturn (its static-auth-secret).
    #[arg(
        long,
        env = "TURN_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        requires = "turn_urls"
    )]
    pub(crate) turn_secret: Option<String>,
    /// URLs of the TURN server, such as turn:host:3478?transport=tcp.
    #[arg(long, env = "TURN_URLS", value_name = "URL", value_delimiter = ',')]
    pub(crate) turn_urls: Vec<String>,
    /// How long a credential is good for.
    #[arg(long, env = "TURN_TTL", value_name = "TIME", default_value = "24h",
          value_parser = duration::parse)]
    pub(crate) turn_ttl: Duration,
    /// Give credentials to anybody who asks, as the original does.
    #[arg(long, env = "TURN_OPEN")]
    pub(crate) turn_open: bool,
}

impl fmt::Debug for TurnArgs {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnArgs").field("turn_urls", &self.turn_urls).finish_non_exhaustive()
    }
}

/// One element of the answer, as `RTCConfiguration.iceServers` takes it; members in the order of the
/// original.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct IceServer {
    pub(crate) credential: String,
    #[serde(rename = "credentialType")]
    pub(crate) credential_type: &'static str,
    /// Always a list: clients index into it.
    pub(crate) urls: [String; 1],
    pub(crate) username: String,
}

/// Mints credentials.
#[derive(Clone, Debug)]
pub(crate) struct Ice {
    args: TurnArgs,
    clock: Clock,
}

impl Ice {
    /// Credentials as the settings say.
    pub(crate) fn new(args: TurnArgs, clock: Clock) -> Self {
        Self { args, clock }
    }

    /// Whether anybody may ask.
    pub(crate) fn is_open(&self) -> bool {
        self.args.turn_open
    }

    /// The user of a verified peer that shows the secret it was given at its approval.
    pub(crate) async fn holder(
        &self,
        book: &Book,
        fp: &Fingerprint,
        secret: &str,
    ) -> Result<Option<String>, Error> {
        let found = book.verified(fp).await?;
        Ok(found.filter(|(_, peer)| has_bearer(peer, Some(secret))).map(|(user, _)| user.uid))
    }

    /// Whether there are any servers.
    #[cfg(feature = "webrtc")]
    pub(crate) fn is_set(&self) -> bool {
        self.args.turn_secret.is_some() && !self.args.turn_urls.is_empty()
    }

    /// The servers as JSON text.
    pub(crate) fn text(&self, user: &str) -> String {
        serde_json::to_string(&self.servers(user)).unwrap_or_else(|_| "[]".to_owned())
    }

    /// The servers, with a credential for `user`; none without a secret.
    pub(crate) fn servers(&self, user: &str) -> Vec<IceServer> {
        let Some(secret) = &self.args.turn_secret else { return Vec::new() };
        let (ttl, now_ms) = (self.args.turn_ttl, self.clock.now_ms());
        let made = turn::mint(secret.as_bytes(), user, ttl, now_ms);
        let server = |url: &String| IceServer {
            urls: [url.clone()],
            username: made.username.clone(),
            credential: made.credential.clone(),
            credential_type: "password",
        };
        self.args.turn_urls.iter().map(server).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The captured credential of the original.
    #[test]
    fn the_answer_is_what_clients_index_into() {
        let args = TurnArgs {
            turn_secret: Some("thisisatest".to_owned()),
            turn_urls: vec!["turn:a.example:3478".to_owned()],
            turn_ttl: Duration::from_hours(24),
            turn_open: false,
        };
        let (clock, _hand) = Clock::manual(1_234_567_890_000);
        let made = serde_json::to_value(Ice::new(args, clock).servers("foo")).unwrap();
        let expected = serde_json::json!([{
            "urls": ["turn:a.example:3478"], "username": "1234654290:foo",
            "credential": "mJrZ+j42FSjnqPdr5toK2VE9Kg4=", "credentialType": "password"
        }]);
        assert_eq!(made, expected);
    }
}
