//! One `up` per data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held for as long as this lives. The kernel lets go of it when the process ends, however it
/// ends, so a lock never has to be cleaned up.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "open for as long as the lock is held")] File);

impl Lock {
    /// Takes the lock, or names the process that holds it.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        let mut file = open(path).with_context(|| format!("cannot open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder); // only for the message
                bail!(
                    "this stack already runs (process {}): look with `switchyard status`, stop it \
                     with `kill {}`, or start another one with --data DIR --port-offset 100",
                    holder.trim(),
                    holder.trim()
                );
            }
            Err(why) => bail!("cannot lock {}: {why}", path.display()),
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }

    /// The process that holds the lock, if one does.
    pub(crate) fn holder(path: &Path) -> Option<u32> {
        let mut file = File::open(path).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).ok()?;
                Some(holder.trim().parse().unwrap_or(0))
            }
            _ => None,
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_learns_who_holds_it_and_gets_it_afterwards() {
        let path = std::env::temp_dir().join(format!("lock-{}", std::process::id()));
        assert_eq!(Lock::holder(&path), None);
        let held = Lock::take(&path).unwrap();
        let refused = Lock::take(&path).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert_eq!(Lock::holder(&path), Some(std::process::id()));
        drop(held);
        assert_eq!(Lock::holder(&path), None);
        Lock::take(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
