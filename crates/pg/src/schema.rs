//! A service runs only on a schema it knows.

use std::collections::BTreeSet;

use sqlx::PgPool;

use crate::{Error, MIGRATOR};

/// Every schema of the stack: what a backup holds. The tables of a service are in the one named
/// after it.
pub const SCHEMAS: [&str; 9] = [
    "bus",
    "channel_hub",
    "identity",
    "mesh",
    "peer_linker",
    "peerbook",
    "relay",
    "signal",
    "switchyard",
];

/// Compares the applied migrations with those compiled in.
///
/// # Errors
/// [`Error::SchemaBehind`] and [`Error::SchemaAhead`]; a database without any migration counts
/// as behind.
pub async fn check_schema(pool: &PgPool) -> Result<(), Error> {
    let applied: Result<Vec<i64>, _> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
            .fetch_all(pool)
            .await;
    let applied: BTreeSet<i64> = match applied {
        Ok(versions) => versions.into_iter().collect(),
        Err(why) if is_absent(&why) => BTreeSet::new(),
        Err(why) => return Err(why.into()),
    };
    let known: BTreeSet<i64> = MIGRATOR
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
        .map(|migration| migration.version)
        .collect();
    match (known.difference(&applied).count(), applied.difference(&known).next()) {
        (_, Some(&version)) => Err(Error::SchemaAhead { version }),
        (0, None) => Ok(()),
        (missing, None) => Err(Error::SchemaBehind { missing }),
    }
}

/// No such table, or a table the first migration has not opened to the roles yet.
fn is_absent(why: &sqlx::Error) -> bool {
    why.as_database_error()
        .and_then(|refusal| refusal.code())
        .is_some_and(|code| matches!(code.as_ref(), "42P01" | "42501"))
}
