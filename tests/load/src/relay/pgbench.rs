//! The comparison for stores: pgbench inserting the same kilobyte, one row a transaction.

use std::process::Command;

use anyhow::{Context as _, ensure};
use sqlx::{ConnectOptions as _, Executor as _};
use testkit::cluster::Cluster;

use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;

/// The same columns a mailbox needs at least: whose, which, what, when.
const TABLE: &str = "
    CREATE SCHEMA IF NOT EXISTS load;
    DROP TABLE IF EXISTS load.envelope;
    CREATE TABLE load.envelope (
        recipient bytea NOT NULL,
        id        bytea NOT NULL,
        body      bytea NOT NULL,
        stored_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (recipient, id)
    )";

const SCRIPT: &str = "\\set recipient random(1, 1000)
\\set id random(1, 9000000000000000000)
INSERT INTO load.envelope (recipient, id, body) VALUES (int8send(:recipient), int8send(:id), convert_to(:body, 'UTF8'));
";

/// Runs it with 64 connections for `seconds`.
pub(crate) async fn run(cluster: &Cluster, seconds: f64) -> anyhow::Result<Row> {
    let mut connection = cluster.options().connect().await?;
    connection.execute(TABLE).await?;
    let directory = std::env::temp_dir().join(format!("load-pgbench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let script = directory.join("script.sql");
    std::fs::write(&script, SCRIPT)?;

    let whole = (seconds.ceil() as u64).max(1).to_string();
    let body: String =
        "abcdefghijklmnopqrstuvwxyzABCDEF0123456789".chars().cycle().take(1024).collect();
    let mut pgbench = Command::new(cluster.programs().join("pgbench"));
    pgbench.args(["-n", "-M", "prepared", "-c", "64", "-j", "1", "-l", "-U", "postgres"]);
    pgbench.args(["-T", &whole, "-D", &format!("body={body}")]).arg("-f").arg(&script);
    pgbench.arg("-h").arg(cluster.socket_directory()).arg("postgres");
    pgbench.current_dir(&directory).env("TZ", "UTC");
    let measured = Target {
        target: ([127, 0, 0, 1], 0).into(),
        server_pid: None,
        postgres_pid: cluster.pid(),
    };
    let meter = Meter::start(&measured);
    let done = tokio::task::spawn_blocking(move || pgbench.output()).await?;
    let done = done.context("pgbench does not start")?;
    let mut usage = meter.stop();
    ensure!(done.status.success(), "pgbench: {}", String::from_utf8_lossy(&done.stderr));

    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(&directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("pgbench_log") {
            let log = std::fs::read_to_string(entry.path())?;
            let times = log.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok());
            latencies.extend(times);
        }
    }
    std::fs::remove_dir_all(&directory)?;
    let out = String::from_utf8_lossy(&done.stdout);
    let rate =
        out.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    let rate: f64 = rate.context("pgbench printed no rate")?;
    // Its own figure leaves out the time it takes to connect.
    let count = latencies.len() as u64;
    usage.elapsed = std::time::Duration::from_secs_f64(count as f64 / rate);
    Ok(Row::new("pgbench insert, 64 clients", "inserts", count, usage).latencies(latencies))
}
