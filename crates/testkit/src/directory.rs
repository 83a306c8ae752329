//! A directory that goes away with its owner.

use std::path::{Path, PathBuf};

/// Removed with everything in it on drop. The name is short because it holds Unix sockets,
/// whose whole path may take 107 bytes.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(purpose: &str) -> std::io::Result<Self> {
        let unique = &uuid::Uuid::new_v4().simple().to_string()[..12];
        let path = std::env::temp_dir().join(format!("sy-{purpose}-{unique}"));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nobody is left to tell when this fails, and the system clears the place anyway.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
