//! The schema as the migrations leave it.

use pg::Error;
use sqlx::{PgPool, Row};

/// The schemas in a database that are not Postgres's own.
async fn schemas(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace
         WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public') ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .expect("a plain query")
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn every_migration_goes_down_and_up_again(pool: PgPool) {
    assert!(pg::check_schema(&pool).await.is_ok());
    assert_eq!(schemas(&pool).await, pg::SCHEMAS, "what a backup holds");
    pg::MIGRATOR.undo(&pool, 0).await.expect("all down");
    assert!(matches!(pg::check_schema(&pool).await, Err(Error::SchemaBehind { .. })));
    assert_eq!(schemas(&pool).await, [""; 0], "a down migration leaves its schema behind");
    pg::MIGRATOR.run(&pool).await.expect("all up again");
    assert!(pg::check_schema(&pool).await.is_ok());
}

#[sqlx::test(migrations = false)]
async fn a_database_without_migrations_is_behind(pool: PgPool) {
    assert!(matches!(pg::check_schema(&pool).await, Err(Error::SchemaBehind { .. })));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_database_from_the_future_is_refused(pool: PgPool) {
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99990101000000, 'tomorrow', true, '', 0)",
    )
    .execute(&pool)
    .await
    .expect("the table is there");
    let refused = pg::check_schema(&pool).await;
    assert!(matches!(refused, Err(Error::SchemaAhead { version: 99_990_101_000_000 })));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_role_can_check_the_schema(pool: PgPool) {
    let single = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect_with((*pool.connect_options()).clone())
        .await
        .expect("the database is there");
    sqlx::query("SET ROLE switchyard_signal").execute(&single).await.expect("a superuser may");
    assert!(pg::check_schema(&single).await.is_ok());
}

/// A role may touch the tables of its own schema and no others; nobody else may touch any.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn tables_are_open_to_their_own_role_alone(pool: PgPool) {
    let open = sqlx::query(
        "SELECT n.nspname AS schema, c.oid::regclass::text AS name, r.rolname AS role
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN pg_roles r
         WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
           AND r.rolname = ANY(SELECT 'switchyard_' || unnest($1))
           AND r.rolname <> 'switchyard_' || n.nspname
           AND n.nspname <> 'bus' -- everybody's, each role its own rows
           AND CASE WHEN c.relkind = 'S'
               THEN has_sequence_privilege(r.oid, c.oid, 'USAGE, SELECT, UPDATE')
               ELSE has_table_privilege(r.oid, c.oid,
                   'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
               END",
    )
    .bind(&pg::SCHEMAS[..])
    .fetch_all(&pool)
    .await
    .expect("valid");
    let open: Vec<String> = open
        .iter()
        .map(|row| format!("{} to {}", row.get::<String, _>("name"), row.get::<String, _>("role")))
        .collect();
    assert!(open.is_empty(), "open to another service's role: {open:?}");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_role_cannot_read_anothers_schema(pool: PgPool) {
    let mut connection = pool.acquire().await.expect("the database is there");
    sqlx::query("CREATE TABLE signal.probe ()").execute(&mut *connection).await.expect("owner");
    sqlx::query("SET ROLE switchyard_relay").execute(&mut *connection).await.expect("superuser");
    for statement in
        ["TABLE signal.probe", "TABLE identity.pin", "TABLE switchyard.day_partitioned"]
    {
        let refused = sqlx::query(statement).execute(&mut *connection).await.expect_err(statement);
        let code = refused.as_database_error().and_then(|why| why.code()).unwrap_or_default();
        assert_eq!(code, "42501", "{statement}: {refused}");
    }
    let created = sqlx::query("CREATE TABLE relay.probe ()").execute(&mut *connection).await;
    assert!(created.is_err(), "a service's role makes no tables");
    sqlx::query("RESET ROLE").execute(&mut *connection).await.expect("back to the owner");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_role_sees_only_its_own_messages_on_the_bus(pool: PgPool) {
    let mut connection = pool.acquire().await.expect("the database is there");
    for (role, seen) in [("signal", 1_i64), ("relay", 0)] {
        let take = sqlx::AssertSqlSafe(format!("SET ROLE switchyard_{role}"));
        sqlx::query(take).execute(&mut *connection).await.expect("superuser");
        if role == "signal" {
            let spill = "INSERT INTO bus.spill (id, packet) VALUES (gen_random_uuid(), 'x')";
            sqlx::query(spill).execute(&mut *connection).await.expect("its own");
        }
        let rows = sqlx::query_scalar("SELECT count(*) FROM bus.spill");
        assert_eq!(rows.fetch_one(&mut *connection).await.ok(), Some(seen), "{role}");
    }
    sqlx::query("RESET ROLE").execute(&mut *connection).await.expect("back to the owner");
}

/// What runs with its owner's rights must not be steered by the caller's search path, and must not
/// be open to everybody.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn functions_with_their_owners_rights_are_pinned_and_closed(pool: PgPool) {
    let loose: Vec<String> = sqlx::query_scalar(
        "SELECT p.oid::regprocedure::text
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = ANY($1) AND p.prosecdef
           AND (NOT coalesce(array_to_string(p.proconfig, ',') LIKE '%search_path=%', false)
                OR EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                           WHERE a.grantee = 0))",
    )
    .bind(&pg::SCHEMAS[..])
    .fetch_all(&pool)
    .await
    .expect("valid");
    assert!(loose.is_empty(), "{loose:?}");
}
