//! The mesh process. Everything it runs is in the library.

fn main() -> std::process::ExitCode {
    service::run(&mesh::ABOUT, mesh::serve)
}
