//! The database: in reach, current, of the rights we need.

use super::Finding;
use crate::cli::Place;
use crate::database::Database;
use crate::layout::Layout;
use crate::migrate;
use crate::postgres::Cluster;

const REACHABLE: &str = "database";

/// Looks at the database if there is one to look at. A private one that does not run is left
/// alone: examining must not change anything.
pub(super) async fn check(place: &Place, layout: &Layout, running: Option<u32>) -> Vec<Finding> {
    if place.foreign_url().is_none() {
        match Cluster::version(layout) {
            Ok(None) => return vec![Finding::ok(REACHABLE, "none yet; `switchyard up` makes it")],
            Ok(Some(version)) if running.is_none() => {
                let found =
                    format!("PostgreSQL {version}, not running; start it with `switchyard up`");
                return vec![Finding::ok(REACHABLE, found)];
            }
            Ok(Some(_)) => {}
            Err(why) => {
                let fix = format!("ls -ld {}", layout.postgres().display());
                return vec![Finding::broken(REACHABLE, format!("{why:#}"), fix)];
            }
        }
    }
    let database = match Database::open(place).await {
        Ok(database) => database,
        Err(why) => return vec![unreachable(place, &why)],
    };
    let findings = match database.pool().await {
        Ok(pool) => {
            let mut findings = vec![Finding::ok(REACHABLE, "answers"), current(&pool).await];
            let now = "SELECT extract(epoch FROM clock_timestamp())::float8";
            if let Ok(theirs_s) = sqlx::query_scalar(now).fetch_one(&pool).await {
                findings.push(super::clock::compare("the database's clock", theirs_s));
            }
            findings
        }
        Err(why) => vec![unreachable(place, &why)],
    };
    database.close().await;
    findings
}

fn unreachable(place: &Place, why: &anyhow::Error) -> Finding {
    let fix = match place.foreign_url() {
        Some(_) => "psql \"$DATABASE_URL\" -c 'SELECT 1'",
        None => "switchyard up",
    };
    Finding::broken(REACHABLE, format!("{why:#}"), fix)
}

async fn current(pool: &sqlx::PgPool) -> Finding {
    const CHECK: &str = "migrations";
    match migrate::pending(pool).await {
        Ok(pending) if pending.is_empty() => Finding::ok(CHECK, "current"),
        Ok(pending) => {
            Finding::broken(CHECK, format!("{} missing", pending.len()), "switchyard migrate")
        }
        Err(why) => Finding::broken(CHECK, format!("{why:#}"), "git pull && scripts/up"),
    }
}
