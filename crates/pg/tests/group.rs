//! Grouped commits on a real Postgres.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pg::{Batch, Error, GroupCommit, GroupLimits};
use prometheus::Registry;
use sqlx::PgPool;
use support::{metric, spawn};
use tokio::sync::Semaphore;

async fn table(pool: &PgPool) {
    sqlx::query("CREATE TABLE note (place bigserial, number int4 NOT NULL CHECK (number >= 0))")
        .execute(pool)
        .await
        .expect("an empty database");
}

/// Inserts a batch and answers each number with itself.
async fn insert(pool: PgPool, batch: Batch<i32>) -> Result<Vec<i32>, Error> {
    sqlx::query("INSERT INTO note (number) SELECT * FROM unnest($1::int4[])")
        .bind(&*batch)
        .execute(&pool)
        .await?;
    Ok(batch.to_vec())
}

fn notes(pool: &PgPool, limits: GroupLimits, metrics: &Registry) -> GroupCommit<i32, i32> {
    let pool = pool.clone();
    GroupCommit::start(limits, metrics, spawn, move |batch| insert(pool.clone(), batch))
}

async fn stored(pool: &PgPool) -> Vec<i32> {
    let numbers = sqlx::query_scalar("SELECT number FROM note ORDER BY place");
    numbers.fetch_all(pool).await.expect("the table is there")
}

#[sqlx::test(migrations = false)]
async fn concurrent_writes_share_commits_and_keep_their_order(pool: PgPool) {
    table(&pool).await;
    let metrics = Registry::new();
    let group = notes(&pool, GroupLimits::new("notes"), &metrics);
    let started = Instant::now();
    let answers = join_all((0..5_000).map(|number| group.write(number))).await;
    let took = started.elapsed();
    let answers: Vec<i32> = answers.into_iter().map(|answer| answer.expect("stored")).collect();
    assert_eq!(answers, (0..5_000).collect::<Vec<_>>());
    assert_eq!(stored(&pool).await, answers);
    let commits = metric(&metrics, "pg_group_items");
    assert!(commits <= 20.0, "{commits} commits for 5,000 writes of at most 512 each");
    println!("5000 writes in {commits} commits, {took:?}");
}

#[sqlx::test(migrations = false)]
async fn a_bad_item_fails_alone(pool: PgPool) {
    table(&pool).await;
    let metrics = Registry::new();
    let group = notes(&pool, GroupLimits::new("notes"), &metrics);
    let numbers = (0..100).map(|number| if number == 41 { -1 } else { number });
    let answers = join_all(numbers.map(|number| group.write(number))).await;
    for (number, answer) in (0..).zip(&answers) {
        match number {
            41 => assert!(matches!(answer, Err(Error::Refused(_))), "{answer:?}"),
            _ => assert_eq!(*answer.as_ref().expect("its neighbours are stored"), number),
        }
    }
    assert_eq!(stored(&pool).await.len(), 99);
    assert!(metric(&metrics, "pg_group_splits_total") >= 1.0);
}

#[sqlx::test(migrations = false)]
async fn a_systemic_error_is_not_searched_for_in_the_data(pool: PgPool) {
    let metrics = Registry::new(); // there is no table
    let group = notes(&pool, GroupLimits::new("notes"), &metrics);
    let answers = join_all((0..50).map(|number| group.write(number))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Refused(_)))));
    assert!(metric(&metrics, "pg_group_splits_total") < 1.0);
}

#[sqlx::test(migrations = false)]
async fn a_caller_that_leaves_does_not_take_its_write_along(pool: PgPool) {
    table(&pool).await;
    let group = notes(&pool, GroupLimits::new("notes"), &Registry::new());
    {
        let mut first = Box::pin(group.write(1));
        assert!(futures_util::poll!(&mut first).is_pending());
    }
    assert_eq!(group.write(2).await.expect("stored"), 2);
    assert_eq!(stored(&pool).await, [1, 2]);
}

