//! Which replica leads: the one whose connection holds the lock.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, PgPool};
use tokio::time::timeout;

/// How long the database may take to say that the lock is still there.
const ANSWER: Duration = Duration::from_secs(5);

/// The lead, for as long as its connection lives.
pub(crate) struct Lead(PgConnection);

/// Takes the lead unless another replica has it.
pub(crate) async fn try_lead(pool: &PgPool) -> sqlx::Result<Option<Lead>> {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    let connect = timeout(ANSWER, options.connect());
    let mut connection = connect.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext('mesh leader'))")
        .fetch_one(&mut connection)
        .await?;
    if taken {
        return Ok(Some(Lead(connection)));
    }
    connection.close().await?;
    Ok(None)
}

impl Lead {
    /// Whether it is still there.
    pub(crate) async fn holds(&mut self) -> bool {
        let asked = sqlx::query("SELECT 1").execute(&mut self.0);
        matches!(timeout(ANSWER, asked).await, Ok(Ok(_)))
    }

    /// Gives it up.
    pub(crate) async fn end(self) {
        // Closing says so at once; a connection that is lost says so as well, later.
        let _ = timeout(ANSWER, self.0.close()).await;
    }
}
