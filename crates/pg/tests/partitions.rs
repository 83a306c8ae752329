//! Days come and go.

use pg::partitions::{self, Kept};
use pg::{Error, is_missing_partition};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// A partitioned table of the relay's, by range or by list.
async fn table(pool: &PgPool, strategy: &'static str) {
    for statement in [
        format!(
            "CREATE TABLE relay.probe (day int4 NOT NULL, body bytea,
                CHECK (octet_length(body) < 10), PRIMARY KEY (day)) PARTITION BY {strategy} (day)"
        ),
        "ALTER TABLE relay.probe ALTER COLUMN body SET STORAGE EXTERNAL".to_owned(),
        "GRANT SELECT, INSERT ON relay.probe TO switchyard_relay".to_owned(),
        "SELECT switchyard.register_day_partitioned('relay.probe', 'switchyard_relay',
            'fillfactor = 90')"
            .to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.expect("owner's rights");
    }
}

/// The same database as a service sees it.
async fn as_role(pool: &PgPool, role: &'static str) -> PgPool {
    let options = (*pool.connect_options()).clone().options([("role", role)]);
    PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("a superuser may")
}

async fn insert(pool: &PgPool, day: i32) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO relay.probe (day) VALUES ($1)").bind(day).execute(pool).await.map(drop)
}

async fn days_come_and_go(pool: PgPool, strategy: &'static str) {
    table(&pool, strategy).await;
    let relay = as_role(&pool, "switchyard_relay").await;
    let today = partitions::today(&relay).await.expect("a plain query");
    let missing = insert(&relay, today).await.expect_err("there is no partition yet");
    assert!(is_missing_partition(&missing), "{missing:?}");

    let kept = [Kept { table: "relay.probe", days: 2 }];
    partitions::maintain(&relay, &kept).await.expect("the role may");
    insert(&relay, today).await.expect("today is there");
    insert(&relay, today + 1).await.expect("and tomorrow");
    let made = partitions::ensure(&relay, "relay.probe", today - 4, today + 1).await;
    assert_eq!(made.expect("the role may"), 4, "only what is missing is made");
    let again = partitions::ensure(&relay, "relay.probe", today - 4, today + 1).await;
    assert_eq!(again.expect("nothing to do"), 0);
    insert(&relay, today - 2).await.expect("the day before yesterday is there");

    partitions::maintain(&relay, &kept).await.expect("the role may");
    let left: Vec<i32> = sqlx::query_scalar("SELECT day FROM relay.probe ORDER BY day")
        .fetch_all(&relay)
        .await
        .expect("the role reads its own");
    assert_eq!(left, [today - 2, today, today + 1], "what is kept is kept");
    assert!(is_missing_partition(&insert(&relay, today - 3).await.expect_err("dropped")));
    let dropped = partitions::drop_expired(&relay, "relay.probe", today).await;
    assert_eq!(dropped.expect("the role may"), 2);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn days_come_and_go_by_range(pool: PgPool) {
    days_come_and_go(pool, "RANGE").await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn days_come_and_go_by_list(pool: PgPool) {
    days_come_and_go(pool, "LIST").await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_failed_check_is_no_missing_partition(pool: PgPool) {
    table(&pool, "RANGE").await;
    partitions::ensure(&pool, "relay.probe", 1, 1).await.expect("the owner may");
    let refused = sqlx::query("INSERT INTO relay.probe VALUES (1, 'a value that is too long')")
        .execute(&pool)
        .await
        .expect_err("the check holds in partitions");
    assert!(!is_missing_partition(&refused), "{refused:?}");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn partitions_inherit_storage_and_options(pool: PgPool) {
    table(&pool, "RANGE").await;
    partitions::ensure(&pool, "relay.probe", 7, 7).await.expect("the owner may");
    let (options, storage): (Option<Vec<String>>, i8) = sqlx::query_as(
        "SELECT c.reloptions, a.attstorage FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.oid = 'relay.probe_d7'::regclass AND a.attname = 'body'",
    )
    .fetch_one(&pool)
    .await
    .expect("it was just made");
    assert_eq!(options, Some(vec!["fillfactor=90".to_owned()]));
    assert_eq!(u8::try_from(storage).expect("a letter"), b'e');
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn only_the_named_role_and_only_registered_tables(pool: PgPool) {
    table(&pool, "RANGE").await;
    sqlx::query("CREATE TABLE relay.plain (day int4 NOT NULL) PARTITION BY RANGE (day)")
        .execute(&pool)
        .await
        .expect("owner's rights");
    let signal = as_role(&pool, "switchyard_signal").await;
    let relay = as_role(&pool, "switchyard_relay").await;
    for refused in [
        partitions::ensure(&signal, "relay.probe", 1, 1).await,
        partitions::drop_expired(&signal, "relay.probe", 1).await,
        partitions::ensure(&relay, "relay.plain", 1, 1).await,
        partitions::ensure(&relay, "identity.pin", 1, 1).await,
        partitions::ensure(&relay, "relay.probe", 1, 5_000).await,
    ] {
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn replicas_that_start_together_do_not_collide(pool: PgPool) {
    table(&pool, "RANGE").await;
    let (one, two) =
        (as_role(&pool, "switchyard_relay").await, as_role(&pool, "switchyard_relay").await);
    let kept = [Kept { table: "relay.probe", days: 1 }];
    let (first, second) =
        tokio::join!(partitions::maintain(&one, &kept), partitions::maintain(&two, &kept));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_day_is_made_while_others_write(pool: PgPool) {
    table(&pool, "RANGE").await;
    partitions::ensure(&pool, "relay.probe", 1, 1).await.expect("the owner may");
    let mut writer = pool.begin().await.expect("the database is there");
    sqlx::query("INSERT INTO relay.probe (day) VALUES (1)")
        .execute(&mut *writer)
        .await
        .expect("the day is there");
    let made = partitions::ensure(&pool, "relay.probe", 2, 2).await;
    assert_eq!(made.expect("no lock is waited for"), 1);
    let locked = partitions::drop_expired(&pool, "relay.probe", 2).await;
    assert!(locked.is_err_and(|why| why.is_unavailable()), "dropping gives way to a writer");
    writer.commit().await.expect("nobody interfered");
    let dropped = partitions::drop_expired(&pool, "relay.probe", 2).await;
    assert_eq!(dropped.expect("nobody holds it"), 1);
}
