//! Inputs for the fuzz targets, taken from the vectors.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::mesh::token::{Secret, Token};
use serde_json::Value;
use testkit::vectors::{Action, RelayStep, Script, Vectors};

use crate::book;
use crate::pad::vectors::{self, Generation, Step, unhex};

/// Longer inputs only make a fuzzer slow.
const LENGTH_MAX: usize = 16 * 1024;

/// Inputs by name of target.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let vectors = Vectors::load();
    let mut seeds = Vec::new();
    for case in &vectors.relay {
        let mut script = Script::new(&vectors, "rseeds00", vectors.ts_fixed);
        for step in &case.steps {
            let RelayStep::Request(request) = step else { continue };
            script.sign(&request.sigs);
            let path = script.fill(&request.path);
            seeds.extend(path.split_once('?').map(|(_, query)| ("query", query.into())));
            if let Some(body) = script.body(request).filter(|body| body.len() <= LENGTH_MAX) {
                seeds.push(("js", body.clone()));
                seeds.push(("relay", body));
            }
            let payload =
                request.body.as_deref().and_then(|body| body.split("payload\":\"").nth(1));
            let payload = payload.and_then(|rest| rest.split('"').next());
            seeds.extend(payload.map(|text| ("base64", text.into())));
        }
    }
    for case in &vectors.signal {
        let mut script = Script::new(&vectors, "rseeds00", vectors.ts_fixed);
        for action in &case.actions {
            match action {
                Action::Send { text, sigs, .. } => {
                    script.sign(sigs);
                    let text = script.fill(text).into_bytes();
                    if text.len() <= LENGTH_MAX {
                        seeds.push(("websocket", frame(0x81, &text)));
                        seeds.push(("signal", text));
                    }
                }
                Action::Frame { opcode, b64, fin, rsv, .. } => {
                    let first = u8::from(*fin) << 7 | rsv << 4 | opcode;
                    let payload = STANDARD.decode(b64).unwrap_or_default();
                    seeds.push(("websocket", frame(first, &payload)));
                }
                _ => {}
            }
        }
    }
    seeds.extend(pad_seeds());
    seeds.extend(book_seeds());
    seeds.extend(mesh_seeds());
    seeds.retain(|(_, seed)| !seed.is_empty());
    seeds.sort();
    seeds.dedup();
    seeds
}

/// Packets of both generations, encrypted frames and certificates, as they were recorded.
fn pad_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    for scenario in vectors::load() {
        for certificate in &scenario.certificates {
            seeds.extend(unhex(&certificate.certificate_hex).map(|bytes| ("certificate", bytes)));
        }
        for step in &scenario.steps {
            let (Step::C2s(said) | Step::S2c(said)) = step else { continue };
            let frame = said.wire.as_deref().and_then(|wire| unhex(wire).ok());
            seeds.extend(frame.map(|frame| ("pad_cipher", frame)));
            if said.layer.is_some() {
                continue;
            }
            let target = match scenario.generation {
                Generation::A => "pad_ws",
                _ => "pad_tcp",
            };
            let packet = said.packet(scenario.generation).unwrap_or_default();
            if target == "pad_ws" && packet.get(2..4) == Some(&[2, 0]) {
                seeds.push(("certificate", packet[8..].to_vec()));
            }
            if packet.len() <= LENGTH_MAX {
                seeds.push((target, packet));
            }
        }
    }
    seeds
}

/// What peers said to the peerbook, over WebSockets and over data channels.
fn book_seeds() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let steps = book::scenarios().into_iter().flat_map(|scenario| scenario.steps);
    steps.filter_map(|step| {
        let target = if step["dc"].is_string() { "book_channel" } else { "book" };
        match &step["send"] {
            Value::String(text) => Some((target, text.clone().into_bytes())),
            Value::Null => None,
            said => Some((target, said.to_string().into_bytes())),
        }
    })
}

/// Rooms of both lengths and tokens of every kind.
fn mesh_seeds() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    (0..8_u8).flat_map(|number| {
        let (secret, node) = (Secret::new([number; 32]), [number; 32]);
        let bind = (number % 2 == 0).then(|| [192, 0, 2, number].into());
        let token = Token::mint(&secret, &node, 1_700_000_000, [number; 8], bind);
        let room = format!("{number:02x}").repeat(if number % 2 == 0 { 20 } else { 32 });
        [("mesh", token.into_bytes()), ("mesh", room.into_bytes())]
    })
}

/// Writes each input into a file of its own below `directory/TARGET`.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_seeds(directory: &Path) -> std::io::Result<usize> {
    let seeds = seeds();
    for (number, (target, seed)) in seeds.iter().enumerate() {
        let directory = directory.join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("seed-{number:04}")), seed)?;
    }
    Ok(seeds.len())
}

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = crate::websocket::header(first, payload.len() as u64, true);
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
