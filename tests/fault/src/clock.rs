//! A process's clock, wrong by as much as a test wants, by Debian's libfaketime.

use std::path::PathBuf;

use anyhow::Context as _;
use testkit::process::{Builder, workspace};

/// How long a process goes on by what it read last.
const CACHED_S: u32 = 1;

/// The wall clock of some processes. Their timers go on as they were.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

/// Whether clocks can be shifted; else what is missing.
///
/// # Errors
/// What to install.
pub fn installed() -> anyhow::Result<()> {
    library().map(drop)
}

fn library() -> anyhow::Result<PathBuf> {
    let unpacked = workspace().join("data/tools/root/usr/lib");
    let places = [PathBuf::from("/usr/lib"), unpacked];
    let below = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
    below
        .map(|place| place.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())
        .context("no libfaketime: install the Debian package libfaketime")
}

impl Clock {
    /// One that is right.
    pub(crate) fn right() -> anyhow::Result<Self> {
        let name = format!("fault-clock-{}-{:x}", std::process::id(), rand::random::<u64>());
        let clock = Self { library: library()?, offset: std::env::temp_dir().join(name) };
        clock.shift(0)?;
        Ok(clock)
    }

    /// Makes it the clock of a service about to start.
    pub(crate) fn govern(&self, service: Builder) -> Builder {
        service
            .environment("LD_PRELOAD", self.library.display())
            .environment("FAKETIME_TIMESTAMP_FILE", self.offset.display())
            .environment("FAKETIME_CACHE_DURATION", CACHED_S)
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", 1)
    }

    /// Sets it to `seconds` after the right time.
    pub(crate) fn shift(&self, seconds: i64) -> anyhow::Result<()> {
        // Renamed into place: half a number would be another time.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n"))?;
        Ok(std::fs::rename(new, &self.offset)?)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.offset);
    }
}
