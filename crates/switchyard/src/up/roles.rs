//! How each service gets into the database.

use std::path::PathBuf;

use anyhow::bail;
use sqlx::PgPool;

use super::plan::Plan;
use crate::ports::Service;
use crate::postgres::Cluster;
use crate::{logins, secrets};

/// Files with the connection string of each service.
pub(super) type Urls = Vec<(Service, PathBuf)>;

/// Lets the services' roles log into the private cluster, each with a password of its own.
pub(super) async fn give_logins(
    pool: &PgPool,
    cluster: &Cluster,
    plan: &Plan,
) -> anyhow::Result<Urls> {
    let mut urls = Urls::new();
    for service in plan.services.iter().map(|service| service.place.service) {
        let account = plan.layout.account();
        let password = secrets::keep(&plan.layout.secrets().join(service.name()), account)?;
        logins::allow(pool, service, &password).await?;
        urls.push(write(plan, service, &cluster.url(service.role(), &password))?);
    }
    Ok(urls)
}

/// Hands the given connection string on; the services take on their roles by themselves.
pub(super) async fn hand_on(pool: &PgPool, url: &str, plan: &Plan) -> anyhow::Result<Urls> {
    let mut urls = Urls::new();
    for service in plan.services.iter().map(|service| service.place.service) {
        let role = service.role();
        let (may, login): (bool, String) =
            sqlx::query_as("SELECT pg_has_role($1, 'MEMBER'), current_user::text")
                .bind(role)
                .fetch_one(pool)
                .await?;
        if !may {
            bail!("{login} may not act as {role}; as a superuser: GRANT {role} TO \"{login}\";");
        }
        urls.push(write(plan, service, url)?);
    }
    Ok(urls)
}

fn write(plan: &Plan, service: Service, url: &str) -> anyhow::Result<(Service, PathBuf)> {
    let path = plan.layout.secrets().join(format!("{}.url", service.name()));
    secrets::write_private(&path, url.as_bytes(), plan.layout.account())?;
    Ok((service, path))
}
