//! Whose rights a service works with.

use pg::{DatabaseArgs, Error};
use prometheus::Registry;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};

/// The URL of the test's own database, for another login when one is named.
fn url(pool: &PgPool, login: Option<&str>) -> String {
    let mut url = pool.connect_options().to_url_lossy();
    if let Some(login) = login {
        url.set_username(login).expect("the URL has a host");
        url.set_password(Some("guess")).expect("the URL has a host");
    }
    url.into()
}

async fn users(pool: &PgPool) -> (String, String, String) {
    sqlx::query_as(
        "SELECT session_user::text, current_user::text, current_setting('application_name')",
    )
    .fetch_one(pool)
    .await
    .expect("a plain query")
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_login_that_may_takes_on_the_services_role(pool: PgPool) {
    let (login, ..) = users(&pool).await;
    let registry = Registry::new();
    let args = DatabaseArgs::new(url(&pool, None));
    let relay = pg::connect(&args, "relay", &registry).await.expect("the database is there");
    let (session, current, application) = users(&relay).await;
    assert_eq!((session, current.as_str()), (login, "switchyard_relay"));
    assert_eq!(application, "switchyard-relay");
    assert!(pg::check_schema(&relay).await.is_ok());
    let timeout: String =
        sqlx::query_scalar("SHOW statement_timeout").fetch_one(&relay).await.expect("plain");
    assert_eq!(timeout, "10s");
    assert!(registry.gather().iter().any(|family| family.name() == "pg_pool_connections"));
    relay.close().await;
}

/// An ordinary login: no superuser, no member of the other service's role.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_member_takes_on_its_own_role_and_no_other(pool: PgPool) {
    let login = format!("member_{}", std::process::id());
    for statement in
        [format!("CREATE ROLE {login} LOGIN NOINHERIT PASSWORD 'guess' IN ROLE switchyard_signal")]
    {
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.expect("a superuser may");
    }
    let args = DatabaseArgs::new(url(&pool, Some(&login)));
    let signal = pg::connect(&args, "signal", &Registry::new()).await.expect("a member");
    assert_eq!(users(&signal).await.1, "switchyard_signal");
    let relay = pg::connect(&args, "relay", &Registry::new()).await.expect("a login of its own");
    assert_eq!(users(&relay).await.1, login);
    assert!(pg::partitions::today(&relay).await.is_err(), "it was given nothing");
    signal.close().await;
    relay.close().await;
    for statement in [format!("DROP ROLE {login}")] {
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.expect("a superuser may");
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_login_nobody_knows_fails_at_once(pool: PgPool) {
    let args = DatabaseArgs::new(url(&pool, Some("nobody_at_all")));
    let refused = pg::connect(&args, "relay", &Registry::new()).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}
