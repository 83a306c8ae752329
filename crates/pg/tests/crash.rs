//! Postgres killed in the middle of everything. What was answered is there; what waits goes on.

mod support;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pg::{Batch, DatabaseArgs, Error, GroupCommit, GroupLimits, Wake, Wakeups};
use prometheus::Registry;
use sqlx::PgPool;
use support::spawn;
use testkit::cluster::Cluster;
use tokio_util::sync::CancellationToken;

/// Idempotent, as every grouped write has to be.
async fn insert(pool: PgPool, batch: Batch<i64>) -> Result<Vec<()>, Error> {
    sqlx::query("INSERT INTO note SELECT * FROM unnest($1::int8[]) ON CONFLICT DO NOTHING")
        .bind(&*batch)
        .execute(&pool)
        .await?;
    Ok(vec![(); batch.len()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_and_waiting_ones_arrive() {
    let mut cluster = Cluster::start().await.expect("Postgres is installed");
    let metrics = Registry::new();
    let args = DatabaseArgs::new(cluster.url());
    let pool = pg::connect(&args, "relay", &metrics).await.expect("it runs");
    sqlx::query("CREATE TABLE note (number int8 PRIMARY KEY)").execute(&pool).await.expect("new");
    let stop = CancellationToken::new();
    let mut wakes = Wakeups::start(&pool, &["note"], stop.clone(), spawn).subscribe();
    assert_eq!(wakes.next().await, Some(Wake::Resync));

    let reports = Arc::new(Mutex::new(Vec::new()));
    let heard = reports.clone();
    let watch = pg::watch(pool.clone(), stop.clone(), move |answers| {
        heard.lock().expect("nobody panics holding it").push(answers);
    });
    spawn("watch", Box::pin(watch));

    let writer = pool.clone();
    let limits = GroupLimits { retry_for: Duration::from_secs(60), ..GroupLimits::new("notes") };
    let group =
        GroupCommit::start(limits, &metrics, spawn, move |batch| insert(writer.clone(), batch));
    let (next, ended) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let writers = (0..8).map(|_| {
        let (group, next, ended) = (group.clone(), next.clone(), ended.clone());
        async move {
            let mut acknowledged = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                let number = next.fetch_add(1, Ordering::SeqCst);
                group.write(number).await.expect("retried until the database is back");
                acknowledged.push(number);
            }
            acknowledged
        }
    });
    let director = async {
        for _ in 0..2 {
            let before = next.load(Ordering::SeqCst);
            until(|| next.load(Ordering::SeqCst) > before + 200).await;
            until(|| reports.lock().expect("as above").last() == Some(&true)).await;
            cluster.kill();
            until(|| reports.lock().expect("as above").last() == Some(&false)).await;
            cluster.start_again().await.expect("it recovers");
            assert_eq!(wakes.next().await, Some(Wake::Resync), "a gap is told");
        }
        let before = next.load(Ordering::SeqCst);
        until(|| next.load(Ordering::SeqCst) > before + 200).await;
        ended.store(true, Ordering::SeqCst);
    };
    let (acknowledged, ()) = tokio::join!(join_all(writers), director);
    let acknowledged: Vec<i64> = acknowledged.into_iter().flatten().collect();
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM note WHERE number = ANY($1)")
        .bind(&acknowledged)
        .fetch_one(&pool)
        .await
        .expect("it runs");
    assert_eq!(usize::try_from(found).expect("a count"), acknowledged.len());

    sqlx::query("SELECT pg_notify('note', 'hello')").execute(&pool).await.expect("it runs");
    let heard = Wake::Notified { channel: "note".into(), payload: "hello".into() };
    assert_eq!(wakes.next().await, Some(heard));
    stop.cancel();
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_database_that_stays_away_fails_the_start_in_time() {
    let mut args = DatabaseArgs::new("postgres:///none?host=/nonexistent&user=none");
    args.database_wait_s = 0;
    let refused = pg::connect(&args, "relay", &Registry::new()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_url_of_another_kind_is_refused_without_being_shown() {
    let args = DatabaseArgs::new("mysql://user:secret@host/name");
    let refused = pg::connect(&args, "relay", &Registry::new()).await.expect_err("not Postgres");
    assert!(matches!(refused, Error::Url(_)));
    assert!(!format!("{refused} {args:?}").contains("secret"));
}
