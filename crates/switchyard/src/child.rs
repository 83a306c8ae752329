//! Programs that end when the launcher does, even when it is killed.
//!
//! A parent can ask the kernel for that only from inside the child, between fork and exec, which
//! safe Rust does not offer. So the launcher starts itself as `switchyard child … -- PROGRAM`:
//! that process, already running as the right user (changing it later would undo the request),
//! asks for its death signal and then becomes the program. The process id stays the same.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::account::Account;
use crate::cli::ChildArgs;

/// A command that becomes `program` as `account`, or as who we are, and gets `death_signal` when this process ends.
///
/// It is the leader of a process group of its own: Ctrl-C reaches the launcher alone, which
/// stops everything in order.
pub(crate) fn command(
    launcher: &Path,
    account: Option<&Account>,
    death_signal: &str,
    program: &Path,
) -> Command {
    let mut command = Command::new(launcher);
    command.args(["child", "--parent", &std::process::id().to_string()]);
    command.args(["--signal", death_signal, "--"]).arg(program);
    command.stdin(Stdio::null()).process_group(0);
    if let Some(account) = account {
        account.apply(&mut command);
    }
    command
}

/// The child's side; returns only when the program could not be started.
pub(crate) fn become_program(args: &ChildArgs) -> anyhow::Result<u8> {
    set_parent_process_death_signal(Some(signal(&args.signal)?))
        .context("cannot tie this process to its parent")?;
    // The parent may have ended before the request was made.
    if getppid().map(Pid::as_raw_pid) != Some(args.parent) {
        bail!("the launcher has ended");
    }
    let (program, arguments) = args.program.split_first().context("no program")?;
    let why = Command::new(program).args(arguments).exec();
    Err(why).with_context(|| format!("cannot start {}", Path::new(program).display()))
}

fn signal(name: &str) -> anyhow::Result<Signal> {
    match name {
        "INT" => Ok(Signal::INT),
        "TERM" => Ok(Signal::TERM),
        "KILL" => Ok(Signal::KILL),
        _ => bail!("unknown signal {name}"),
    }
}
