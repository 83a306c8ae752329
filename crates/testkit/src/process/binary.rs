//! Finds a service's binary, building it when it is missing or older than its sources.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, bail};

/// The directory of the workspace this was built from.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate lies two levels down").to_owned()
}

/// The path of an up to date binary `name`, which is also the name of its crate.
///
/// Blocks while it builds; only one test builds at a time.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("SWITCHYARD_BIN_DIR");
    if let Some(directory) = given {
        let path = Path::new(&directory).join(name);
        return path
            .is_file()
            .then_some(path)
            .with_context(|| format!("no {name} in {directory:?}"));
    }
    let directory = profile_directory()?;
    let path = directory.join(name);
    let lock = File::create(directory.join(".testkit-build.lock"))?;
    lock.lock()?;
    if !is_fresh(&path) {
        build(name, &directory)?;
    }
    Ok(path)
}

/// `target/debug` or its like: where the running test, example or program lies.
fn profile_directory() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut directory = own.parent().context("an executable lies in a directory")?;
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().context("deps lies in a directory")?;
    }
    Ok(directory.to_owned())
}

/// Whether every source cargo noted beside the binary is older than it.
fn is_fresh(binary: &Path) -> bool {
    let Some(built) = modified(binary) else { return false };
    let Ok(noted) = std::fs::read_to_string(binary.with_extension("d")) else { return false };
    let Some((_, sources)) = noted.split_once(": ") else { return false };
    let lock = workspace().join("Cargo.lock");
    // cargo writes a blank inside a path as `\ `
    let sources = sources.trim().replace("\\ ", "\u{0}");
    let mut sources = sources.split(' ').map(|path| PathBuf::from(path.replace('\u{0}', " ")));
    modified(&lock).is_some_and(|at| at <= built)
        && sources.all(|source| modified(&source).is_some_and(|at| at <= built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

fn build(name: &str, directory: &Path) -> anyhow::Result<()> {
    let target = directory.parent().context("a profile's directory lies in the target's")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--profile", profile, "--package", name, "--bin", name]);
    cargo.arg("--target-dir").arg(target).current_dir(workspace());
    let done = cargo.output().context("cargo does not start")?;
    if !done.status.success() {
        bail!("building {name} failed:\n{}", String::from_utf8_lossy(&done.stderr));
    }
    let path = directory.join(name);
    // cargo leaves the file alone when only a comment's date changed; without this the next
    // test would ask it again.
    File::options().append(true).open(&path)?.set_modified(now())?;
    Ok(())
}

fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "file dates are the system's, not a service's")]
    SystemTime::now()
}
