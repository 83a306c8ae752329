//! Who the node is, shared by its replicas.

use sqlx::PgPool;

/// The 32 bytes kept under `name`; `fresh` when nothing is kept yet.
pub(crate) async fn keep(pool: &PgPool, name: &str, fresh: [u8; 32]) -> sqlx::Result<Vec<u8>> {
    sqlx::query("INSERT INTO mesh.secret (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(name)
        .bind(fresh.as_slice())
        .execute(pool)
        .await?;
    sqlx::query_scalar("SELECT value FROM mesh.secret WHERE name = $1")
        .bind(name)
        .fetch_one(pool)
        .await
}

/// What changes whenever used proofs may have been lost; `fresh` when that just happened.
pub(crate) async fn boot_id(pool: &PgPool, fresh: [u8; 16]) -> sqlx::Result<Vec<u8>> {
    sqlx::query("INSERT INTO mesh.boot (boot_id) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(fresh.as_slice())
        .execute(pool)
        .await?;
    sqlx::query_scalar("SELECT boot_id FROM mesh.boot").fetch_one(pool).await
}

/// What is kept under `name`.
pub(crate) async fn find(pool: &PgPool, name: &str) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar("SELECT value FROM mesh.secret WHERE name = $1")
        .bind(name)
        .fetch_optional(pool)
        .await
}

/// Keeps something under `name`, instead of what was there.
pub(crate) async fn replace(pool: &PgPool, name: &str, value: &[u8]) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO mesh.secret (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(pool)
    .await
    .map(drop)
}
