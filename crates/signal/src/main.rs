//! The signal process. Everything it runs is in the library.

fn main() -> std::process::ExitCode {
    service::run(&signal::ABOUT, signal::serve)
}
