//! What the process helpers promise, shown on Postgres and on small programs.
#![allow(missing_docs)]

use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use testkit::cluster::Cluster;
use testkit::database::Database;
use testkit::process::Process;

#[tokio::test]
async fn a_killed_cluster_comes_back_with_everything_it_acknowledged() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    let mut connection = cluster.options().connect().await?;
    sqlx::query("CREATE TABLE kept (n int)").execute(&mut connection).await?;
    sqlx::query("INSERT INTO kept VALUES (7)").execute(&mut connection).await?;

    let before = cluster.pid();
    cluster.kill();
    assert!(connection.ping().await.is_err(), "a connection of a killed server is dead");
    assert!(cluster.options().connect().await.is_err(), "nobody listens");

    cluster.start_again().await?;
    assert_ne!(cluster.pid(), before);
    let mut connection =
        cluster.url().parse::<sqlx::postgres::PgConnectOptions>()?.connect().await?;
    let row = sqlx::query("SELECT n FROM kept").fetch_one(&mut connection).await?;
    assert_eq!(row.get::<i32, _>(0), 7);

    let database = Database::within(cluster.options()).await?;
    assert!(database.url().contains("testkit_"), "{}", database.url());
    let pool = database.pool().await?;
    sqlx::query("SELECT 1").execute(&pool).await?;
    drop(database);
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'testkit%'";
    let row = sqlx::query(left).fetch_one(&mut connection).await?;
    assert_eq!(row.get::<i64, _>(0), 0, "a dropped database is gone");
    Ok(())
}

#[tokio::test]
async fn nothing_runs_on_after_its_owner_is_dropped() -> anyhow::Result<()> {
    let log = std::env::temp_dir().join(format!("testkit-log-{}", uuid::Uuid::new_v4()));
    let mut sleep = Command::new("sh");
    sleep.args(["-c", "echo started; exec sleep 600"]);
    let mut process = Process::start("sleep", &sleep, &log)?;
    let end = Instant::now() + Duration::from_secs(10);
    while !process.log().contains("started") {
        assert!(Instant::now() < end, "it never started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = process.pid();
    assert!(process.status().is_none());
    assert!(process.wait(Duration::from_millis(1)).await.is_err(), "it still runs");
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    std::fs::remove_file(log)?;
    Ok(())
}
