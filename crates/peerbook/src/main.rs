//! The peerbook process. Everything it runs is in the library.

fn main() -> std::process::ExitCode {
    service::run(&peerbook::ABOUT, peerbook::serve)
}
