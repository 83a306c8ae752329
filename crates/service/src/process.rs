//! The process's own figures, read from `/proc` when they are asked for.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Unit of the times in `/proc/self/stat`; part of Linux's ABI whatever the kernel's tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Raises the limit on open files to what the process may have: one per socket is needed.
/// Returns the limit in force.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        return getrlimit(Resource::Nofile).current;
    }
    limit.current
}

/// CPU time, memory, threads and files under the names Prometheus's own libraries use.
pub(crate) struct Process {
    cpu: Counter,
    resident: Gauge,
    threads: Gauge,
    files: Gauge,
    files_max: Gauge,
    started: Gauge,
}

impl Process {
    pub(crate) fn new() -> Self {
        let gauge = |name: &str, help: &str| Gauge::new(name, help).expect("the name is valid");
        let cpu = Counter::new("process_cpu_seconds_total", "CPU time spent, in seconds.");
        let process = Self {
            cpu: cpu.expect("the name is valid"),
            resident: gauge("process_resident_memory_bytes", "Resident memory."),
            threads: gauge("process_threads", "Threads."),
            files: gauge("process_open_fds", "Open files."),
            files_max: gauge("process_max_fds", "Most files that may be open."),
            started: gauge("process_start_time_seconds", "Start, in seconds since the epoch."),
        };
        process.started.set(start_time_s().unwrap_or_default());
        process
    }

    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
    fn refresh(&self) {
        if let Some(seconds) = stat_fields(&[11, 12]).map(|ticks| ticks / TICKS_PER_SECOND) {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.resident.set(status_field(&status, "VmRSS:").unwrap_or_default() * 1024.0);
        self.threads.set(status_field(&status, "Threads:").unwrap_or_default());
        self.files.set(open_files() as f64);
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            self.files_max.set(limit as f64);
        }
    }

    fn parts(&self) -> [&dyn Collector; 6] {
        [&self.cpu, &self.resident, &self.threads, &self.files, &self.files_max, &self.started]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Newer kernels give the number as the size of the directory; older ones have it counted.
fn open_files() -> u64 {
    match fs::metadata("/proc/self/fd") {
        Ok(directory) if directory.len() > 0 => directory.len(),
        _ => fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
    }
}

/// Sum of fields of `/proc/self/stat`, counted from the one after the name.
fn stat_fields(wanted: &[usize]) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?; // the name before it may hold blanks
    let fields: Vec<&str> = fields.split_whitespace().collect();
    wanted.iter().map(|field| fields.get(*field)?.parse::<f64>().ok()).sum()
}

fn status_field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn start_time_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let booted: f64 =
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + stat_fields(&[19])? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_this_process() {
        let process = Process::new();
        let families = process.collect();
        assert_eq!(families.len(), 6);
        assert!(process.resident.get() > 100_000.0, "{}", process.resident.get());
        assert!(process.files.get() >= 3.0);
        assert!(process.threads.get() >= 1.0);
        assert!(process.started.get() > 1_577_836_800.0);
        assert!(raise_file_limit().is_none_or(|limit| limit > 64));
    }
}
