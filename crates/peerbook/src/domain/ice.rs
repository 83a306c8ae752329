//! ICE servers and the credentials they take.

use std::time::Duration;

use proto::book::Fingerprint;
use serde::Serialize;
use service::{Clock, duration};
use turn::TurnArgs;

use super::book::{Book, has_bearer};
use crate::error::Error;

/// What is handed out, how long it is good for, and to whom.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TURN")]
pub(crate) struct IceArgs {
    #[command(flatten)]
    pub(crate) turn: TurnArgs,
    /// How long a credential is good for.
    #[arg(long, env = "TURN_TTL", value_name = "TIME", default_value = "24h",
          value_parser = duration::parse)]
    pub(crate) turn_ttl: Duration,
    /// Give credentials to anybody who asks, as the original does.
    #[arg(long, env = "TURN_OPEN")]
    pub(crate) turn_open: bool,
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

/// Gives clients the servers and credentials for them.
#[derive(Clone, Debug)]
pub(crate) struct Ice {
    args: IceArgs,
    clock: Clock,
}

impl Ice {
    /// Credentials as the settings say.
    pub(crate) fn new(args: IceArgs, clock: Clock) -> Self {
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
        self.args.turn.source.is_some() && !self.args.turn.urls.is_empty()
    }

    /// The servers as JSON text.
    pub(crate) fn text(&self, user: &str) -> String {
        serde_json::to_string(&self.servers(user)).unwrap_or_else(|_| "[]".to_owned())
    }

    /// The servers, with a credential for `user`; none where none are set up.
    pub(crate) fn servers(&self, user: &str) -> Vec<IceServer> {
        let TurnArgs { source: Some(source), urls } = &self.args.turn else { return Vec::new() };
        let made = source.credential(user, self.args.turn_ttl, self.clock.now_ms());
        let server = |url: &String| IceServer {
            urls: [url.clone()],
            username: made.username.clone(),
            credential: made.credential.clone(),
            credential_type: "password",
        };
        urls.iter().map(server).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(source: turn::Source) -> serde_json::Value {
        let urls = vec!["turn:a.example:3478".to_owned()];
        let args = IceArgs {
            turn: TurnArgs { source: Some(source), urls },
            turn_ttl: Duration::from_hours(24),
            turn_open: false,
        };
        let (clock, _hand) = Clock::manual(1_234_567_890_000);
        serde_json::to_value(Ice::new(args, clock).servers("foo")).unwrap()
    }

    /// The captured credential of the original.
    #[test]
    fn the_answer_is_what_clients_index_into() {
        let made = servers(turn::Source::Secret("thisisatest".to_owned()));
        let expected = serde_json::json!([{
            "urls": ["turn:a.example:3478"], "username": "1234654290:foo",
            "credential": "mJrZ+j42FSjnqPdr5toK2VE9Kg4=", "credentialType": "password"
        }]);
        assert_eq!(made, expected);
    }

    #[test]
    fn a_static_pair_stands_where_a_credential_would() {
        let made = servers(turn::Source::Pair { user: "u".into(), password: "p".into() });
        let expected = serde_json::json!([{
            "urls": ["turn:a.example:3478"], "username": "u", "credential": "p",
            "credentialType": "password"
        }]);
        assert_eq!(made, expected);
    }
}
