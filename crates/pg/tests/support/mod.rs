//! What several tests of this crate share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use pg::Task;
use prometheus::Registry;

/// Runs a task as a service would.
#[expect(clippy::disallowed_methods, reason = "a test has no process to spawn through")]
pub(crate) fn spawn(_name: &'static str, task: Task) {
    tokio::spawn(task);
}

/// The value of a counter or the count of a histogram, over all labels.
pub(crate) fn metric(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    family.map_or(0.0, |family| {
        let values = family.get_metric().iter().map(|metric| {
            let observed = metric.get_histogram().get_sample_count();
            metric.get_counter().get_value()
                + f64::from(u32::try_from(observed).unwrap_or(u32::MAX))
        });
        values.sum()
    })
}
