//! Every service's replicas, and what may happen to them; see [`fault`] for the invariants of each.
//!
//! One seed each; `FAULT_SEEDS=20` runs so many, `FAULT_SEED=7` that one (`scripts/faults` runs the long set).

use fault::{Fault, Over, Players, Scene, run};

/// The seeds to run.
fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test has no service::run to read settings")]
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("FAULT_SEEDS").unwrap_or(1),
    }
}

async fn all_seeds<P: Players>(fault: Fault, over: Over, replicas: usize) -> anyhow::Result<()> {
    if fault == Fault::Clock
        && let Err(missing) = fault::faketime_installed()
    {
        say(&format!("SKIPPED: {missing}"));
        return Ok(());
    }
    let mut failed = Vec::new();
    for seed in seeds() {
        if let Err(why) = run::<P>(Scene { fault, over, replicas }, seed).await {
            say(&format!("FAILED seed {seed}: {why:?}"));
            failed.push(seed);
        }
    }
    anyhow::ensure!(failed.is_empty(), "seeds that failed: {failed:?}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a test says what it skipped, and each seed that failed")]
fn say(text: &str) {
    println!("{text}");
}

macro_rules! faults {
    ($module:ident, $players:ty; $($name:ident => $fault:ident, $over:ident, $replicas:literal;)*) => {
        mod $module {
            use super::{Fault, Over, all_seeds};

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> anyhow::Result<()> {
                all_seeds::<$players>(Fault::$fault, Over::$over, $replicas).await
            })*
        }
    };
}

faults! { signal, fault::signal::Peers;
    a_killed_replica_over_postgres => Kill, Postgres, 2;
    a_killed_replica_over_nats => Kill, Nats, 2;
    a_killed_one_of_three_over_postgres => Kill, Postgres, 3;
    a_paused_replica_over_postgres => Pause, Postgres, 2;
    a_paused_replica_over_nats => Pause, Nats, 2;
    a_drained_replica_over_postgres => Drain, Postgres, 2;
    a_drained_replica_over_nats => Drain, Nats, 2;
    a_killed_postgres_over_postgres => Postgres, Postgres, 2;
    a_killed_postgres_over_nats => Postgres, Nats, 2;
    a_cut_link_to_postgres_over_postgres => CutPostgres, Postgres, 2;
    a_cut_link_to_postgres_over_nats => CutPostgres, Nats, 2;
    a_slow_and_breaking_link_to_postgres => BadPostgres, Postgres, 2;
    a_wrong_clock => Clock, Postgres, 2;
    a_killed_nats => Nats, Nats, 2;
    a_cut_link_to_nats => CutNats, Nats, 2;
    a_slow_and_breaking_link_to_nats => BadNats, Nats, 2;
}

faults! { peer_linker, fault::pads::Pads;
    a_killed_replica => Kill, Postgres, 2;
    a_killed_one_of_three => Kill, Postgres, 3;
    a_paused_replica => Pause, Postgres, 2;
    a_drained_replica => Drain, Postgres, 2;
    a_killed_postgres => Postgres, Postgres, 2;
    a_cut_link_to_postgres => CutPostgres, Postgres, 2;
    a_slow_and_breaking_link_to_postgres => BadPostgres, Postgres, 2;
    a_wrong_clock => Clock, Postgres, 2;
}

faults! { channel_hub, fault::channels::Visitors;
    a_killed_replica => Kill, Postgres, 2;
    a_killed_one_of_three => Kill, Postgres, 3;
    a_paused_replica => Pause, Postgres, 2;
    a_drained_replica => Drain, Postgres, 2;
    a_killed_postgres => Postgres, Postgres, 2;
    a_cut_link_to_postgres => CutPostgres, Postgres, 2;
    a_slow_and_breaking_link_to_postgres => BadPostgres, Postgres, 2;
    a_wrong_clock => Clock, Postgres, 2;
}

faults! { peerbook, fault::book::Books;
    a_killed_replica_over_postgres => Kill, Postgres, 2;
    a_killed_replica_over_nats => Kill, Nats, 2;
    a_killed_one_of_three_over_nats => Kill, Nats, 3;
    a_paused_replica_over_postgres => Pause, Postgres, 2;
    a_paused_replica_over_nats => Pause, Nats, 2;
    a_drained_replica_over_postgres => Drain, Postgres, 2;
    a_killed_postgres_over_postgres => Postgres, Postgres, 2;
    a_killed_postgres_over_nats => Postgres, Nats, 2;
    a_cut_link_to_postgres_over_postgres => CutPostgres, Postgres, 2;
    a_slow_and_breaking_link_to_postgres => BadPostgres, Postgres, 2;
    a_wrong_clock => Clock, Postgres, 2;
    a_killed_nats => Nats, Nats, 2;
    a_cut_link_to_nats => CutNats, Nats, 2;
    a_slow_and_breaking_link_to_nats => BadNats, Nats, 2;
}

faults! { mesh, fault::posts::Posts;
    a_killed_replica => Kill, Postgres, 2;
    a_killed_one_of_three => Kill, Postgres, 3;
    a_paused_replica => Pause, Postgres, 2;
    a_drained_replica => Drain, Postgres, 2;
    a_killed_postgres => Postgres, Postgres, 2;
    a_cut_link_to_postgres => CutPostgres, Postgres, 2;
    a_slow_and_breaking_link_to_postgres => BadPostgres, Postgres, 2;
    a_wrong_clock => Clock, Postgres, 2;
}
