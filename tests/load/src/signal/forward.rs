//! Signals from one of a pair to the other, a window of them under way.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::json;
use testkit::keys::Peer;

use super::{contains, register_frame};
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;
use crate::ws::{Socket, text};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Pairs of peers.
    #[arg(long, default_value_t = 100)]
    pub(crate) pairs: usize,
    /// Signals of a pair that are under way at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) window: usize,
    /// Size of `data` in a signal.
    #[arg(long, default_value_t = 1024)]
    pub(crate) bytes: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// The target echoes: each socket is its own pair.
    #[arg(long)]
    pub(crate) echo: bool,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let mut pairs = Vec::new();
    for nth in 0..options.pairs {
        pairs.push(match options.echo {
            true => Pair::echo(target, options.bytes, nth).await?,
            false => Pair::open(target, target, options.bytes, nth).await?,
        });
    }
    let what = if options.echo { "bare echo" } else { "signal forward" };
    measure(target, pairs, options.window, options.seconds, what).await
}

/// Lets all pairs play at once.
pub(crate) async fn measure(
    target: &Target,
    mut pairs: Vec<Pair>,
    window: usize,
    seconds: f64,
    what: &str,
) -> anyhow::Result<Row> {
    settle(&mut pairs).await?;
    let latencies = RefCell::new(Vec::new());
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let meter = Meter::start(target);
    try_join_all(pairs.iter_mut().map(|pair| pair.play(window, end, &latencies))).await?;
    let usage = meter.stop();
    let latencies = latencies.into_inner();
    let name = format!("{what}, window {window}");
    Ok(Row::new(name, "frames", latencies.len() as u64, usage).latencies(latencies))
}

/// Everybody hears of everybody first; that is not what is measured.
pub(super) async fn settle(pairs: &mut [Pair]) -> anyhow::Result<()> {
    let settled = Instant::now() + Duration::from_millis(300);
    while Instant::now() < settled {
        for pair in pairs.iter_mut() {
            pair.drain().await?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Two sockets, and the message that goes from one to the other.
pub(crate) struct Pair {
    pub(crate) sender: Socket,
    /// `None` when the sender hears its own echo.
    pub(crate) receiver: Option<Socket>,
    /// A frame made by [`text`] that reaches the receiver with at least 1000 bytes, or with the
    /// word "signal" in quotes; no other frame does.
    pub(crate) signal: Vec<u8>,
}

impl Pair {
    /// A peer at `target` and one at `other`, registered.
    pub(super) async fn open(
        target: &Target,
        other: &Target,
        bytes: usize,
        nth: usize,
    ) -> anyhow::Result<Self> {
        let (from, to) = (Peer::random(), Peer::random());
        let mut sender = Socket::open(target, 2 * nth).await?;
        let mut receiver = Socket::open(other, 2 * nth + 1).await?;
        register(&mut sender, &from).await?;
        register(&mut receiver, &to).await?;
        Ok(Self { sender, receiver: Some(receiver), signal: signal(&from, &to, bytes) })
    }

    async fn echo(target: &Target, bytes: usize, nth: usize) -> anyhow::Result<Self> {
        let sender = Socket::open(target, 2 * nth).await?;
        let signal = signal(&Peer::random(), &Peer::random(), bytes);
        Ok(Self { sender, receiver: None, signal })
    }

    /// Reads what has come at both ends; `arrived` for each signal.
    pub(super) async fn receive_ready(&mut self, mut arrived: impl FnMut()) -> anyhow::Result<()> {
        self.sender.receive_ready(|_| ()).await?;
        let Some(receiver) = &mut self.receiver else { return Ok(()) };
        let see = |payload: &[u8]| {
            if payload.len() >= 1000 || contains(payload, "\"signal\"") {
                arrived();
            }
        };
        receiver.receive_ready(see).await
    }

    /// Waits until there may be something at the receiver.
    pub(super) async fn readable(&self) -> anyhow::Result<()> {
        self.receiver.as_ref().unwrap_or(&self.sender).readable().await
    }

    /// Reads what has come that is no signal.
    async fn drain(&mut self) -> anyhow::Result<()> {
        self.sender.receive_ready(|_| ()).await?;
        match &mut self.receiver {
            Some(receiver) => receiver.receive_ready(|_| ()).await,
            None => Ok(()),
        }
    }

    async fn play(
        &mut self,
        window: usize,
        end: Instant,
        latencies: &RefCell<Vec<u32>>,
    ) -> anyhow::Result<()> {
        let burst = self.signal.repeat(window);
        let mut sent: VecDeque<Instant> = VecDeque::with_capacity(window);
        let mut free = window;
        let mut turns = 0_u32;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.sender.send(&burst[..free * self.signal.len()]).await?;
            sent.extend(std::iter::repeat_n(now, free));
            free = 0;
            let seen = |payload: &[u8]| {
                if payload.len() < 1000 && !contains(payload, "\"signal\"") {
                    return;
                }
                if let Some(started) = sent.pop_front() {
                    let took = started.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
                    latencies.borrow_mut().push(took);
                    free += 1;
                }
            };
            match &mut self.receiver {
                Some(receiver) => receiver.receive(seen).await?,
                None => self.sender.receive(seen).await?,
            }
            turns += 1;
            if self.receiver.is_some() && turns.is_multiple_of(1000) {
                self.sender.receive_ready(|_| ()).await?;
            }
        }
    }
}

fn signal(from: &Peer, to: &Peer, bytes: usize) -> Vec<u8> {
    let data: String = (0..bytes).map(|_| rand::random_range('a'..='z')).collect();
    let payload = json!({"type": "ice", "from": from.id, "to": to.id, "data": data});
    let frame = json!({"v": "1", "id": "1", "type": "signal", "payload": payload});
    text(frame.to_string().as_bytes())
}

pub(super) async fn register(socket: &mut Socket, peer: &Peer) -> anyhow::Result<()> {
    socket.send(&register_frame(peer)).await?;
    let mut answer = None;
    while answer.is_none() {
        let see = |frame: &[u8]| {
            if contains(frame, "\"register_ack\"") {
                answer = Some(Ok(()));
            } else if contains(frame, "\"error\"") {
                answer = Some(Err(anyhow::anyhow!("{}", String::from_utf8_lossy(frame))));
            }
        };
        socket.receive(see).await?;
    }
    answer.unwrap_or(Ok(()))
}
