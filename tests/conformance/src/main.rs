//! Replays the vectors against a server that runs already:
//! `conformance relay|signal ADDRESS exact|sound [PROFILE]`, or
//! `conformance peer-linker|channel-hub ADDRESS exact|sound [ARGUMENT...]` with the original's
//! command line for what the server was started with.
//! Or writes the fuzzers' seeds: `conformance seeds DIRECTORY`.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{bail, ensure};
use conformance::{Mode, PadServer, pad, replay_pad, replay_relay, replay_signal};
use testkit::vectors::Vectors;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["seeds", directory] = words.as_slice() {
        let count = conformance::seeds::write_seeds(directory.as_ref())?;
        return Ok(writeln!(std::io::stdout(), "{count} seeds in {directory}")?);
    }
    let [service, address, mode, profile @ ..] = words.as_slice() else {
        bail!("conformance relay|signal|peer-linker|channel-hub ADDRESS exact|sound [PROFILE]");
    };
    let address: SocketAddr = address.parse()?;
    let mode = match *mode {
        "exact" => Mode::Exact,
        "sound" => Mode::Sound,
        other => bail!("no mode {other}"),
    };
    let vectors = Vectors::load();
    let report = match *service {
        "relay" => replay_relay(&vectors, address, profile.first().copied(), mode).await,
        "signal" => replay_signal(&vectors, address, mode).await,
        program @ ("peer-linker" | "channel-hub") => {
            let arguments: Vec<String> = profile.iter().map(|&word| word.to_owned()).collect();
            let server =
                PadServer { program, address, arguments: &arguments, tls: false, replicas: &[] };
            replay_pad(&pad::vectors::load(), server, mode).await
        }
        other => bail!("no service {other}"),
    };
    writeln!(std::io::stdout(), "{report}")?;
    ensure!(report.failed() == 0, "{} cases failed", report.failed());
    Ok(())
}
