//! What the tests of deployment share: commands that have to succeed, images, waiting; what
//! expressions of PromQL ask for.

pub mod host;
pub mod promql;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use testkit::process::{binary, workspace};

/// Lines of a failed command that are shown.
const SHOWN: usize = 60;

/// Everything that is built into the services' image.
const PROGRAMS: [&str; 7] =
    ["signal", "relay", "peer-linker", "channel-hub", "peerbook", "mesh", "switchyard"];

/// What a command that has to succeed printed.
///
/// # Errors
/// When it does not start, or fails; with the end of what it said.
pub fn done(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{command:?}: {}\n{}\n{}", output.status, end(&out), end(&err));
    }
    Ok(out.into_owned())
}

/// The last lines: the reason stands there, and a report that is cut keeps it.
fn end(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// `docker` with these arguments.
///
/// # Errors
/// As [`done`].
pub fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    done(Command::new("docker").args(arguments))
}

/// Makes the images `switchyard-test/*`, and of the services the one called `services`; the value is the
/// directory of the programs in it. Other tests may be at the same on this machine: one waits for the other.
///
/// # Errors
/// When something cannot be built, or the base system not be fetched.
pub fn images(services: Option<&str>) -> anyhow::Result<PathBuf> {
    let mut directory = None;
    for program in PROGRAMS {
        directory = binary(program)?.parent().map(PathBuf::from);
    }
    let directory = directory.context("programs lie in a directory")?;
    let cache = workspace().join("target/deploy");
    let mut make = Command::new(workspace().join("tests/deploy/images/make.sh"));
    make.arg(&cache);
    if let Some(services) = services {
        make.arg(&directory).arg(services);
    }
    done(&mut make)?;
    Ok(directory)
}

/// Asks every 200 ms until the answer is yes.
///
/// # Errors
/// After `limit`, with what was waited for and the last error.
pub async fn until(
    what: &str,
    limit: Duration,
    mut yes: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = yes().await;
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what} ({answer:?})");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
