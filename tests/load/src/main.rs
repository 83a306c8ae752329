//! Load generators for the services, and the programs they are compared with.
//!
//! Every generator prepares its requests and signatures before the clock starts and speaks the
//! protocol over bare sockets, so that on a shared machine the server is what gets measured.
//! `load bench` starts a private Postgres and the services itself and runs them all;
//! `scripts/bench` builds everything and calls it. Only loopback addresses are accepted.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod bench;
mod book;
mod http;
mod mesh;
mod meter;
mod pad;
mod relay;
mod report;
mod signal;
mod simulate;
mod target;
mod ws;

use clap::{Parser, Subcommand};

use crate::target::Target;

/// Load generators for the PeerLink services, loopback only.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Relay: signed stores of one message each.
    RelayStore(Load<relay::store::Options>),
    /// Relay: fetches of an empty or a small mailbox.
    RelayFetch(Load<relay::fetch::Options>),
    /// Relay: acks in one big mailbox.
    RelayAck(Load<relay::ack::Options>),
    /// Relay: group messages to many recipients.
    RelayGroup(Load<relay::group::Options>),
    /// Relay: one very long queue, filled and read back.
    RelayQueue(Load<relay::queue::Options>),
    /// Relay: one big blob up in chunks and down again.
    RelayBlob(Load<relay::blob::Options>),
    /// Signal: pairs that send each other signals. Against `load echo`: the comparison.
    SignalForward(Load<signal::forward::Options>),
    /// Signal: peers at two replicas that send each other signals at a steady rate.
    SignalAcross(Load<signal::across::Options>),
    /// Signal: peers that move to another replica.
    SignalTakeover(Load<signal::takeover::Options>),
    /// Signal: registrations.
    SignalRegister(Load<signal::register::Options>),
    /// Signal: everybody joins and hears of everybody.
    SignalStorm(Load<signal::storm::Options>),
    /// Peerbook: pairs of a user's peers that send each other candidates.
    BookForward(Load<book::forward::Options>),
    /// Peerbook: from the end of an approval to a closed socket.
    BookRevoke(Load<book::revoke::Options>),
    /// Mesh: posts, credentials, prices, refusals.
    MeshRequest(Load<mesh::request::Options>),
    /// Mesh: posts that many listeners hear.
    MeshDeliver(Load<mesh::deliver::Options>),
    /// Mesh: streams in which nothing happens, and the memory each costs the server.
    MeshIdle(Load<mesh::idle::Options>),
    /// Idle WebSockets and the memory each costs the server.
    Idle(Load<signal::idle::Options>),
    /// A bare WebSocket echo server, which `signal-forward --echo` is compared with.
    Echo(signal::echo::Options),
    /// peer-linker: a small payload there and back. Against `load copy`: the comparison.
    PadRoundTrip(Load<pad::round_trip::Options>),
    /// peer-linker: as much as passes through one link. Against `load copy`: the comparison.
    PadBulk(Load<pad::bulk::Options>),
    /// peer-linker: round trips beside a pair that sends as much as it can.
    PadNeighbour(Load<pad::neighbour::Options>),
    /// peer-linker, channel-hub: idle connections or pads and the memory each costs the server.
    PadIdle(Load<pad::idle::Options>),
    /// peer-linker: readers that stop, the memory they cost and that they miss nothing.
    PadStall(Load<pad::stall::Options>),
    /// channel-hub: pad requests.
    PadRequest(Load<pad::request::Options>),
    /// A plain TCP copy relay, which peer-linker is compared with.
    Copy(pad::copy::Options),
    /// What a deployment carries, from measured costs: on paper and played.
    Simulate(simulate::Options),
    /// Everything, against services and a Postgres of its own.
    Bench(bench::Options),
}

/// A generator's options together with what it aims at.
#[derive(clap::Args)]
struct Load<O: clap::Args> {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: O,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Command::Echo(options) = &cli.command {
        return signal::echo::serve(options);
    }
    if let Command::Copy(options) = &cli.command {
        return pad::copy::serve(options);
    }
    if let Command::Simulate(options) = &cli.command {
        return simulate::run(options, cli.json);
    }
    // One thread: the generator must not take both cores from what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(run(&cli))?;
    report::print(&rows, cli.json)
}

async fn run(cli: &Cli) -> anyhow::Result<Vec<report::Row>> {
    let row = match &cli.command {
        Command::RelayStore(load) => relay::store::run(&load.target, &load.options).await?,
        Command::RelayFetch(load) => relay::fetch::run(&load.target, &load.options).await?,
        Command::RelayAck(load) => relay::ack::run(&load.target, &load.options).await?,
        Command::RelayGroup(load) => relay::group::run(&load.target, &load.options).await?,
        Command::RelayQueue(load) => relay::queue::run(&load.target, &load.options).await?,
        Command::RelayBlob(load) => relay::blob::run(&load.target, &load.options).await?,
        Command::SignalForward(load) => signal::forward::run(&load.target, &load.options).await?,
        Command::SignalAcross(load) => signal::across::run(&load.target, &load.options).await?,
        Command::SignalTakeover(load) => signal::takeover::run(&load.target, &load.options).await?,
        Command::SignalRegister(load) => signal::register::run(&load.target, &load.options).await?,
        Command::SignalStorm(load) => signal::storm::run(&load.target, &load.options).await?,
        Command::BookForward(load) => book::forward::run(&load.target, &load.options).await?,
        Command::BookRevoke(load) => book::revoke::run(&load.target, &load.options).await?,
        Command::MeshRequest(load) => mesh::request::run(&load.target, &load.options).await?,
        Command::MeshDeliver(load) => mesh::deliver::run(&load.target, &load.options).await?,
        Command::MeshIdle(load) => mesh::idle::run(&load.target, &load.options).await?,
        Command::Idle(load) => signal::idle::run(&load.target, &load.options).await?,
        Command::PadRoundTrip(load) => pad::round_trip::run(&load.target, &load.options).await?,
        Command::PadBulk(load) => pad::bulk::run(&load.target, &load.options).await?,
        Command::PadNeighbour(load) => pad::neighbour::run(&load.target, &load.options).await?,
        Command::PadIdle(load) => pad::idle::run(&load.target, &load.options).await?,
        Command::PadStall(load) => pad::stall::run(&load.target, &load.options).await?,
        Command::PadRequest(load) => pad::request::run(&load.target, &load.options).await?,
        Command::Copy(_) | Command::Echo(_) | Command::Simulate(_) => {
            anyhow::bail!("served before any runtime exists")
        }
        Command::Bench(options) => return bench::run(options, cli.json).await,
    };
    Ok(vec![row])
}
