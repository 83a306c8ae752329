//! Each promise of the mailbox tables, on a real Postgres.

use bytes::Bytes;
use sqlx::PgPool;

use super::page::page;
use super::*;

const DAY: u32 = 86_400;

/// What is alive now, when envelopes live `ttl_seconds`.
fn kept_for(ttl_seconds: u32) -> Retention {
    Retention::at(testkit::time::now_ms(), ttl_seconds)
}

type Outcome = Result<(), pg::Error>;

fn envelope(mailbox: i64, id: &str) -> NewEnvelope {
    let body = Bytes::from(format!("{{\"id\":\"{id}\"}}"));
    NewEnvelope { mailbox, id: id.as_bytes().into(), body }
}

fn fanout(mailboxes: &[i64], id: &str) -> NewFanout {
    NewFanout {
        id: id.as_bytes().into(),
        mailboxes: mailboxes.to_vec(),
        size: 100,
        head: Bytes::from_static(b"{\"to\":"),
        tail: Bytes::from_static(b"}"),
    }
}

fn ack(mailbox: i64, id: &str) -> Ack {
    Ack { mailbox, id: id.as_bytes().into() }
}

async fn store(pool: &PgPool, mailbox: i64, id: &str) -> Result<bool, pg::Error> {
    Ok(insert_envelopes(pool, &[envelope(mailbox, id)], kept_for(DAY)).await?[0])
}

