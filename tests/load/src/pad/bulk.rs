//! As much as passes through one link, in one direction.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::pair::Pair;
use super::peer::Wire;
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What is spoken; the copy relay takes anything.
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) wire: Wire,
    /// Size of a payload; 65499 is the most that both generations carry.
    #[arg(long, default_value_t = 65_499)]
    pub(crate) bytes: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
}

/// Bytes read at once.
const READ: usize = 256 * 1024;

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let mut pair = Pair::open(target, options.wire, 0).await?;
    let mut flow = Flow::new(pair.one.payload(&vec![7; options.bytes])?);
    let (one, other) = (&mut pair.one.stream, &mut pair.other.stream);
    let length = Duration::from_secs_f64(options.seconds);
    flow.pump(one, other, length / 10).await?;
    let meter = Meter::start(target);
    let received = flow.pump(one, other, length).await?;
    let usage = meter.stop();
    let payload = received / options.wire.delivered(options.bytes) as u64 * options.bytes as u64;
    let name = format!("bulk of {} B, {}", options.bytes, options.wire.name());
    Ok(Row::new(name, "MB", payload / 1_000_000, usage)
        .note("GB/s", payload as f64 / usage.elapsed.as_secs_f64() / 1e9))
}

/// A frame that is sent again and again, also where it was left off.
pub(super) struct Flow {
    frame: Vec<u8>,
    at: usize,
}

impl Flow {
    pub(super) fn new(frame: Vec<u8>) -> Self {
        Self { frame, at: 0 }
    }

    /// Sends for a time; the bytes that came out at the other end meanwhile.
    pub(super) async fn pump(
        &mut self,
        one: &mut TcpStream,
        other: &mut TcpStream,
        length: Duration,
    ) -> anyhow::Result<u64> {
        let end = Instant::now() + length;
        let mut buffer = vec![0; READ];
        let mut received = 0;
        let send = async {
            while Instant::now() < end {
                // Unlike `write_all`, this may be given up without losing count.
                self.at += one.write(&self.frame[self.at..]).await?;
                self.at %= self.frame.len();
            }
            anyhow::Ok(())
        };
        let receive = async {
            while Instant::now() < end {
                let read = other.read(&mut buffer).await?;
                ensure!(read > 0, "the server hung up");
                received += read as u64;
            }
            anyhow::Ok(())
        };
        // The reader ends first when the writer waits for room.
        tokio::select! {
            sent = send => sent?,
            done = receive => done?,
        }
        Ok(received)
    }
}
