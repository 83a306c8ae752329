//! `switchyard identity`: which key owns a peer id.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cli::{EXIT_FAILED, EXIT_OK, IdentityCommand, Place};
use crate::database::Database;
use crate::{clock, output, table};

/// Shows, releases or lists pins.
pub(crate) async fn run(place: &Place, command: IdentityCommand) -> anyhow::Result<u8> {
    let database = Database::open(place).await?;
    let result = act(&database, command).await;
    database.close().await;
    result
}

async fn act(database: &Database, command: IdentityCommand) -> anyhow::Result<u8> {
    let pool = database.pool().await?;
    match command {
        IdentityCommand::Show { peer, json } => {
            let Some(pin) = identity::show(&pool, peer.as_bytes()).await? else {
                return Ok(nobody(&peer, json));
            };
            print(&[pin], json, true);
        }
        IdentityCommand::Release { peer, json } => {
            if !identity::release(&pool, peer.as_bytes()).await? {
                return Ok(nobody(&peer, json));
            }
            if json {
                output::json(&json!({ "peer": peer, "released": true }));
            } else {
                output::line(&format!("{peer}: released; the next key to prove itself owns it"));
            }
        }
        IdentityCommand::List { after, limit, json } => {
            print(&identity::list(&pool, after.as_bytes(), limit).await?, json, false);
        }
    }
    pool.close().await;
    Ok(EXIT_OK)
}

fn nobody(peer: &str, json: bool) -> u8 {
    if json {
        output::json(&Value::Null);
    } else {
        output::line(&format!("{peer}: no key owns it"));
    }
    EXIT_FAILED
}

fn print(pins: &[identity::Pin], json: bool, single: bool) {
    if json {
        let mut values: Vec<Value> = pins.iter().map(describe).collect();
        output::json(&if single { values.swap_remove(0) } else { Value::Array(values) });
        return;
    }
    let rows: Vec<[String; 4]> = pins
        .iter()
        .map(|pin| {
            [
                readable(&pin.peer),
                STANDARD.encode(pin.key.as_bytes()),
                format!("{:?}", pin.proof).to_lowercase(),
                date(pin.pinned_at_ms),
            ]
        })
        .collect();
    output::line(&table::render(["peer", "key", "proof", "since"], &rows));
}

fn describe(pin: &identity::Pin) -> Value {
    json!({
        "peer": readable(&pin.peer),
        "key": STANDARD.encode(pin.key.as_bytes()),
        "proof": format!("{:?}", pin.proof).to_lowercase(),
        "pinned_at_ms": pin.pinned_at_ms,
    })
}

/// Ids come from strangers: nothing in them may steer the terminal.
fn readable(peer: &[u8]) -> String {
    String::from_utf8_lossy(peer).chars().flat_map(escape).collect()
}

fn escape(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

fn date(ms: i64) -> String {
    let (year, month, day) = clock::civil(ms.div_euclid(86_400_000));
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_cannot_steer_the_terminal() {
        assert_eq!(readable(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
    }
}
