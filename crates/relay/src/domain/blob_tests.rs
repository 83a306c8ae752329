//! What uploads promise, on a real Postgres and with the relay's own rights.

use identity::Policy;
use proto::sign::{PublicKey, Verifier};
use service::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, query, query_scalar};
use testkit::keys::Peer;

use super::blob::Blobs;
use super::blob_reader::BlobReader;
use super::blob_settings::BlobArgs;
use super::blob_upload::{Described, Place};
use crate::error::Error;
use crate::store::blob_garbage;
use crate::store::blob_piece::PIECE_BYTES;
use crate::store::blob_upload::UploadKey;

const WHICH: UploadKey<'static> =
    UploadKey { id: b"blob:1", sender: b"alice", group_id: b"group:1" };
const DAY: f64 = 86_400.0;

async fn blobs(
    pool: PgPoolOptions,
    options: PgConnectOptions,
    policy: Policy,
    args: &[&str],
) -> (Blobs, PgPool) {
    let options = options.options([("role", "switchyard_relay")]);
    let pool = pool.max_connections(8).connect_with(options).await.unwrap();
    use clap::{Args as _, FromArgMatches as _};
    let command = BlobArgs::augment_args(clap::Command::new("test").no_binary_name(true));
    let args = BlobArgs::from_arg_matches(&command.get_matches_from(args)).unwrap();
    let cx = Context::for_tests();
    (Blobs::new(pool.clone(), args, policy, 21_600, &cx).unwrap(), pool)
}

fn place(index: i32, total_chunks: i32) -> Place<'static> {
    Place { upload: WHICH, index, total_chunks, ttl: DAY, address: b"\x7f\0\0\x01" }
}

fn described(ttl: f64) -> Described<'static> {
    Described { file_name: b"a.bin", mime_type: Some(b"image/png"), ttl }
}

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| seed.wrapping_add((at % 251) as u8)).collect()
}

fn verifier(peer: &Peer, content: &[u8]) -> Verifier {
    use base64::Engine as _;
    let decode = |text: String| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let key = PublicKey::from_bytes(&decode(peer.public())).unwrap();
    key.verify_stream(&decode(peer.sign(content))).unwrap()
}

async fn read_all(mut reader: BlobReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    all
}

/// Completes the upload of [`WHICH`], whatever it holds.
async fn complete(blobs: &Blobs, total: i32, content: &[u8], ttl: f64) -> Result<bool, Error> {
    let upload = blobs.completable(WHICH, total).await?;
    let peer = Peer::random();
    let size = blobs.verify(upload, total, verifier(&peer, content)).await?;
    let duplicate = blobs.complete(WHICH, described(ttl), upload, (total, size)).await?;
    Ok(duplicate.expect("nobody changes the upload"))
}

/// Stores a chunk as it comes: as base64.
async fn put(blobs: &Blobs, place: Place<'_>, bytes: &[u8]) -> Result<i32, Error> {
    let mut text = Vec::new();
    proto::base64::encode(bytes, &mut text);
    blobs.put_chunk(place, &proto::js::Str::from_wtf8(&text)).await
}

