//! A peer's connection: a WebSocket or a data channel.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use testkit::data_channel::DataChannel;
use testkit::json_socket::JsonSocket;

/// A peer's connection, whose frames are JSON.
pub(super) enum Line<'b> {
    Socket(Box<JsonSocket>),
    Channel(DataChannel<'b>),
}

impl<'b> Line<'b> {
    /// The oldest frame, kept or yet to come, that `wanted` accepts; others stay kept.
    pub(super) async fn wait_for_within(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        match self {
            Self::Socket(socket) => socket.wait_for_within(limit, wanted).await,
            Self::Channel(_) => {
                let text = self.text_within(limit, wanted).await?;
                Ok(serde_json::from_str(&text)?)
            }
        }
    }

    /// As [`Line::wait_for_within`], as it came over a data channel.
    pub(super) async fn text_within(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<String> {
        let Self::Channel(channel) = self else { bail!("no data channel") };
        let fits = |text: &str| serde_json::from_str(text).is_ok_and(|frame| wanted(&frame));
        let heard = channel.wait_for_within(limit, |heard| fits(&heard.text)).await?;
        ensure!(heard.binary, "a text where the original sends bytes: {}", heard.text);
        Ok(heard.text)
    }

    /// Takes all frames that are kept and all that come within `limit`.
    pub(super) async fn frames_within(&mut self, limit: Duration) -> Vec<String> {
        match self {
            Self::Socket(socket) => {
                let frames = socket.frames_within(limit).await;
                frames.iter().map(Value::to_string).collect()
            }
            Self::Channel(channel) => {
                let heard = channel.messages_within(limit).await;
                heard.into_iter().map(|heard| heard.text).collect()
            }
        }
    }

    /// Sends a text, or over a WebSocket the same bytes as a binary message.
    pub(super) async fn send(&mut self, text: String, binary: bool) -> anyhow::Result<()> {
        match self {
            Self::Socket(socket) if binary => socket.send_binary(text).await,
            Self::Socket(socket) => socket.send_text(text).await,
            Self::Channel(channel) => channel.send_text(&text).await,
        }
    }

    /// Waits until the server closes a WebSocket: the code and reason.
    pub(super) async fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        match self {
            Self::Socket(socket) => socket.closed().await,
            Self::Channel(_) => bail!("data channels close without a code"),
        }
    }

    /// Closes in order.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Socket(socket) => socket.close().await,
            Self::Channel(channel) => channel.close().await,
        }
    }

    /// The data channel this is.
    pub(super) fn channel(&mut self) -> anyhow::Result<&mut DataChannel<'b>> {
        match self {
            Self::Channel(channel) => Some(channel),
            Self::Socket(_) => None,
        }
        .context("no data channel")
    }
}
