//! The relay process. Everything it runs is in the library.

fn main() -> std::process::ExitCode {
    service::run(&relay::ABOUT, relay::serve)
}