/// A group whose commits wait for permits, and how many began.
fn gated(limits: GroupLimits) -> (GroupCommit<usize, usize>, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inner_gate, inner_begun) = (gate.clone(), begun.clone());
    let group = GroupCommit::start(limits, &Registry::new(), spawn, move |batch: Batch<usize>| {
        let (gate, begun) = (inner_gate.clone(), inner_begun.clone());
        async move {
            begun.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.expect("never closed").forget();
            Ok(vec![batch.len(); batch.len()])
        }
    });
    (group, gate, begun)
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_next_batch_gathers_while_one_is_under_way() {
    let (group, gate, begun) = gated(GroupLimits { max_items: 3, ..GroupLimits::new("gated") });
    let mut lone = Box::pin(group.write(0));
    assert!(futures_util::poll!(&mut lone).is_pending());
    until(|| begun.load(Ordering::SeqCst) == 1).await; // at once, without company
    let mut others: Vec<_> = (0..4).map(|item| Box::pin(group.write(item))).collect();
    for other in &mut others {
        assert!(futures_util::poll!(other).is_pending());
    }
    gate.add_permits(3);
    assert_eq!(lone.await.expect("done"), 1);
    let sizes: Vec<usize> =
        join_all(others).await.into_iter().map(|size| size.expect("done")).collect();
    assert_eq!(sizes, [3, 3, 3, 1]);
}

#[tokio::test]
async fn bytes_close_a_batch_too() {
    let (group, gate, begun) = gated(GroupLimits { max_bytes: 10, ..GroupLimits::new("gated") });
    let mut lone = Box::pin(group.write(0));
    assert!(futures_util::poll!(&mut lone).is_pending());
    until(|| begun.load(Ordering::SeqCst) == 1).await;
    let mut others: Vec<_> = (0..4).map(|item| Box::pin(group.write_sized(item, 6))).collect();
    for other in &mut others {
        assert!(futures_util::poll!(other).is_pending());
    }
    gate.add_permits(3);
    let sizes: Vec<usize> =
        join_all(others).await.into_iter().map(|size| size.expect("done")).collect();
    assert_eq!(sizes, [2, 2, 2, 2]);
}

#[tokio::test]
async fn lanes_work_side_by_side() {
    let (group, gate, begun) =
        gated(GroupLimits { lanes: 2, max_items: 1, ..GroupLimits::new("gated") });
    let mut writes: Vec<_> = (0..3).map(|item| Box::pin(group.write(item))).collect();
    for write in &mut writes {
        assert!(futures_util::poll!(write).is_pending());
    }
    until(|| begun.load(Ordering::SeqCst) == 2).await;
    gate.add_permits(3);
    assert!(join_all(writes).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let (group, gate, begun) = gated(GroupLimits { queue: 2, ..GroupLimits::new("gated") });
    let mut first = Box::pin(group.write(0));
    assert!(futures_util::poll!(&mut first).is_pending());
    until(|| begun.load(Ordering::SeqCst) == 1).await;
    let mut waiting: Vec<_> = (0..2).map(|item| Box::pin(group.write(item))).collect();
    for write in &mut waiting {
        assert!(futures_util::poll!(write).is_pending());
    }
    let refused = group.write(9).await;
    assert!(matches!(refused, Err(Error::Busy)) && refused.is_err_and(|why| why.is_unavailable()));
    gate.add_permits(2);
    assert!(first.await.is_ok() && join_all(waiting).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_wrong_number_of_answers_is_an_error_for_all() {
    let limits = GroupLimits::new("wrong");
    let group = GroupCommit::start(limits, &Registry::new(), spawn, |_: Batch<u8>| async {
        Ok(Vec::<u8>::new())
    });
    assert!(matches!(group.write(1).await, Err(Error::Answers { items: 1, answers: 0 })));
}
