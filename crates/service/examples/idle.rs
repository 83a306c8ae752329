//! A service that does nothing, and every way a process can end: what the tests run.

use std::process::ExitCode;
use std::time::Duration;

use service::{About, Context};

const ABOUT: About = About {
    name: "idle",
    about: "Does nothing until it is stopped.",
    listen: "127.0.0.1:0",
    admin: "127.0.0.1:0",
    aliases: &[],
    arguments: &[],
};

/// How to behave.
#[derive(clap::Args)]
struct Config {
    /// What to do after becoming ready.
    #[arg(long, env = "MOOD", value_enum, default_value = "polite")]
    mood: Mood,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Mood {
    /// Stop when asked to.
    Polite,
    /// Finish a task first.
    Busy,
    /// Stop when killed.
    Stubborn,
    /// Never stop.
    Deaf,
    /// Fail to start.
    Broken,
    /// Panic.
    Careless,
}

async fn serve(config: Config, cx: Context) -> anyhow::Result<()> {
    anyhow::ensure!(config.mood != Mood::Broken, "broken as asked");
    assert!(config.mood != Mood::Careless, "careless as asked");
    cx.ready.gate("mood").open();
    let stop = cx.stop.clone();
    cx.spawn("mood", async move {
        match config.mood {
            Mood::Busy => {
                stop.draining().cancelled().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Mood::Stubborn => stop.killed().cancelled().await,
            Mood::Deaf => std::future::pending().await,
            _ => {}
        }
        tracing::info!("mood over");
    });
    cx.stop.draining().cancelled().await;
    Ok(())
}

fn main() -> ExitCode {
    service::run(&ABOUT, serve)
}
