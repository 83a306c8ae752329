//! `switchyard turn-cred`.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cli::{EXIT_OK, Place, TurnCredArgs};
use crate::layout::Layout;
use crate::{clock, output};

/// Prints credentials made from the secret shared with coturn.
pub(crate) fn run(place: &Place, args: &TurnCredArgs) -> anyhow::Result<u8> {
    let path = match &args.secret_file {
        Some(path) => path.clone(),
        None => Layout::find(place)?.secrets().join("turn"),
    };
    let secret = std::fs::read_to_string(&path).with_context(|| {
        format!("no TURN secret in {}: name its file with --secret-file", path.display())
    })?;
    let secret = secret.trim();
    if secret.is_empty() {
        bail!("{} is empty", path.display());
    }
    let ttl = Duration::from_secs(args.ttl);
    let credential = turn::mint(secret.as_bytes(), &args.user, ttl, clock::now_ms());
    if args.json {
        output::json(&serde_json::to_value(&credential)?);
    } else {
        output::line(&format!("username    {}", credential.username));
        output::line(&format!("credential  {}", credential.credential));
    }
    Ok(EXIT_OK)
}
