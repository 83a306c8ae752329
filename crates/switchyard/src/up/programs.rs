//! Finding this program and the services beside it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, bail};

use crate::layout::Layout;

/// This program as the account can start it.
pub(crate) fn launcher(layout: &Layout) -> anyhow::Result<PathBuf> {
    reachable(layout, own_path()?)
}

/// A service's program as the account can start it.
pub(crate) fn service(layout: &Layout, name: &str) -> anyhow::Result<PathBuf> {
    reachable(layout, &beside(name)?)
}

/// Fails with what to do when a service was not built.
pub(crate) fn require(
    layout: &Layout,
    mut names: impl Iterator<Item = &'static str>,
) -> anyhow::Result<()> {
    names.try_for_each(|name| service(layout, name).map(drop))
}

/// Where the program of a service is, reachable or not.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = own_path()?.with_file_name(name);
    if !path.exists() {
        let own = own_path()?.display();
        bail!("there is no `{name}` beside {own}: cargo build --release -p {name} (or scripts/up)");
    }
    Ok(path)
}

/// Read once: after a rebuild the kernel calls the running file "deleted".
fn own_path() -> anyhow::Result<&'static Path> {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    if OWN.get().is_none() {
        let path = std::env::current_exe().context("cannot tell where this program is")?;
        let _ = OWN.set(path); // somebody else was as fast
    }
    Ok(OWN.get().map(PathBuf::as_path).expect("it was just set"))
}

/// `program`, or a copy of it under the data directory when the account cannot get to the original:
/// root's home is closed to the user that root's stack runs as.
fn reachable(layout: &Layout, program: &Path) -> anyhow::Result<PathBuf> {
    if layout.account().can_reach(program) {
        return Ok(program.to_owned());
    }
    layout.make_private(&layout.bin())?;
    let name = program.file_name().context("a program has a name")?;
    let copy = layout.bin().join(name);
    if is_same(program, &copy) {
        return Ok(copy);
    }
    let draft = copy.with_added_extension("new");
    let attempt = || {
        fs::copy(program, &draft)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?;
        // The time tells whether the copy is still a copy.
        let modified = fs::metadata(program)?.modified()?;
        fs::File::options().write(true).open(&draft)?.set_modified(modified)?;
        fs::rename(&draft, &copy)
    };
    attempt()
        .with_context(|| format!("cannot copy {} to {}", program.display(), copy.display()))?;
    Ok(copy)
}

fn is_same(program: &Path, copy: &Path) -> bool {
    let facts = |path: &Path| {
        fs::metadata(path).ok().map(|found| (found.size(), found.mtime(), found.mtime_nsec()))
    };
    facts(program).is_some_and(|original| facts(copy) == Some(original))
}
