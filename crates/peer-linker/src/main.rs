//! The peer-linker process. Everything it runs is in the library.

fn main() -> std::process::ExitCode {
    service::run(&peer_linker::ABOUT, peer_linker::serve)
}
