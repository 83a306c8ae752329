//! How busy this process's container, or the machine, is.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// Where usage can be read.
enum Source {
    /// Control groups, version 2.
    V2(PathBuf),
    /// Version 1: the controllers' own directories.
    V1 { cpu: PathBuf, memory: PathBuf },
    /// The whole machine.
    Machine,
    /// Two numbers in a file, for tests.
    File(PathBuf),
}

/// Reads usage; each sample covers the time since the one before.
pub(crate) struct Sampler {
    source: Source,
    before: Option<(Instant, f64)>,
}

impl Sampler {
    /// Looks for the narrowest source there is; `file` overrides them all.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { source: file.map_or_else(find, Source::File), before: None }
    }

    /// Shares of processors and memory in use, 0 to 1.
    pub(crate) fn sample(&mut self) -> (f64, f64) {
        if let Source::File(path) = &self.source {
            let text = fs::read_to_string(path).unwrap_or_default();
            let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
            return (numbers.next().unwrap_or(0.0), numbers.next().unwrap_or(0.0));
        }
        let now = Instant::now();
        let used_s = self.cpu_seconds().unwrap_or(0.0);
        let cpu = self.before.map_or(0.0, |(then, before)| {
            let passed = now.duration_since(then).as_secs_f64().max(0.001);
            (used_s - before) / passed / self.cores()
        });
        self.before = Some((now, used_s));
        (cpu.clamp(0.0, 1.0), self.memory().unwrap_or(0.0).clamp(0.0, 1.0))
    }

    fn cpu_seconds(&self) -> Option<f64> {
        match &self.source {
            Source::V2(group) => {
                Some(field(&fs::read_to_string(group.join("cpu.stat")).ok()?, "usage_usec")? / 1e6)
            }
            Source::V1 { cpu, .. } => Some(number(&cpu.join("cpuacct.usage"))? / 1e9),
            Source::Machine | Source::File(_) => {
                let text = fs::read_to_string("/proc/stat").ok()?;
                let first = text.lines().next()?;
                let ticks: Vec<f64> =
                    first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
                // Idle and waiting for a disk are the fourth and fifth; ticks are hundredths.
                let busy =
                    |(at, ticks): (usize, &f64)| if at == 3 || at == 4 { 0.0 } else { *ticks };
                Some(ticks.iter().take(8).enumerate().map(busy).sum::<f64>() / 100.0)
            }
        }
    }

    fn cores(&self) -> f64 {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let all = f64::from(u16::try_from(all).unwrap_or(u16::MAX));
        let quota = match &self.source {
            Source::V2(group) => fs::read_to_string(group.join("cpu.max")).ok().and_then(|text| {
                let mut words = text.split_whitespace();
                let quota: f64 = words.next()?.parse().ok()?;
                Some(quota / words.next()?.parse::<f64>().ok()?)
            }),
            Source::V1 { cpu, .. } => number(&cpu.join("cpu.cfs_quota_us"))
                .filter(|quota| *quota > 0.0)
                .and_then(|quota| Some(quota / number(&cpu.join("cpu.cfs_period_us"))?)),
            Source::Machine | Source::File(_) => None,
        };
        quota.map_or(all, |quota| quota.min(all)).max(0.01)
    }

    fn memory(&self) -> Option<f64> {
        let (used, limit) = match &self.source {
            Source::V2(group) => {
                let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
                let inactive = field(&stat, "inactive_file").unwrap_or(0.0);
                (
                    number(&group.join("memory.current"))? - inactive,
                    number(&group.join("memory.max")),
                )
            }
            Source::V1 { memory, .. } => {
                let stat = fs::read_to_string(memory.join("memory.stat")).ok()?;
                let inactive = field(&stat, "total_inactive_file").unwrap_or(0.0);
                let used = number(&memory.join("memory.usage_in_bytes"))? - inactive;
                (used, number(&memory.join("memory.limit_in_bytes")))
            }
            Source::Machine | Source::File(_) => return machine_memory(),
        };
        let machine = meminfo("MemTotal:")? * 1024.0;
        // No limit, or one beyond what there is: then the machine's own memory counts.
        match limit {
            Some(limit) if limit < machine => Some(used / limit),
            _ => machine_memory(),
        }
    }
}

fn find() -> Source {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path_of = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let named = parts.next()?.split(',').any(|name| name == controller);
            named
                .then(|| parts.next())
                .flatten()
                .map(|path| path.trim_start_matches('/').to_owned())
        })
    };
    // Inside a container the group's own directory is often mounted as the root.
    let at = |root: &str, path: &str, file: &str| {
        [PathBuf::from(root).join(path), PathBuf::from(root)]
            .into_iter()
            .find(|directory| directory.join(file).exists())
    };
    if let Some(group) = path_of("").and_then(|path| at("/sys/fs/cgroup", &path, "memory.current"))
    {
        return Source::V2(group);
    }
    let cpu = path_of("cpuacct").and_then(|path| {
        at("/sys/fs/cgroup/cpu,cpuacct", &path, "cpuacct.usage")
            .or_else(|| at("/sys/fs/cgroup/cpuacct", &path, "cpuacct.usage"))
    });
    let memory = path_of("memory")
        .and_then(|path| at("/sys/fs/cgroup/memory", &path, "memory.usage_in_bytes"));
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => Source::V1 { cpu, memory },
        _ => Source::Machine,
    }
}

fn machine_memory() -> Option<f64> {
    Some(1.0 - meminfo("MemAvailable:")? / meminfo("MemTotal:")?)
}

fn meminfo(name: &str) -> Option<f64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, name)
}

fn number(path: &std::path::Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_shares_and_work_shows() {
        let mut sampler = Sampler::new(None);
        sampler.sample();
        let until = Instant::now() + std::time::Duration::from_millis(300);
        let mut sum = 0_u64;
        while Instant::now() < until {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let (cpu, mem) = sampler.sample();
        assert!(cpu > 0.1 && cpu <= 1.0, "{cpu}");
        assert!(mem > 0.0 && mem < 1.0, "{mem}");
    }

    #[test]
    fn a_file_overrides_what_is_measured() {
        let path = std::env::temp_dir().join(format!("load-{}", std::process::id()));
        fs::write(&path, "0.25 0.5\n").unwrap();
        assert_eq!(Sampler::new(Some(path.clone())).sample(), (0.25, 0.5));
        fs::remove_file(path).unwrap();
    }
}
