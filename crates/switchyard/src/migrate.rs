//! `switchyard migrate`.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use serde_json::json;
use sqlx::PgPool;
use sqlx::migrate::Migration;

use crate::cli::{EXIT_OK, MigrateArgs, Place};
use crate::database::Database;
use crate::{logins, output};

/// Applies, lists or undoes migrations.
pub(crate) async fn run(place: &Place, args: &MigrateArgs) -> anyhow::Result<u8> {
    let database = Database::open(place).await?;
    let result = act(&database, args).await;
    database.close().await;
    result.map(|()| EXIT_OK)
}

async fn act(database: &Database, args: &MigrateArgs) -> anyhow::Result<()> {
    let pool = database.pool().await?;
    let (word, changed) = match args.down {
        Some(count) => undo(&pool, count, args.dry_run).await?,
        None if args.dry_run => ("pending", pending(&pool).await?),
        None => ("applied", apply(&pool).await?),
    };
    let logins = logins::allow_urls(&pool, &args.logins).await?;
    pool.close().await;
    if args.json {
        let list: Vec<_> = changed.iter().map(|name| name.as_str()).collect();
        output::json(&json!({ word: list, "logins": logins }));
        return Ok(());
    }
    if !logins.is_empty() {
        output::line(&format!("may log in: {}", logins.join(", ")));
    }
    if changed.is_empty() {
        output::line("nothing to do: the database is up to date");
    } else {
        changed.iter().for_each(|name| output::line(&format!("{word}  {name}")));
    }
    Ok(())
}

/// Applies what is missing and says what that was.
pub(crate) async fn apply(pool: &PgPool) -> anyhow::Result<Vec<String>> {
    let missing = pending(pool).await?;
    pg::MIGRATOR.run(pool).await.context("a migration failed; it changed nothing")?;
    take_roles(pool).await?;
    Ok(missing)
}

/// Makes this login a member of the services' roles where it may: a login that is no superuser is
/// none of the roles it created, and services started with it could not take theirs on.
async fn take_roles(pool: &PgPool) -> anyhow::Result<()> {
    let grants: Vec<String> = sqlx::query_scalar(
        "SELECT format('GRANT %I TO CURRENT_USER', rolname) FROM pg_roles
         WHERE rolname = ANY(SELECT 'switchyard_' || unnest($1))
           AND NOT pg_has_role(current_user, oid, 'MEMBER')",
    )
    .bind(&pg::SCHEMAS[..])
    .fetch_all(pool)
    .await?;
    for grant in grants {
        // The name comes quoted from the catalogue.
        match sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(pool).await {
            Err(why) if is_denied(&why) => {} // the services have logins of their own, then
            done => done.map(drop)?,
        }
    }
    Ok(())
}

fn is_denied(why: &sqlx::Error) -> bool {
    why.as_database_error().and_then(|why| why.code()).is_some_and(|code| code == "42501")
}

/// Names of the migrations not applied yet, in order.
pub(crate) async fn pending(pool: &PgPool) -> anyhow::Result<Vec<String>> {
    let applied = applied(pool).await?;
    let known = ups().map(|migration| migration.version).collect::<BTreeSet<_>>();
    if let Some(newer) = applied.difference(&known).next() {
        bail!("the database has migration {newer}, which this version does not know: upgrade it");
    }
    Ok(ups().filter(|migration| !applied.contains(&migration.version)).map(name).collect())
}

async fn undo(
    pool: &PgPool,
    count: usize,
    dry_run: bool,
) -> anyhow::Result<(&'static str, Vec<String>)> {
    let applied: Vec<i64> = applied(pool).await?.into_iter().collect();
    let keep = applied.len().saturating_sub(count);
    let target = keep.checked_sub(1).map_or(0, |last| applied[last]);
    let gone = applied[keep..].iter().rev().map(|version| {
        ups().find(|migration| migration.version == *version).map_or(version.to_string(), name)
    });
    let gone = gone.collect();
    if !dry_run {
        pg::MIGRATOR.undo(pool, target).await.context("undoing failed")?;
    }
    Ok((if dry_run { "to undo" } else { "undone" }, gone))
}

fn ups() -> impl Iterator<Item = &'static Migration> {
    pg::MIGRATOR.iter().filter(|migration| migration.migration_type.is_up_migration())
}

fn name(migration: &Migration) -> String {
    format!("{} {}", migration.version, migration.description)
}

async fn applied(pool: &PgPool) -> anyhow::Result<BTreeSet<i64>> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    if !exists {
        return Ok(BTreeSet::new());
    }
    let versions: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
            .fetch_all(pool)
            .await?;
    Ok(versions.into_iter().collect())
}
