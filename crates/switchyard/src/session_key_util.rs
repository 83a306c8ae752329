//! The original's `session-key-util`, with its arguments and exit codes.
//!
//! `session-key-util SECRET CONTENT` prints a certificate, `session-key-util -d SECRET
//! CERTIFICATE` prints `ok` or `fail` and exits with 0 either way. Everything else exits with 1.

#![forbid(unsafe_code)]

mod session_key;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: session-key-util [-d|--verify] SECRET TARGET

  SECRET        file with the servers' secret
  TARGET        file with the content of the certificate to make
  -d, --verify  TARGET is a certificate: print ok or fail
  -h, --help    print this
";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)) {
        Ok(code) => code,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "session-key-util: {why:#}"); // nobody else to tell
            ExitCode::FAILURE
        }
    }
}

fn run(words: impl Iterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let (mut verify, mut files) = (false, Vec::new());
    for word in words {
        match word.to_str() {
            Some("-h" | "--help") => {
                session_key::print(USAGE.as_bytes())?;
                return Ok(ExitCode::SUCCESS);
            }
            Some("-d" | "--verify") => verify = true,
            _ => files.push(word),
        }
    }
    let [secret, target] = &files[..] else {
        session_key::print(USAGE.as_bytes())?;
        return Ok(ExitCode::FAILURE);
    };
    let (secret, target) = (Path::new(secret), Path::new(target));
    if verify {
        let valid = session_key::is_valid(secret, target)?;
        session_key::print(if valid { b"ok\n" } else { b"fail\n" })?;
    } else {
        session_key::print(&session_key::issue(secret, target)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
