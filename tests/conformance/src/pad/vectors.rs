//! What `tests/vectors/peer-linker.json` holds: conversations with the original peer-linker and
//! channel-hub of both generations.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// One conversation, or (the first one) a table of certificates.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// What it is spoken in.
    pub generation: Generation,
    /// The program under test; the table of certificates has none.
    pub server: Option<String>,
    /// The original's command line, with the names of files.
    #[serde(default)]
    pub server_args: Vec<String>,
    /// Its name, unique for a generation and a server.
    #[serde(rename = "scenario")]
    pub name: String,
    /// The bytes of the file `secret.bin`.
    #[serde(default)]
    pub secret_hex: String,
    /// What was said, in the order in which it was recorded.
    pub steps: Vec<Step>,
    /// Keys by client, of the encrypted generation.
    #[serde(default)]
    pub sessions: BTreeMap<String, Keys>,
    /// Only in the table of certificates.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
}

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Generation {
    /// WebSocket messages.
    A,
    /// Encrypted frames over TCP.
    B,
    /// What both have in common.
    #[serde(rename = "A+B")]
    Both,
}

/// The keys of one recorded connection.
#[derive(Debug, Deserialize)]
pub struct Keys {
    /// What both sides encrypted with, in hex.
    pub shared_secret: String,
}

/// A user certificate and what it was made of.
#[derive(Debug, Deserialize)]
pub struct Certificate {
    /// What is special about it.
    pub note: String,
    /// The secret, in hex.
    pub secret_hex: String,
    /// What it vouches for, in hex.
    pub content_hex: String,
    /// The whole, in hex.
    pub certificate_hex: String,
}

/// One thing that happened.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "dir", rename_all = "lowercase")]
pub enum Step {
    /// A client sent something.
    C2s(Said),
    /// A client received something.
    S2c(Said),
    /// Something else.
    Event {
        /// Whom it happened to.
        client: Option<String>,
        /// What.
        event: String,
        /// For how long, in milliseconds.
        #[serde(default)]
        ms: u64,
    },
}

/// Bytes on one connection.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Said {
    /// Whose connection.
    pub client: String,
    /// The packet.
    pub hex: Option<String>,
    /// The start of a long packet.
    pub hex_prefix: Option<String>,
    /// The length of a long packet.
    pub len: Option<usize>,
    /// The hash of a long packet.
    pub sha256: Option<String>,
    /// How the rest of a long packet comes about.
    pub body_rule: Option<String>,
    /// What really went over the wire, in hex; random where it is encrypted.
    pub wire: Option<String>,
    /// `handshake` or `raw` when `hex` is no packet.
    pub layer: Option<String>,
    /// `text` when the WebSocket message was one.
    pub opcode: Option<String>,
    /// The size of the fragments in which the message was sent.
    pub fragments: Option<usize>,
}

/// Everything in the file.
///
/// # Panics
/// When it is not there or not of this form: no test could say anything then.
pub fn load() -> Vec<Scenario> {
    let path = testkit::process::workspace().join("tests/vectors/peer-linker.json");
    let text = std::fs::read(&path).expect("the vectors are part of the repository");
    serde_json::from_slice(&text).expect("the vectors have the form described here")
}

/// Bytes from hex digits.
///
/// # Errors
/// The text is no hex.
pub fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits.map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect::<Option<_>>().context("hex")
}

/// Hex digits from bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Scenario {
    /// `generation server/name`, as reports and the table of deviations call it.
    pub fn id(&self) -> String {
        let generation = match self.generation {
            Generation::A => "A ",
            Generation::B => "B ",
            Generation::Both => "",
        };
        match &self.server {
            Some(server) => format!("{generation}{server}/{}", self.name),
            None => format!("{generation}{}", self.name),
        }
    }
}

