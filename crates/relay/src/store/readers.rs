//! Connections kept at hand for reading pages.

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::Semaphore;

use super::page::{Page, PageRow, page};

/// A few connections that stay out of the pool between reads: the pool asks a connection whether
/// it is well each time it comes back, which would double the trips of a read.
pub(crate) struct Readers {
    pool: PgPool,
    kept: Mutex<Vec<PoolConnection<Postgres>>>,
    places: Semaphore,
}

impl Readers {
    /// Readers that use at most `most` of the pool's connections.
    pub(crate) fn new(pool: PgPool, most: usize) -> Self {
        Self { pool, kept: Mutex::new(Vec::new()), places: Semaphore::new(most.max(1)) }
    }

    /// As [`page`].
    pub(crate) async fn page(&self, wanted: Page<'_>) -> Result<Vec<PageRow>, pg::Error> {
        let _place = self.places.acquire().await.map_err(|_| pg::Error::Closed)?;
        let kept = self.kept.lock().pop();
        if let Some(mut connection) = kept {
            match page(&mut *connection, wanted).await {
                Ok(rows) => {
                    self.kept.lock().push(connection);
                    return Ok(rows);
                }
                // It broke while nobody used it, and so may the others have.
                Err(pg::Error::Unavailable(_)) => self.kept.lock().clear(),
                Err(why) => return Err(why),
            }
        }
        let mut connection = self.pool.acquire().await?;
        let rows = page(&mut *connection, wanted).await?;
        self.kept.lock().push(connection);
        Ok(rows)
    }
}
