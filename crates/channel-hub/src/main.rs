//! The channel-hub process. Everything it runs is in the library.

fn main() -> std::process::ExitCode {
    service::run(&channel_hub::ABOUT, channel_hub::serve)
}
