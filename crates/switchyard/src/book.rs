//! `switchyard peerbook import`: users and peers of an original peerbook, from its Redis.
//!
//! Both layouts are read: of 0.3.2, where a peer's `user` is a mail address, and of 1.x, where it is
//! the id of a `user:<id>` with an `email` and, once confirmed, the secret of one-time passwords.
//! What is here already is never changed, so an import can be repeated.

mod original;
mod redis;

use anyhow::Context as _;
use serde_json::json;
use sqlx::{PgPool, PgTransaction};

use self::original::{Import, Original, User};
use crate::cli::{EXIT_OK, PeerbookCommand, Place};
use crate::database::Database;
use crate::output;

/// What was done, or would be.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    users: u64,
    peers: u64,
    verified: u64,
    secrets: u64,
    known: u64,
    taken: u64,
}

/// Imports, or says what an import would do.
pub(crate) async fn run(place: &Place, command: PeerbookCommand) -> anyhow::Result<u8> {
    let PeerbookCommand::Import { url, dry_run, json } = command;
    let import = Original::connect(&url).await?.read().await?;
    let database = Database::open(place).await?;
    let written = write(&database.pool().await?, &import, dry_run).await;
    database.close().await;
    let count = written?;
    report(&import, count, dry_run, json);
    Ok(EXIT_OK)
}

async fn write(pool: &PgPool, import: &Import, dry_run: bool) -> anyhow::Result<Count> {
    let mut count = Count::default();
    let mut changed = Vec::new();
    for user in &import.users {
        let mut tx = pool.begin().await?;
        let done = write_user(&mut tx, user, &mut count).await;
        let uid = done.with_context(|| format!("cannot import {}", user.email))?;
        if dry_run {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
            changed.push(uid);
        }
    }
    // A service that runs looks at once; it would look a few seconds later anyway.
    for uid in changed {
        sqlx::query("SELECT pg_notify('peerbook_changed', version || ' ' || uid) FROM peerbook.account WHERE uid = $1")
            .bind(uid)
            .execute(pool)
            .await?;
    }
    Ok(count)
}

async fn write_user(
    tx: &mut PgTransaction<'_>,
    user: &User,
    count: &mut Count,
) -> Result<String, sqlx::Error> {
    let made: Option<String> = sqlx::query_scalar(
        "INSERT INTO peerbook.account (uid, email, email_key, confirmed)
         VALUES ($1, $2, $3, true) ON CONFLICT DO NOTHING RETURNING uid",
    )
    .bind(&user.uid)
    .bind(user.email.as_str())
    .bind(user.email.key())
    .fetch_optional(&mut **tx)
    .await?;
    count.users += u64::from(made.is_some());
    let uid: String = sqlx::query_scalar(
        "UPDATE peerbook.account SET version = version + 1, changed_at = clock_timestamp(),
             confirmed = true
         WHERE email_key = $1 RETURNING uid",
    )
    .bind(user.email.key())
    .fetch_one(&mut **tx)
    .await?;
    for peer in &user.peers {
        let owner: Option<String> =
            sqlx::query_scalar("SELECT uid FROM peerbook.peer WHERE fp = $1 AND verified")
                .bind(peer.fp.as_str())
                .fetch_optional(&mut **tx)
                .await?;
        if owner.is_some_and(|owner| owner != uid) && peer.verified {
            count.taken += 1;
            continue;
        }
        let added = sqlx::query(
            "INSERT INTO peerbook.peer
                 (uid, fp, name, kind, verified, created_at, verified_at, last_seen_at)
             VALUES ($1, $2, $3, $4, $5, to_timestamp($6),
                 CASE WHEN $5 THEN to_timestamp($6) END,
                 CASE WHEN $7 > 0 THEN to_timestamp($7) END)
             ON CONFLICT DO NOTHING",
        )
        .bind(&uid)
        .bind(peer.fp.as_str())
        .bind(peer.name.as_str())
        .bind(peer.kind.as_str())
        .bind(peer.verified)
        .bind(peer.created_on)
        .bind(peer.last_seen)
        .execute(&mut **tx)
        .await?
        .rows_affected();
        count.peers += added;
        count.known += 1 - added.min(1);
        count.verified += if peer.verified { added } else { 0 };
    }
    if let Some(secret) = &user.secret {
        let kept = sqlx::query(
            "INSERT INTO peerbook.totp (uid, secret, confirmed_at) VALUES ($1, $2, now())
             ON CONFLICT DO NOTHING",
        )
        .bind(&uid)
        .bind(secret)
        .execute(&mut **tx)
        .await?;
        count.secrets += kept.rows_affected();
    }
    Ok(uid)
}

fn report(import: &Import, count: Count, dry_run: bool, as_json: bool) {
    let Count { users, peers, verified, secrets, known, taken } = count;
    if as_json {
        output::json(&json!({
            "dry_run": dry_run, "users": users, "peers": peers, "verified": verified,
            "one_time_secrets": secrets, "already_here": known, "verified_elsewhere": taken,
            "unowned": import.unowned, "unusable": import.unusable,
        }));
        return;
    }
    let verb = if dry_run { "would import" } else { "imported" };
    output::line(&format!(
        "{verb} {users} new users, {peers} peers ({verified} verified), {secrets} secrets of \
         one-time passwords"
    ));
    output::line(&format!(
        "left out: {known} peers already here, {taken} verified for another user here, {} without \
         an owner, {} with an address or fingerprint that cannot be used",
        import.unowned, import.unusable
    ));
}
