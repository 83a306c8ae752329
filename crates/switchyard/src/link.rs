//! The configuration link and QR code an app imports its servers from.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::Serialize;
use serde_json::json;
use turn::Source;

use crate::cli::{EXIT_OK, LinkArgs};
use crate::up::bracketed;
use crate::{clock, output};

const DAY: Duration = Duration::from_secs(86_400);

/// `switchyard link`.
pub(crate) fn run(args: &LinkArgs) -> anyhow::Result<u8> {
    let host = bracketed(&args.host);
    let config = Config::new(
        vec![format!("wss://{host}:{}", args.signal_port)],
        vec![format!("https://{host}:{}", args.relay_port)],
        turn(args, &host)?.into_iter().collect(),
    );
    let link = config.link();
    if args.json {
        output::json(&json!({ "link": link }));
        return Ok(EXIT_OK);
    }
    output::line(&link);
    if let Some(code) = config.qr(output::colourful()) {
        output::line(&code);
    }
    Ok(EXIT_OK)
}

/// The TURN entry: apps that read links hold a name and a password and can ask for no other. By
/// UDP alone, as such an app uses no UDP entry beside one for TCP.
fn turn(args: &LinkArgs, host: &str) -> anyhow::Result<Option<Turn>> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(text.trim().to_owned())
    };
    let source = match (&args.turn_user, &args.turn_password_file) {
        (Some(user), Some(file)) => Source::Pair { user: user.clone(), password: read(file)? },
        _ => {
            let Some(file) = &args.turn_secret_file else { return Ok(None) };
            Source::Secret(read(file)?)
        }
    };
    let ttl = DAY * u32::from(args.turn_days);
    // One name for everybody who reads the link: coturn's quota is theirs together.
    let made = source.credential("link", ttl, clock::now_ms());
    let url = format!("turn:{host}:{}?transport=udp", args.turn_port);
    Ok(Some(Turn { url, username: made.username, password: made.credential, priority: 100 }))
}

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
    fn a_secret_becomes_a_credential_an_app_can_keep() {
        use clap::Parser as _;
        let file = std::env::temp_dir().join(format!("link-{}", std::process::id()));
        std::fs::write(&file, "secret\n").unwrap();
        let cli = crate::cli::Cli::parse_from([
            "switchyard".as_ref(),
            "link".as_ref(),
            "2001:db8::1".as_ref(),
            "--turn-secret-file".as_ref(),
            file.as_os_str(),
        ]);
        let crate::cli::Command::Link(args) = cli.command else { panic!("another command") };
        let turn = turn(&args, "[2001:db8::1]").unwrap().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(turn.url, "turn:[2001:db8::1]:3478?transport=udp");
        let (expiry, user) = turn.username.split_once(':').unwrap();
        let days = (expiry.parse::<i64>().unwrap() - clock::now_ms() / 1000) / 86_400;
        assert!(user == "link" && (364..=365).contains(&days), "{}", turn.username);
        assert_eq!(turn.password.len(), 28);
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
