//! Every fault over each backend; see [`fault::replicas`] for the invariants.
//!
//! One seed each; `FAULT_SEEDS=20` runs so many, `FAULT_SEED=7` that one (`scripts/faults` runs the long set).

use fault::replicas::{Fault, run};

/// The seeds to run.
fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test has no service::run to read settings")]
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("FAULT_SEEDS").unwrap_or(1),
    }
}

macro_rules! faults {
    ($($name:ident => $fault:ident, $over_nats:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> anyhow::Result<()> {
            for seed in seeds() {
                run(Fault::$fault, $over_nats, seed).await?;
            }
            Ok(())
        })*
    };
}

faults! {
    a_killed_replica_over_postgres => Kill, false;
    a_killed_replica_over_nats => Kill, true;
    a_paused_replica_over_postgres => Pause, false;
    a_paused_replica_over_nats => Pause, true;
    a_drained_replica_over_postgres => Drain, false;
    a_drained_replica_over_nats => Drain, true;
    a_killed_postgres_over_postgres => Postgres, false;
    a_killed_postgres_over_nats => Postgres, true;
    a_killed_nats => Nats, true;
    a_cut_link_to_nats => CutLink, true;
    a_slow_and_breaking_link_to_nats => BadLink, true;
}
