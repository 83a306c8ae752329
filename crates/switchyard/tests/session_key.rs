//! Making and checking user certificates, under both names of the tool.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UTIL: &str = env!("CARGO_BIN_EXE_session-key-util");
const SWITCHYARD: &str = env!("CARGO_BIN_EXE_switchyard");

fn run(program: &str, arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(program).args(arguments).args(files).output().unwrap()
}

/// A directory of this test alone, with the sample of the original's repository in it.
fn sample(name: &str) -> (PathBuf, PathBuf, PathBuf) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).unwrap();
    let (secret, content) = (directory.join("secret"), directory.join("content"));
    let bytes = (0..16).map(|at| u8::from_str_radix(&SECRET[2 * at..2 * at + 2], 16).unwrap());
    fs::write(&secret, bytes.collect::<Vec<_>>()).unwrap();
    fs::write(&content, CONTENT).unwrap();
    (directory, secret, content)
}

const SECRET: &str = "27346e24a5cab3038130af03c073cd0e";
const CONTENT: &[u8] = b"user=origin\nexpire=20241231\n";
const CERTIFICATE: &[u8] =
    b"j7SA2rS6+LFkGvjIozRPLgAtYAmkf1vtULwUr4xZeJs=\nuser=origin\nexpire=20241231\n";

#[test]
fn both_names_print_the_same_certificate_and_nothing_more() {
    let (directory, secret, content) = sample("issue");
    for (program, arguments) in [(UTIL, &[][..]), (SWITCHYARD, &["session-key"])] {
        let output = run(program, arguments, &[&secret, &content]);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), CERTIFICATE));
    }
    fs::write(&content, [CONTENT, b"\0more"].concat()).unwrap();
    assert_eq!(run(UTIL, &[], &[&secret, &content]).stdout, CERTIFICATE, "cut at a NUL");
    assert_eq!(run(UTIL, &[], &[&secret, &directory.join("none")]).status.code(), Some(1));
}

#[test]
fn checks_say_ok_or_fail_and_only_our_name_fails_by_its_exit_code() {
    let (directory, secret, _) = sample("verify");
    let certificate = directory.join("certificate");
    for (bytes, said, code) in [(CERTIFICATE, &b"ok\n"[..], 0), (CONTENT, b"fail\n", 1)] {
        fs::write(&certificate, bytes).unwrap();
        for (program, arguments, expected) in [
            (UTIL, &["-d"][..], 0),
            (UTIL, &["--verify"], 0),
            (SWITCHYARD, &["session-key", "--verify"], code),
        ] {
            let output = run(program, arguments, &[&secret, &certificate]);
            assert_eq!((output.status.code(), &output.stdout[..]), (Some(expected), said));
        }
    }
}

#[test]
fn missing_arguments_are_told_how_and_exit_with_one() {
    let (_, secret, _) = sample("usage");
    let output = run(UTIL, &[], &[&secret]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.starts_with(b"Usage: session-key-util"));
    assert_eq!(run(UTIL, &["--help"], &[]).status.code(), Some(0));
}