async fn pieces(pool: &PgPool) -> i64 {
    query_scalar("SELECT count(*) FROM relay.blob_piece").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn chunks_in_any_order_become_one_blob(pool: PgPoolOptions, options: PgConnectOptions) {
    let (blobs, pool) = blobs(pool, options, Policy::Pin, &[]).await;
    let content = bytes(3 * PIECE_BYTES + 77, 3);
    let cut = 2 * PIECE_BYTES + 5;
    assert_eq!(put(&blobs, place(1, 2), &content[cut..]).await.unwrap(), 1);
    let missing = blobs.completable(WHICH, 2).await.unwrap_err();
    assert!(matches!(missing, Error::MissingChunks { expected: 2, received: 1 }));
    assert_eq!(put(&blobs, place(0, 2), &content[..cut]).await.unwrap(), 2);

    let wrong = complete(&blobs, 2, b"something else", DAY).await.unwrap_err();
    assert!(matches!(wrong, Error::BadSignature), "{wrong}");
    assert!(!complete(&blobs, 2, &content, DAY).await.unwrap());
    let gone = blobs.completable(WHICH, 2).await.unwrap_err();
    assert!(matches!(gone, Error::SessionNotFound), "{gone}");

    let blob = blobs.find(WHICH.id).await.unwrap().unwrap();
    assert_eq!((blob.size_bytes, blob.chunks), (content.len() as u64, 2));
    assert_eq!(
        (&blob.file_name[..], blob.mime_type.as_deref()),
        (&b"a.bin"[..], Some(&b"image/png"[..]))
    );
    assert!(read_all(blobs.read(&blob)).await == content);
    let borders = [0, 1, PIECE_BYTES, cut - 1, cut, cut + PIECE_BYTES, content.len()];
    for (start, end) in borders.iter().zip(&borders[1..]).chain([(&0, &content.len()), (&9, &9)]) {
        let some = blobs.read(&blob).only(*start as u64..*end as u64);
        assert!(read_all(some).await == content[*start..*end], "{start}..{end}");
    }
    assert_eq!(pieces(&pool).await, 3 + 2);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_chunk_sent_again_replaces_the_first(pool: PgPoolOptions, options: PgConnectOptions) {
    let (blobs, pool) = blobs(pool, options, Policy::Pin, &[]).await;
    put(&blobs, place(0, 1), &bytes(2 * PIECE_BYTES, 1)).await.unwrap();
    let before = blobs.completable(WHICH, 1).await.unwrap();
    let content = bytes(700, 2);
    assert_eq!(put(&blobs, place(0, 1), &content).await.unwrap(), 1);
    assert_eq!(pieces(&pool).await, 1);
    // What was checked before the replacement is not what would be stored.
    let stale = blobs.complete(WHICH, described(DAY), before, (1, 700)).await.unwrap();
    assert_eq!(stale, None);
    assert!(!complete(&blobs, 1, &content, DAY).await.unwrap());
    let other_total = put(&blobs, place(0, 1), b"").await;
    assert_eq!(other_total.unwrap(), 1, "an empty chunk begins a new upload");
    assert!(matches!(put(&blobs, place(0, 2), b"x").await, Err(Error::TotalMismatch)));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn first_chunks_at_the_same_time_share_one_upload(
    pool: PgPoolOptions,
    options: PgConnectOptions,
) {
    let (blobs, _) = blobs(pool, options, Policy::Pin, &[]).await;
    let chunk = bytes(PIECE_BYTES + 1, 9);
    let sent = futures_util::future::join_all((0..5).map(|i| put(&blobs, place(i, 5), &chunk)));
    let mut received: Vec<i32> = sent.await.into_iter().map(Result::unwrap).collect();
    received.sort_unstable();
    assert_eq!(received, [1, 2, 3, 4, 5]);
    assert!(!complete(&blobs, 5, &chunk.repeat(5), DAY).await.unwrap());
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_taken_id_gives_the_upload_up(pool: PgPoolOptions, options: PgConnectOptions) {
    let (blobs, pool) = blobs(pool, options, Policy::Pin, &[]).await;
    assert!(!blobs.put_whole(WHICH, described(DAY), b"first", None).await.unwrap());
    assert!(blobs.put_whole(WHICH, described(DAY), b"second", None).await.unwrap());
    put(&blobs, place(0, 1), &bytes(900_000, 1)).await.unwrap();
    assert!(complete(&blobs, 1, &bytes(900_000, 1), DAY).await.unwrap());
    while blob_garbage::sweep(&pool).await.unwrap() {}
    assert_eq!(pieces(&pool).await, 1);
    let blob = blobs.find(WHICH.id).await.unwrap().unwrap();
    assert_eq!(read_all(blobs.read(&blob)).await, b"first");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn an_expired_blob_is_gone_at_once_and_gives_way(
    pool: PgPoolOptions,
    options: PgConnectOptions,
) {
    let (blobs, _) = blobs(pool, options, Policy::Pin, &[]).await;
    assert!(!blobs.put_whole(WHICH, described(0.0), b"gone", None).await.unwrap());
    assert_eq!(blobs.find(WHICH.id).await.unwrap(), None);
    assert!(!blobs.put_whole(WHICH, described(1e300), b"new", None).await.unwrap());
    let blob = blobs.find(WHICH.id).await.unwrap().unwrap();
    assert_eq!(read_all(blobs.read(&blob)).await, b"new");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn under_open_an_expired_blob_blocks_its_id_until_somebody_asks_for_it(
    pool: PgPoolOptions,
    options: PgConnectOptions,
) {
    let (blobs, _) = blobs(pool, options, Policy::Open, &[]).await;
    assert!(!blobs.put_whole(WHICH, described(-5.0), b"a", Some(b"YQ")).await.unwrap());
    assert!(blobs.put_whole(WHICH, described(DAY), b"b", None).await.unwrap());
    assert_eq!(blobs.find(WHICH.id).await.unwrap(), None);
    assert!(!blobs.put_whole(WHICH, described(DAY), b"b", Some(b"Yg")).await.unwrap());
    let blob = blobs.find(WHICH.id).await.unwrap().unwrap();
    assert_eq!(blob.text_bytes, Some(2));
    assert_eq!(read_all(blobs.read_text(&blob)).await, b"Yg");
    assert_eq!(read_all(blobs.read(&blob)).await, b"b");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_completion_may_ask_for_a_longer_life_than_the_chunks(
    pool: PgPoolOptions,
    options: PgConnectOptions,
) {
    let (blobs, _) = blobs(pool, options, Policy::Pin, &[]).await;
    let content = bytes(600_000, 5);
    put(&blobs, Place { ttl: 1.0, ..place(0, 1) }, &content).await.unwrap();
    assert!(!complete(&blobs, 1, &content, 20.0 * DAY).await.unwrap());
    let blob = blobs.find(WHICH.id).await.unwrap().unwrap();
    assert!(read_all(blobs.read(&blob)).await == content);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn quotas_refuse_and_leave_nothing_behind(pool: PgPoolOptions, options: PgConnectOptions) {
    let args = [
        "--blob-max-bytes=3000",
        "--blob-sender-bytes=1500",
        "--blob-unsigned-bytes=2000",
        "--blob-unsigned-count=2",
    ];
    let (blobs, pool) = blobs(pool, options, Policy::Pin, &args).await;
    let large = blobs.put_whole(WHICH, described(DAY), &bytes(3001, 0), None).await.unwrap_err();
    assert!(matches!(large, Error::TooLarge(_)), "{large}");
    let sender = blobs.put_whole(WHICH, described(DAY), &bytes(1501, 0), None).await.unwrap_err();
    assert!(
        matches!(sender, Error::TooMany { what: "sender blob quota exceeded", .. }),
        "{sender}"
    );
    put(&blobs, place(0, 2), &bytes(1900, 0)).await.unwrap();
    let address = put(&blobs, place(1, 2), &bytes(101, 0)).await.unwrap_err();
    assert!(matches!(address, Error::TooMany { .. }), "{address}");
    assert_eq!(put(&blobs, place(1, 2), &bytes(100, 0)).await.unwrap(), 2);
    for (sender, fits) in [(&b"bob"[..], true), (b"carol", false)] {
        let place = Place { upload: UploadKey { sender, ..WHICH }, ..place(0, 1) };
        assert_eq!(put(&blobs, place, b"").await.is_ok(), fits);
    }
    // The refused parts are deleted in the background.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while pieces(&pool).await != 2 {
        assert!(tokio::time::Instant::now() < end, "{} pieces remain", pieces(&pool).await);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn an_abandoned_upload_is_cleaned_away(pool: PgPoolOptions, options: PgConnectOptions) {
    let owner = pool.clone().max_connections(1).connect_with(options.clone()).await.unwrap();
    let (blobs, pool) = blobs(pool, options, Policy::Pin, &[]).await;
    put(&blobs, place(0, 2), &bytes(600_000, 0)).await.unwrap();
    query("UPDATE relay.upload SET expires_at = now()").execute(&owner).await.unwrap();
    assert!(matches!(blobs.completable(WHICH, 2).await, Err(Error::SessionNotFound)));
    // A new upload of the same name does not see the old one's chunks.
    assert_eq!(put(&blobs, place(1, 2), b"x").await.unwrap(), 1);
    query("UPDATE relay.upload SET expires_at = now()").execute(&owner).await.unwrap();
    while blob_garbage::expire(&pool).await.unwrap() {}
    while blob_garbage::sweep(&pool).await.unwrap() {}
    assert_eq!(pieces(&pool).await, 0);
    let left: i64 = query_scalar(
        "SELECT (SELECT count(*) FROM relay.blob_chunk)
        + (SELECT count(*) FROM relay.upload) + (SELECT count(*) FROM relay.blob_garbage)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(left, 0);
}
