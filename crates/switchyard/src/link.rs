//! The configuration link and QR code an app imports its servers from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::Serialize;

/// A TURN server an app may use.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Turn {
    /// `turn:host:3478?transport=udp`.
    pub(crate) url: String,
    /// Static name.
    pub(crate) username: String,
    /// Static password.
    pub(crate) password: String,
    /// Higher is tried first.
    pub(crate) priority: u32,
}

/// What `peerlink://config` carries.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Config {
    r#type: &'static str,
    version: u32,
    bootstrap: Vec<String>,
    relay: Vec<String>,
    turn: Vec<Turn>,
    push: [(); 0],
}

impl Config {
    /// The servers to tell an app about.
    pub(crate) fn new(bootstrap: Vec<String>, relay: Vec<String>, turn: Vec<Turn>) -> Self {
        Self { r#type: "peerlink_server_config", version: 1, bootstrap, relay, turn, push: [] }
    }

    /// The JSON, which is also what the QR code holds.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }

    /// The link.
    pub(crate) fn link(&self) -> String {
        format!("peerlink://config?payload={}", URL_SAFE_NO_PAD.encode(self.json()))
    }

    /// The QR code in half blocks, light on dark: with `colour` on any terminal, else on a dark
    /// one. Nothing when the configuration is too big for a code.
    pub(crate) fn qr(&self, colour: bool) -> Option<String> {
        let code = QrCode::with_error_correction_level(self.json(), EcLevel::L).ok()?;
        let drawn = code
            .render::<Dense1x2>()
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .build();
        if !colour {
            return Some(drawn);
        }
        let lines = drawn.lines().map(|line| format!("\x1b[97;40m{line}\x1b[0m"));
        Some(lines.collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(vec!["wss://h:3000".into()], vec!["https://h:4000".into()], Vec::new())
    }

    #[test]
    fn the_link_carries_the_configuration_as_apps_expect_it() {
        let link = config().link();
        let payload = link.strip_prefix("peerlink://config?payload=").unwrap();
        let json = URL_SAFE_NO_PAD.decode(payload).unwrap();
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"type":"peerlink_server_config","version":1,"bootstrap":["wss://h:3000"],"relay":["https://h:4000"],"turn":[],"push":[]}"#
        );
    }

    #[test]
    fn the_code_is_square_and_framed_by_light_modules() {
        let drawn = config().qr(false).unwrap();
        let lines: Vec<&str> = drawn.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        assert!(lines[0].chars().all(|c| c == '█'), "the quiet zone is light");
    }

    #[test]
    fn an_oversized_configuration_has_a_link_but_no_code() {
        let config = Config::new(vec!["wss://h".repeat(1000)], Vec::new(), Vec::new());
        assert!(config.qr(false).is_none());
    }
}
