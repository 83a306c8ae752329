//! The launcher and the operator's tool.
//!
//! `switchyard up` runs the whole stack on one machine: a private Postgres, the migrations and
//! the services as child processes; the other commands look after what it runs. This is the one
//! program of the workspace that talks to people rather than to clients, so it alone uses
//! `anyhow` throughout: every failure ends as a line on the terminal that says what to do.

#![forbid(unsafe_code)]

mod account;
mod book;
mod child;
mod cli;
mod clock;
mod database;
mod db;
mod disk;
mod doctor;
mod health;
mod http;
mod identities;
mod layout;
mod link;
mod lock;
mod logins;
mod migrate;
mod output;
mod ports;
mod postgres;
mod secrets;
mod selfcheck;
mod session_key;
mod state;
mod status;
mod supervise;
mod table;
mod tls;
mod turn_cred;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, EXIT_FAILED};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread on purpose: children are told to die with the *thread* that started them.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(&anyhow::anyhow!("cannot start: {why}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(why) => fail(&why),
    }
}

fn fail(why: &anyhow::Error) -> ExitCode {
    output::error(&format!("{why:#}"));
    ExitCode::from(EXIT_FAILED)
}

/// Runs one command; the value is the process's exit code.
async fn run(cli: Cli) -> anyhow::Result<u8> {
    let place = cli.place.read()?;
    match cli.command {
        Command::Up(args) => up::run(&place, args).await,
        Command::Migrate(args) => migrate::run(&place, &args).await,
        Command::Status(args) => status::run(&place, &args).await,
        Command::Doctor(args) => doctor::run(&place, &args).await,
        Command::Db(command) => db::run(&place, command).await,
        Command::Identity(command) => identities::run(&place, command).await,
        Command::SessionKey(args) => session_key_command(&args),
        Command::Peerbook(command) => book::run(&place, command).await,
        Command::TurnCred(args) => turn_cred::run(&place, &args),
        Command::Link(args) => link::run(&args),
        Command::Health(args) => health::run(&args).await,
        Command::Child(args) => child::become_program(&args),
    }
}

/// `switchyard session-key`.
fn session_key_command(args: &cli::SessionKeyArgs) -> anyhow::Result<u8> {
    if args.verify {
        let valid = session_key::is_valid(&args.secret, &args.content)?;
        output::line(if valid { "ok" } else { "fail" });
        return Ok(if valid { cli::EXIT_OK } else { EXIT_FAILED });
    }
    session_key::print(&session_key::issue(&args.secret, &args.content)?)?;
    Ok(cli::EXIT_OK)
}
