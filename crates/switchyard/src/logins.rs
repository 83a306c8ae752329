//! The passwords that services log in to the database with.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::database::split_password;
use crate::ports::Service;

/// Lets a service's role log in with this password, and with no earlier one.
///
/// # Errors
/// When the role is missing, or this login may not change it.
pub(crate) async fn allow(pool: &PgPool, service: Service, password: &str) -> anyhow::Result<()> {
    let statement: String =
        sqlx::query_scalar("SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)")
            .bind(service.role())
            .bind(password)
            .fetch_one(pool)
            .await?;
    // Postgres itself has quoted both.
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(pool)
        .await
        .with_context(|| format!("cannot let {} into the database", service.name()))?;
    Ok(())
}

/// As [`allow`], for the services whose connection strings are in these files; their names.
///
/// # Errors
/// When a file cannot be read, or names no service's role or no password.
pub(crate) async fn allow_urls(
    pool: &PgPool,
    files: &[PathBuf],
) -> anyhow::Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for file in files {
        let url = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let (service, password) =
            who(url.trim()).with_context(|| format!("the address in {}", file.display()))?;
        allow(pool, service, &password).await?;
        names.push(service.name());
    }
    Ok(names)
}

fn who(url: &str) -> anyhow::Result<(Service, String)> {
    let (bare, password) = split_password(url);
    let options = PgConnectOptions::from_str(&bare).context("cannot be read")?;
    let role = options.get_username();
    let Some(service) = Service::ALL.into_iter().find(|service| service.role() == role) else {
        bail!("logs in as {role}, which is no service's role");
    };
    let Some(password) = password.filter(|password| !password.is_empty()) else {
        bail!("has no password for {role}");
    };
    Ok((service, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_which_service_logs_in_and_how() {
        let (service, password) = who("postgres://switchyard_mesh:a%27b@db/switchyard").unwrap();
        assert_eq!((service, &*password), (Service::Mesh, "a'b"));
        for wrong in ["postgres://postgres:x@db/d", "postgres://switchyard_mesh@db/d", "nonsense"] {
            assert!(who(wrong).is_err(), "{wrong}");
        }
    }
}
