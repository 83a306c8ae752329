//! Room on a file system.

use std::path::Path;

/// Bytes an ordinary user may still write below `path`, or below its nearest existing parent.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let found = path.ancestors().find(|part| part.exists())?;
    let facts = rustix::fs::statvfs(found).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}
