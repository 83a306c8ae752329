//! One process, from its arguments to its exit code.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::{IntGauge, Opts};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};

use crate::environment::Environment;
use crate::notify::Supervisor;
use crate::shutdown::KILL;
use crate::{Common, Context, admin, logs, process, settings};

/// What a service is called and where it listens unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Name of the binary, of the schema and of the settings' prefix: `relay`.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub about: &'static str,
    /// Default of a `--listen` setting, such as `[::]:4000`.
    pub listen: &'static str,
    /// Default of `--admin-listen`, such as `127.0.0.1:14000`.
    pub admin: &'static str,
    /// Variables accepted under another name: the name, then the id of the argument it sets.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Arguments accepted under another name, such as `-sc` for `--tls-cert`: the word as it is
    /// written, then the flag it stands for. Values are words of their own.
    pub arguments: &'static [(&'static str, &'static str)],
}

/// Turns of tasks after which sockets are asked again while there is always something to do. Left to
/// tokio it is 61, so that one busy pair of connections would keep the others waiting for milliseconds.
const TURNS_BETWEEN_LOOKS: u32 = 8;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const OVERRAN: u8 = 3;

/// Runs a service: settings, logs, admin port, then `serve` until it ends or a signal comes.
///
/// The first SIGTERM or SIGINT begins the drain: readiness ends; after `--drain-lag` the
/// draining token is cancelled; after `--drain-grace` the killed token is. The second signal
/// cancels both at once. `serve` and all spawned tasks are waited for. The exit codes are those
/// of the crate's documentation.
pub fn run<C, F, Fut>(about: &'static About, serve: F) -> ExitCode
where
    C: clap::Args,
    F: FnOnce(C, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let environment = Environment::of_process();
    let (common, config) = match settings::parse::<C>(about, std::env::args_os(), &environment) {
        Ok(settings) => settings,
        Err(refused) => return tell(&refused),
    };
    if let Err(why) = logs::start(&common) {
        return tell(&clap::Error::raw(
            clap::error::ErrorKind::ValueValidation,
            format!("`{}` is not a log filter: {why}\n", common.log),
        ));
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = common.worker_threads {
        runtime.worker_threads(threads.into());
    }
    runtime.event_interval(TURNS_BETWEEN_LOOKS);
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            tracing::error!(%why, "cannot start threads");
            return ExitCode::from(FAILED);
        }
    };
    let supervisor = Supervisor::at(environment.get("NOTIFY_SOCKET"));
    let code = runtime.block_on(live(about, &common, &supervisor, |cx| serve(config, cx)));
    // Blocking work that does not end is the operating system's to clean up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ExitCode::from(code)
}

/// Prints what clap has to say: help and version are no failures.
fn tell(refused: &clap::Error) -> ExitCode {
    let _ = refused.print(); // without a terminal there is nobody to tell
    ExitCode::from(if refused.use_stderr() { USAGE } else { 0 })
}

async fn live<F, Fut>(
    about: &'static About,
    common: &Common,
    supervisor: &Supervisor,
    serve: F,
) -> u8
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let cx = Context::new(about.name, common.drain_grace);
    let mut signals = match prepare(common, &cx).await {
        Ok(signals) => signals,
        Err(why) => {
            tracing::error!("{why:#}");
            return FAILED;
        }
    };
    let changes = cx.ready.changes(); // before the service can open its first gate
    let mut service = start(serve(cx.clone()));
    let asked = async {
        tokio::select! {
            () = signals.next() => {}
            never = announce(&cx, changes, supervisor) => match never {},
        }
    };
    tokio::select! {
        ended = &mut service => {
            supervisor.tell("STOPPING=1");
            cx.stop.leaving().cancel();
            cx.stop.draining().cancel();
            let failed = judge(ended);
            // Give up quickly when it failed: nobody is served by a process without its service.
            let grace = if failed { KILL } else { common.drain_grace };
            let clean = timeout(grace, cx.finished()).await.is_ok();
            cx.stop.killed().cancel();
            if failed { FAILED } else if clean { 0 } else { OVERRAN }
        }
        () = asked => {
            supervisor.tell("STOPPING=1");
            let everything = async {
                let failed = judge(service.await);
                cx.finished().await;
                failed
            };
            drain(&cx, common.drain_lag, &mut signals, everything).await
        }
    }
}

/// Runs the service on the worker threads: what the main thread starts would have to cross over.
#[expect(clippy::disallowed_methods, reason = "the one task that is no part of the tracked ones")]
fn start(
    service: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(service)
}

/// Everything that can fail before the service starts.
async fn prepare(common: &Common, cx: &Context) -> anyhow::Result<Signals> {
    let signals = Signals::new().context("cannot listen to signals")?;
    let files = process::raise_file_limit();
    cx.metrics.register(Box::new(process::Process::new()))?;
    let build = Opts::new("service_build_info", "Constant 1; the labels say what runs.")
        .const_label("service", cx.name)
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = IntGauge::with_opts(build)?;
    build.set(1);
    cx.metrics.register(Box::new(build))?;
    let admin = admin::start(&common.admin_listen, cx).await?;
    let admin = admin.map(|address| address.to_string()).unwrap_or_else(|| "off".to_owned());
    tracing::info!(
        service = cx.name,
        version = env!("CARGO_PKG_VERSION"),
        admin,
        open_files_max = files,
        "starting"
    );
    Ok(signals)
}

/// Tells the supervisor and the log when the service becomes ready for the first time.
async fn announce(
    cx: &Context,
    mut changes: watch::Receiver<()>,
    supervisor: &Supervisor,
) -> std::convert::Infallible {
    while changes.changed().await.is_ok() {
        if cx.ready.is_ready() {
            tracing::info!(service = cx.name, "ready");
            supervisor.tell("READY=1");
            break;
        }
    }
    std::future::pending().await
}

/// The stop sequence; returns the exit code.
async fn drain(
    cx: &Context,
    lag: Duration,
    signals: &mut Signals,
    everything: impl Future<Output = bool>,
) -> u8 {
    let mut everything = std::pin::pin!(everything);
    tracing::info!(lag_ms = lag.as_millis(), "leaving; a second signal ends everything at once");
    cx.stop.leaving().cancel();
    let stages = async {
        sleep(lag).await;
        cx.stop.draining().cancel();
        tracing::info!(grace_ms = cx.stop.grace().as_millis(), "draining");
        sleep(cx.stop.grace()).await;
    };
    let reason = tokio::select! {
        failed = &mut everything => {
            tracing::info!("stopped");
            cx.stop.killed().cancel();
            return if failed { FAILED } else { 0 };
        }
        () = stages => "the grace is over",
        () = signals.next() => "a second signal came",
    };
    tracing::warn!(reason, tasks = cx.unfinished(), "killing what is left");
    cx.stop.draining().cancel();
    cx.stop.killed().cancel();
    let _ = timeout(KILL, everything).await; // deaf tasks end with the process
    OVERRAN
}

/// Logs how the service ended; `true` when it failed.
fn judge(ended: Result<anyhow::Result<()>, JoinError>) -> bool {
    match ended {
        Ok(Ok(())) => false,
        Ok(Err(why)) => {
            tracing::error!("{why:#}");
            true
        }
        Err(_panic) => true, // the panic hook has logged it
    }
}

/// The two signals that mean stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
