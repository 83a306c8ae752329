//! The pool of one service.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::{Error, is_transient, retry};

/// How long a caller waits for a connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the database is and how much of it to use.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Postgres to use: `postgres://user:password@host/name`, or
    /// `postgres:///name?host=/socket/directory&user=…`.
    #[arg(long, env = "DATABASE_URL", value_name = "URL")]
    pub database_url: String,

    /// Role to take on when the login is another one [default: `switchyard_` and the service].
    #[arg(long, env = "DATABASE_ROLE", value_name = "ROLE")]
    pub database_role: Option<String>,

    /// Most connections to hold.
    #[arg(long, env = "DATABASE_POOL", value_name = "COUNT", default_value = "8",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_pool: u32,

    /// Longest a statement may run, in milliseconds.
    #[arg(long, env = "DATABASE_STATEMENT_TIMEOUT_MS", value_name = "MS", default_value = "10000")]
    pub database_statement_timeout_ms: u32,

    /// How long to wait at the start for a database that is not there yet, in seconds.
    #[arg(long, env = "DATABASE_WAIT_S", value_name = "SECONDS", default_value = "30")]
    pub database_wait_s: u32,
}

impl DatabaseArgs {
    /// The defaults with `url`, for tests and tools.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            database_url: url.into(),
            database_role: None,
            database_pool: 8,
            database_statement_timeout_ms: 10_000,
            database_wait_s: 30,
        }
    }
}

impl fmt::Debug for DatabaseArgs {
    /// Leaves the URL out: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseArgs").field("pool", &self.database_pool).finish_non_exhaustive()
    }
}

/// Opens the pool of the service `name` and waits until the database answers.
///
/// Every connection takes on the role `switchyard_<name>` (`_` for `-`) when its login is another that may; it
/// keeps its own otherwise. Connections that break later are replaced when they are next needed.
///
/// # Errors
/// [`Error::Url`], [`Error::Unavailable`] when the database stays away for
/// `--database-wait-s`, [`Error::Refused`] for a wrong password and the like.
pub async fn connect(
    args: &DatabaseArgs,
    name: &'static str,
    metrics: &Registry,
) -> Result<PgPool, Error> {
    let options = options(args, name)?;
    let own = || format!("switchyard_{}", name.replace('-', "_"));
    let role = args.database_role.clone().unwrap_or_else(own);
    let pool = PgPoolOptions::new()
        .max_connections(args.database_pool)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(300))
        // A broken connection shows when it is used; asking first would double every trip.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let role = role.clone();
            Box::pin(async move { take_role(connection, &role).await })
        })
        .connect_lazy_with(options);
    let wait = Duration::from_secs(args.database_wait_s.into());
    retry(wait, || async {
        sqlx::query("SELECT 1").execute(&pool).await.inspect_err(|why| {
            if is_transient(why) {
                tracing::warn!(%why, "waiting for the database");
            }
        })
    })
    .await?;
    // A second pool under the same registry goes uncounted rather than failing the start.
    if let Err(why) = metrics.register(Box::new(PoolMetrics::new(pool.clone()))) {
        tracing::debug!(%why, "pool metrics not registered");
    }
    Ok(pool)
}

fn options(args: &DatabaseArgs, name: &str) -> Result<PgConnectOptions, Error> {
    let url = args.database_url.trim();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Error::Url("it does not start with postgres://".to_owned()));
    }
    let options = PgConnectOptions::from_str(url).map_err(|why| Error::Url(why.to_string()))?;
    let statement_timeout = args.database_statement_timeout_ms.to_string();
    Ok(options
        .application_name(&format!("switchyard-{name}"))
        .options([
            ("statement_timeout", statement_timeout.as_str()),
            ("idle_in_transaction_session_timeout", "60000"),
            // Planning over partitions costs more than running; our statements do not depend on
            // the values they are given.
            ("plan_cache_mode", "force_generic_plan"),
            // A plan made while a day was empty is used when it is full.
            ("enable_seqscan", "off"),
            ("jit", "off"), // statements are short: compiling them costs more than it saves
        ])
        .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(1))
        .log_statements(tracing::log::LevelFilter::Trace))
}

/// Takes on `role` when it exists and the login may; other logins work with what they were given.
async fn take_role(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('role', rolname, false) FROM pg_roles
         WHERE rolname = $1 AND rolname <> session_user
           AND pg_has_role(session_user, oid, 'MEMBER')",
    )
    .bind(role)
    .persistent(false)
    .execute(connection)
    .await
    .map(drop)
}

/// Asks the database every second until `stop`, and reports every change: `true` when it answers.
/// The first report comes with the first answer or failure.
pub async fn watch(pool: PgPool, stop: CancellationToken, mut report: impl FnMut(bool) + Send) {
    let mut known = None;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let answer = sqlx::query("SELECT 1").execute(&pool);
        let answers = matches!(tokio::time::timeout(ACQUIRE_TIMEOUT, answer).await, Ok(Ok(_)));
        if known != Some(answers) {
            known = Some(answers);
            report(answers);
        }
    }
}

/// Connections held and idle, read when asked for.
struct PoolMetrics {
    pool: PgPool,
    open: IntGauge,
    idle: IntGauge,
}

impl PoolMetrics {
    fn new(pool: PgPool) -> Self {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("the name is valid");
        Self {
            pool,
            open: gauge("pg_pool_connections", "Connections to the database."),
            idle: gauge("pg_pool_idle_connections", "Connections nobody uses at the moment."),
        }
    }
}

impl Collector for PoolMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.open.desc().into_iter().chain(self.idle.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.open.set(self.pool.size().into());
        self.idle.set(i64::try_from(self.pool.num_idle()).unwrap_or(i64::MAX));
        self.open.collect().into_iter().chain(self.idle.collect()).collect()
    }
}
