//! The machine itself.

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::cli::Place;
use crate::layout::Layout;
use crate::postgres::{Binaries, Cluster};
use crate::{disk, output};

/// Every connection is a file; the services raise their own limit up to the hard one.
const FILES_ENOUGH: u64 = 65_536;
const DISK_ENOUGH: u64 = 5 << 30;
const DISK_LEAST: u64 = 512 << 20;

/// Postgres's programs, and whether they fit the data.
pub(super) fn postgres(place: &Place, layout: &Layout) -> Finding {
    const CHECK: &str = "postgres programs";
    if place.foreign_url().is_some() {
        return Finding::ok(CHECK, "not needed: DATABASE_URL is set");
    }
    let made_by = Cluster::version(layout).ok().flatten();
    match Binaries::find(place.pg_bin.as_deref(), &layout.tools(), made_by.as_deref()) {
        Ok(found) => {
            let directory = found.directory().display();
            Finding::ok(CHECK, format!("PostgreSQL {} in {directory}", found.major()))
        }
        Err(why) => {
            let package = made_by.map_or(String::new(), |version| format!("-{version}"));
            Finding::broken(
                CHECK,
                format!("{why:#}"),
                format!("apt-get install postgresql{package}"),
            )
        }
    }
}

/// The hard limit on open files.
pub(super) fn files() -> Finding {
    const CHECK: &str = "open files";
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < FILES_ENOUGH => Finding::warn(
            CHECK,
            format!("at most {limit}, so fewer connections than that"),
            format!("ulimit -Hn {FILES_ENOUGH}   # as root; or LimitNOFILE= in the unit"),
        ),
        Some(limit) => Finding::ok(CHECK, format!("up to {limit}")),
        None => Finding::ok(CHECK, "no limit"),
    }
}

/// Room for the data.
pub(super) fn disk(layout: &Layout) -> Finding {
    const CHECK: &str = "disk";
    let fix =
        format!("df -h {}   # make room, or move it with --data DIR", layout.data().display());
    match disk::free_bytes(layout.data()) {
        Some(free) if free < DISK_LEAST => {
            Finding::broken(CHECK, format!("only {} left", output::bytes(free)), fix)
        }
        Some(free) if free < DISK_ENOUGH => {
            Finding::warn(CHECK, format!("{} left", output::bytes(free)), fix)
        }
        Some(free) => Finding::ok(CHECK, format!("{} free", output::bytes(free))),
        None => Finding::broken(CHECK, "its size cannot be told", fix),
    }
}