impl Said {
    /// The whole packet.
    ///
    /// # Errors
    /// The vectors say how to make it in a way this program does not know, or it is not the one
    /// that was recorded.
    pub fn packet(&self, generation: Generation) -> anyhow::Result<Vec<u8>> {
        if let Some(text) = &self.hex {
            return unhex(text);
        }
        let prefix = unhex(self.hex_prefix.as_deref().context("a packet or its start")?)?;
        let length = self.len.context("a long packet's length")?;
        let mut packet = prefix;
        match self.body_rule.as_deref() {
            Some("header then byte i = (7i+1) & 255") => {
                packet.truncate(if generation == Generation::A { 8 } else { 4 });
                let header = packet.len();
                packet.extend((0..length - header).map(|at| (at * 7 + 1) as u8));
            }
            Some(other) => bail!("unknown rule {other}"),
            None => packet.resize(length, 0),
        }
        if let Some(wanted) = &self.sha256 {
            ensure!(hex(&Sha256::digest(&packet)) == *wanted, "not the recorded packet");
        }
        Ok(packet)
    }
}

impl Step {
    /// Reads the short form of the table of deviations: `a> HEX` sends a packet, `a< HEX` receives
    /// one, `a hangs up` and `a is closed` do what they say, `quiet` sees nothing come.
    ///
    /// # Errors
    /// It is none of these.
    pub fn short(text: &str) -> anyhow::Result<Self> {
        if text == "quiet" {
            return Ok(Self::Event { client: None, event: "silence".into(), ms: 150 });
        }
        let (client, rest) = text.split_at(text.find(['<', '>', ' ']).context("a client")?);
        let said = |hex: &str| {
            let hex = hex.trim().replace(' ', "");
            unhex(&hex)?;
            anyhow::Ok(Said { client: client.to_owned(), hex: Some(hex), ..Said::default() })
        };
        let event = |event: &str| Self::Event {
            client: Some(client.to_owned()),
            event: event.to_owned(),
            ms: 0,
        };
        Ok(match rest.split_at(1) {
            (">", hex) => Self::C2s(said(hex)?),
            ("<", hex) => Self::S2c(said(hex)?),
            (_, "hangs up") => event("disconnect"),
            (_, "is closed") => event("closed"),
            _ => bail!("no step: {text}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pad::cipher::Cipher;

    #[test]
    fn every_packet_can_be_made() {
        let scenarios = load();
        assert_eq!(scenarios.len(), 65);
        let mut packets = 0;
        for scenario in &scenarios {
            for step in &scenario.steps {
                if let Step::C2s(said) | Step::S2c(said) = step {
                    said.packet(scenario.generation).expect(&scenario.name);
                    packets += 1;
                }
            }
        }
        assert_eq!(packets, 1201);
    }

    #[test]
    fn the_recorded_frames_hold_the_recorded_packets() {
        let mut opened = 0;
        for scenario in load().iter().filter(|scenario| scenario.generation == Generation::B) {
            for step in &scenario.steps {
                let (Step::C2s(said) | Step::S2c(said)) = step else { continue };
                let (None, Some(wire), Some(packet)) = (&said.layer, &said.wire, &said.hex) else {
                    continue;
                };
                let secret = unhex(&scenario.sessions[&said.client].shared_secret).unwrap();
                let frame = unhex(wire).unwrap();
                assert_eq!(usize::from(u16::from_le_bytes([frame[0], frame[1]])), frame.len() - 2);
                let mut cipher = Cipher::new(&secret.try_into().unwrap());
                assert_eq!(hex(&cipher.open(&frame[2..]).unwrap()), *packet, "{}", scenario.id());
                opened += 1;
            }
        }
        assert!(opened > 450, "only {opened} frames compared");
    }

    #[test]
    fn short_steps_are_understood() {
        assert!(matches!(Step::short("a> 08 00").unwrap(), Step::C2s(said) if said.client == "a"));
        assert!(matches!(Step::short("req<0a").unwrap(), Step::S2c(said) if said.client == "req"));
        assert!(matches!(Step::short("a hangs up"), Ok(Step::Event { .. })));
        assert!(Step::short("a? 00").is_err() && Step::short("a> 0").is_err());
    }
}
