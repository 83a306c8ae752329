//! A database of its own for every test.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// How long the end of a database is waited for.
///
/// A connection that was being made when the test ended is answered by nobody while its thread waits
/// here, and Postgres waits for it before it drops anything. It ends with the test's process, and then
/// the server does what it was told, whether anybody still listens or not.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A migrated, empty database in the server that `DATABASE_URL` names; dropped with its owner.
#[derive(Debug)]
pub struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    /// Makes one in the server that `DATABASE_URL` names.
    pub async fn fresh() -> anyhow::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test has no service::run to read settings"
        )]
        let url = std::env::var("DATABASE_URL");
        let url = url.context("set DATABASE_URL to a Postgres this may create databases in")?;
        Self::within(url.parse().context("DATABASE_URL is no Postgres URL")?).await
    }

    /// Makes one in the given server, whose user must be allowed to create databases and roles.
    pub async fn within(server: PgConnectOptions) -> anyhow::Result<Self> {
        let name = format!("testkit_{}", uuid::Uuid::new_v4().simple());
        let mut admin = server.connect().await.context("cannot reach the test database server")?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
        admin.close().await?;
        let database = Self { server, name };
        let mut connection = database.options().connect().await?;
        pg::MIGRATOR.run(&mut connection).await.context("the migrations fail")?;
        connection.close().await?;
        Ok(database)
    }

    /// How to reach it as the owner of everything in it.
    pub fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// How to reach it, as a `postgres://` URL for a service's settings.
    pub fn url(&self) -> String {
        self.options().to_url_lossy().to_string()
    }

    /// How to reach it at another address, such as a proxy's.
    pub fn url_at(&self, address: std::net::SocketAddr) -> String {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&address.ip().to_string())
            .port(address.port())
            .username(self.server.get_username())
            .ssl_mode(PgSslMode::Disable)
            .database(&self.name);
        options.to_url_lossy().to_string()
    }

    /// A few connections to it, for a test that looks into the tables.
    pub async fn pool(&self) -> anyhow::Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(4).connect_with(self.options()).await?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let server = self.server.clone();
        // A drop may run inside a runtime, which cannot be blocked; hence a thread with its own.
        let (done, ended) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let dropped = runtime.block_on(async {
                let mut admin = server.connect().await?;
                sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await?;
                admin.close().await?;
                anyhow::Ok(())
            });
            let _ = done.send(()); // nobody may wait any more
            dropped
        });
        // A server that is gone took the database with it.
        let _ = ended.recv_timeout(LAST_WORDS);
    }
}
