//! Everybody joins within seconds, and everybody hears of everybody who came later.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::{join_all, try_join_all};
use testkit::keys::Peer;
use tokio::sync::{Notify, Semaphore};

use super::{contains, register_frame};
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;
use crate::ws::Socket;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Peers that join.
    #[arg(long, default_value_t = 1500)]
    pub(crate) joins: usize,
    /// Registrations under way at once.
    #[arg(long, default_value_t = 64)]
    pub(crate) parallel: usize,
    /// Seconds at most.
    #[arg(long, default_value_t = 60.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let mut sockets = Vec::new();
    for nth in 0..options.joins {
        sockets.push(Socket::open(target, nth).await?);
    }
    let frames: Vec<Vec<u8>> =
        (0..options.joins).map(|_| register_frame(&Peer::random())).collect();
    let storm = Storm {
        turns: Semaphore::new(options.parallel),
        acks: RefCell::new(Vec::new()),
        last_ack: Cell::new(Instant::now()),
        presence: Cell::new(0),
        // Whoever registers is announced to all who registered before: one frame per couple.
        couples: (options.joins * (options.joins - 1) / 2) as u64,
        complete: Cell::new(None),
        done: Notify::new(),
    };
    let meter = Meter::start(target);
    let started = Instant::now();
    let peers = sockets.iter_mut().zip(&frames).map(|(socket, frame)| storm.join(socket, frame));
    let everybody = async {
        tokio::select! {
            ended = try_join_all(peers) => ended.map(drop),
            () = storm.done.notified() => Ok(()),
        }
    };
    let limit = Duration::from_secs_f64(options.seconds);
    let in_time = tokio::time::timeout(limit, everybody).await;
    let mut usage = meter.stop();
    let acks = storm.acks.into_inner();
    let (came, couples) = (storm.presence.get(), storm.couples);
    ensure!(acks.len() == options.joins, "only {} of {} joined", acks.len(), options.joins);
    ensure!(in_time.is_ok(), "only {came} of {couples} presence frames came in {limit:?}");
    in_time??;
    let joining = storm.last_ack.get().duration_since(started);
    if let Some(complete) = storm.complete.get() {
        usage.elapsed = complete.duration_since(started);
    }
    let server_us = usage.server.map(|time| time.as_secs_f64() * 1e6);
    join_all(sockets.into_iter().map(Socket::close)).await;

    let name = format!("signal storm of {}", options.joins);
    let mut row = Row::new(name, "joins", options.joins as u64, usage)
        .latencies(acks)
        .note("acknowledged joins/s", options.joins as f64 / joining.as_secs_f64())
        .note("presence frames/s", came as f64 / usage.elapsed.as_secs_f64());
    if let Some(server_us) = server_us {
        row = row.note("server us/frame", server_us / (came + options.joins as u64) as f64);
    }
    Ok(row)
}

struct Storm {
    turns: Semaphore,
    /// Microseconds until each acknowledgement.
    acks: RefCell<Vec<u32>>,
    last_ack: Cell<Instant>,
    presence: Cell<u64>,
    couples: u64,
    complete: Cell<Option<Instant>>,
    done: Notify,
}

impl Storm {
    /// Registers when it is its turn, then listens until the storm is over.
    async fn join(&self, socket: &mut Socket, register: &[u8]) -> anyhow::Result<()> {
        let turn = self.turns.acquire().await?;
        let started = Instant::now();
        socket.send(register).await?;
        let mut turn = Some(turn);
        loop {
            let mut refused = None;
            socket
                .receive(|frame| {
                    if contains(&frame[..frame.len().min(120)], "\"presence_update\"") {
                        self.presence.set(self.presence.get() + 1);
                    } else if turn.is_some() && contains(frame, "\"register_ack\"") {
                        let took = started.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
                        self.acks.borrow_mut().push(took);
                        self.last_ack.set(Instant::now());
                        turn = None;
                    } else {
                        refused = Some(String::from_utf8_lossy(frame).into_owned());
                    }
                })
                .await?;
            ensure!(refused.is_none(), "{refused:?}");
            if self.presence.get() >= self.couples && self.complete.get().is_none() {
                self.complete.set(Some(Instant::now()));
                self.done.notify_one();
            }
        }
    }
}