fn wanted(mailbox: i64, start: Start<'_>) -> Page<'_> {
    Page {
        mailbox,
        start,
        limit: 50,
        max_bytes: 1 << 20,
        expired_before: 0,
        retention: kept_for(DAY),
    }
}

async fn read(pool: &PgPool, wanted: Page<'_>) -> Result<Vec<(String, i64)>, pg::Error> {
    let rows = page(pool, wanted).await?;
    let id = |row: &PageRow| String::from_utf8_lossy(row.id().unwrap()).into_owned();
    Ok(rows.iter().map(|row| (id(row), row.seq().unwrap())).collect())
}

async fn ids(pool: &PgPool, wanted: Page<'_>) -> Result<Vec<String>, pg::Error> {
    Ok(read(pool, wanted).await?.into_iter().map(|(id, _)| id).collect())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn envelopes_come_back_in_the_order_they_were_stored(pool: PgPool) -> Outcome {
    // Ids sorted the other way round, in one batch and in several; days are made on the way.
    let batch = [envelope(1, "c"), envelope(1, "b"), envelope(2, "x"), envelope(1, "b")];
    assert_eq!(insert_envelopes(&pool, &batch, kept_for(DAY)).await?, [true, true, true, false]);
    assert!(store(&pool, 1, "a").await?);
    assert!(!store(&pool, 1, "c").await?);
    assert_eq!(ids(&pool, wanted(1, Start::Oldest)).await?, ["c", "b", "a"]);
    assert_eq!(ids(&pool, wanted(1, Start::Id(b"b"))).await?, ["a"]);
    assert_eq!(
        ids(&pool, wanted(1, Start::Id(b"x"))).await?,
        ["c", "b", "a"],
        "not in this mailbox"
    );
    assert_eq!(ids(&pool, Page { limit: 2, ..wanted(1, Start::Oldest) }).await?, ["c", "b"]);
    assert_eq!(ids(&pool, wanted(3, Start::Oldest)).await?, [""; 0]);
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn two_connections_cannot_both_store_an_id(pool: PgPool) -> Outcome {
    store(&pool, 9, "makes the partitions").await?;
    for round in 0..20 {
        let id = format!("m{round}");
        let batch = [envelope(1, &id), envelope(2, &id)];
        let other = [envelope(2, &id), envelope(1, &id)];
        let (a, b) = tokio::join!(
            insert_envelopes(&pool, &batch, kept_for(DAY)),
            insert_envelopes(&pool, &other, kept_for(DAY))
        );
        let (a, b) = (a?, b?);
        assert_eq!((u8::from(a[0]) + u8::from(b[1]), u8::from(a[1]) + u8::from(b[0])), (1, 1));
    }
    assert_eq!(ids(&pool, wanted(1, Start::Oldest)).await?.len(), 20);
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn two_connections_cannot_both_fan_an_id_out(pool: PgPool) -> Outcome {
    store(&pool, 9, "makes the partitions").await?;
    for round in 0..20 {
        let message = [fanout(&[1, 2, 3], &format!("g{round}"))];
        let (a, b) = tokio::join!(
            insert_fanouts(&pool, &message, kept_for(DAY)),
            insert_fanouts(&pool, &message, kept_for(DAY))
        );
        assert_eq!(a?[0] + b?[0], 3);
    }
    assert_eq!(ids(&pool, wanted(2, Start::Oldest)).await?.len(), 20);
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn group_and_plain_messages_share_ids_and_order(pool: PgPool) -> Outcome {
    assert!(store(&pool, 1, "m").await?);
    insert_acks(&pool, &[ack(4, "m")], kept_for(DAY)).await?;
    let first = [fanout(&[1, 2, 3, 4], "m"), fanout(&[2], "n"), fanout(&[2, 5], "m")];
    assert_eq!(insert_fanouts(&pool, &first, kept_for(DAY)).await?, [2, 1, 1]);
    assert_eq!(insert_fanouts(&pool, &first[..1], kept_for(DAY)).await?, [0]);
    assert!(!store(&pool, 2, "m").await?);
    assert!(store(&pool, 2, "o").await?);
    assert_eq!(ids(&pool, wanted(2, Start::Oldest)).await?, ["m", "n", "o"]);
    assert_eq!(ids(&pool, wanted(2, Start::Id(b"m"))).await?, ["n", "o"]);
    assert_eq!(ids(&pool, wanted(4, Start::Oldest)).await?, [""; 0]);
    assert_eq!(ids(&pool, wanted(5, Start::Oldest)).await?, ["m"]);
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn acks_remove_and_swallow_before_and_after(pool: PgPool) -> Outcome {
    store(&pool, 1, "a").await?;
    store(&pool, 2, "a").await?;
    insert_fanouts(&pool, &[fanout(&[1, 2], "g")], kept_for(DAY)).await?;
    let batch = [ack(1, "a"), ack(1, "g"), ack(1, "later"), ack(1, "a")];
    assert_eq!(insert_acks(&pool, &batch, kept_for(DAY)).await?, 2);
    assert_eq!(insert_acks(&pool, &batch, kept_for(DAY)).await?, 0);
    assert_eq!(ids(&pool, wanted(1, Start::Oldest)).await?, [""; 0]);
    assert_eq!(ids(&pool, wanted(2, Start::Oldest)).await?, ["a", "g"], "nobody else's");
    for id in ["a", "g", "later"] {
        assert!(!store(&pool, 1, id).await?, "{id}");
        assert_eq!(insert_fanouts(&pool, &[fanout(&[1], id)], kept_for(DAY)).await?, [0], "{id}");
    }
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn what_expired_is_gone_and_may_be_stored_again(pool: PgPool) -> Outcome {
    store(&pool, 1, "old").await?;
    insert_fanouts(&pool, &[fanout(&[1], "group")], kept_for(DAY)).await?;
    sqlx::query("UPDATE relay.envelope SET received_at = now() - interval '10 s'")
        .execute(&pool)
        .await?;
    sqlx::query("UPDATE relay.fanout SET received_at = now() - interval '10 s'")
        .execute(&pool)
        .await?;
    let short = |start| Page { retention: kept_for(5), ..wanted(1, start) };
    assert_eq!(ids(&pool, short(Start::Oldest)).await?, [""; 0]);
    assert_eq!(insert_envelopes(&pool, &[envelope(1, "new")], kept_for(5)).await?, [true]);
    assert_eq!(ids(&pool, short(Start::Id(b"old"))).await?, ["new"], "an unknown cursor");
    assert_eq!(insert_envelopes(&pool, &[envelope(1, "old")], kept_for(5)).await?, [true]);
    assert_eq!(insert_fanouts(&pool, &[fanout(&[1], "group")], kept_for(5)).await?, [1]);
    assert_eq!(ids(&pool, short(Start::Oldest)).await?, ["new", "old", "group"]);
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn pages_end_by_bytes_but_have_one_envelope(pool: PgPool) -> Outcome {
    let batch = [envelope(1, "aaaa"), envelope(1, "bbbb"), envelope(1, "cccc")];
    insert_envelopes(&pool, &batch, kept_for(DAY)).await?;
    let size = i64::try_from(batch[0].body.len()).unwrap();
    let page_of = |max_bytes| Page { max_bytes, ..wanted(1, Start::Oldest) };
    assert_eq!(ids(&pool, page_of(1)).await?, ["aaaa"]);
    assert_eq!(ids(&pool, page_of(size + 1)).await?, ["aaaa", "bbbb"]);
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn readers_by_position_never_pass_a_transaction_in_progress(pool: PgPool) -> Outcome {
    store(&pool, 1, "first").await?;
    let start = read(&pool, wanted(1, Start::Oldest)).await?;
    // It takes its number now and commits late.
    let mut late = pool.begin().await?;
    sqlx::query(
        "INSERT INTO relay.envelope (mailbox, seq, received_at, day, size, id, body)
         VALUES (1, relay.seq_first(), now(), relay.day_of(now()), 2, 'late', '{}')",
    )
    .execute(&mut *late)
    .await?;
    store(&pool, 1, "overtakes").await?;
    assert_eq!(ids(&pool, wanted(1, Start::Oldest)).await?, ["first", "overtakes"]);
    assert_eq!(ids(&pool, wanted(1, Start::After(start[0].1))).await?, [""; 0], "held back");
    late.commit().await?;
    // Transactions of other databases in the cluster hold the horizon back as well.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let seen = ids(&pool, wanted(1, Start::After(start[0].1))).await?;
        if seen == ["late", "overtakes"] {
            return Ok(());
        }
        assert!(seen.is_empty() || seen == ["late"], "{seen:?}");
        assert!(std::time::Instant::now() < deadline, "{seen:?}");
        tokio::task::yield_now().await;
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn numbers_continue_above_a_restored_backup(pool: PgPool) -> Outcome {
    store(&pool, 1, "before").await?;
    assert!(!rebase(&pool).await?, "nothing moved");
    let ahead = 1_i64 << 55;
    sqlx::query("UPDATE relay.envelope SET seq = $1").bind(ahead).execute(&pool).await?;
    sqlx::query("UPDATE relay.state SET system_identifier = 1").execute(&pool).await?;
    assert!(rebase(&pool).await?);
    assert!(!rebase(&pool).await?, "once");
    assert!(store(&pool, 1, "after").await?);
    let all = read(&pool, wanted(1, Start::Oldest)).await?;
    assert_eq!(all[0], ("before".to_owned(), ahead));
    assert!(all[1].1 > ahead);
    // A position from a future that the backup does not know starts over. Transactions elsewhere
    // in the cluster may hide the newest rows, never the oldest.
    assert_eq!(ids(&pool, wanted(1, Start::After(i64::MAX))).await?.first().unwrap(), "before");
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn marks_tell_where_the_expired_end(pool: PgPool) -> Outcome {
    store(&pool, 1, "old").await?;
    mark(&pool, 5).await?;
    assert_eq!(present(&pool, 5).await?.0, 0);
    for table in ["seq_mark SET at = at", "envelope SET received_at = received_at"] {
        let sql = format!("UPDATE relay.{table} - interval '10 s'");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await?;
    }
    store(&pool, 1, "new").await?;
    let (floor, now_ms) = present(&pool, 5).await?;
    assert!((now_ms - testkit::time::now_ms()).abs() < 60_000);
    assert!(floor > 0);
    let above = Page { expired_before: floor, ..wanted(1, Start::Oldest) };
    assert!(ids(&pool, above).await?.contains(&"new".to_owned()));
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn usage_counts_both_kinds(pool: PgPool) -> Outcome {
    let batch = [envelope(1, "a"), envelope(1, "b"), envelope(2, "c")];
    insert_envelopes(&pool, &batch, kept_for(DAY)).await?;
    insert_fanouts(&pool, &[fanout(&[1, 2], "g")], kept_for(DAY)).await?;
    let bytes = 2 * batch[0].body.len() as u64 + 100;
    assert_eq!(usage(&pool, 1, 0, 1000, kept_for(DAY)).await?, Usage { messages: 3, bytes });
    assert_eq!(usage(&pool, 3, 0, 1000, kept_for(DAY)).await?, Usage::default());
    assert_eq!(usage(&pool, 1, 0, 1, kept_for(DAY)).await?.messages, 2, "one of either kind");
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn groups_are_inferred_once_replaced_and_forgotten(pool: PgPool) -> Outcome {
    let members = [b"a".to_vec(), b"b".to_vec()];
    Memberships::infer(&pool, b"g", b"a", &members).await?;
    Memberships::infer(&pool, b"g", b"b", &members).await?;
    let inferred = Memberships::get(&pool, b"g").await?.expect("recorded");
    assert!(inferred.provisional && inferred.owner == b"a");
    let mut tx = pool.begin().await?;
    assert_eq!(Memberships::lock(&mut tx, b"g").await?, Some(inferred.clone()));
    let replaced = Membership { provisional: false, applied: vec![vec![1; 16]], ..inferred };
    Memberships::put(&mut tx, b"g", &replaced).await?;
    tx.commit().await?;
    assert_eq!(Memberships::get(&pool, b"g").await?, Some(replaced));
    sqlx::query("UPDATE relay.membership SET last_used = CURRENT_DATE - 10").execute(&pool).await?;
    Memberships::touch(&pool, b"g").await?;
    assert_eq!(Memberships::forget(&pool, 5).await?, 0, "in use");
    sqlx::query("UPDATE relay.membership SET last_used = CURRENT_DATE - 10").execute(&pool).await?;
    assert_eq!(Memberships::forget(&pool, 5).await?, 1);
    Ok(())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn the_service_role_may_do_all_this(pool: PgPool) -> Outcome {
    let mut connection = pool.acquire().await?;
    sqlx::query("SET ROLE switchyard_relay").execute(&mut *connection).await?;
    for table in ["envelope", "fanout", "pointer", "ack_mark", "membership", "seq_mark"] {
        let sql = format!("DELETE FROM relay.{table}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    let sql = "SELECT relay.rebase(), relay.seq_first() > relay.seq_horizon(), relay.mailbox('a'),
               switchyard.ensure_day_partitions('relay.envelope', 1, 1),
               switchyard.drop_day_partitions('relay.envelope', 2)";
    sqlx::query(sql).execute(&mut *connection).await?;
    Ok(())
}
