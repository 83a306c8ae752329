//! Keys of mailboxes.

use sha2::{Digest, Sha256};
use sqlx::PgPool;

const SALT: &str = "SELECT mailbox_salt FROM relay.state";

/// Turns recipients' ids into mailbox keys, as `relay.mailbox` does in SQL.
///
/// 64 bits of a salted hash: rows stay narrow, nobody can aim at another mailbox's key, and by
/// chance two among ten million mailboxes share one with a probability of 3 in a million.
#[derive(Clone)]
pub(crate) struct MailboxKeys(Sha256);

impl MailboxKeys {
    /// Reads the database's salt.
    pub(crate) async fn load(pool: &PgPool) -> Result<Self, pg::Error> {
        let salt: Vec<u8> = sqlx::query_scalar(SALT).fetch_one(pool).await?;
        Ok(Self(Sha256::new().chain_update(salt)))
    }

    /// The key of a recipient's mailbox.
    pub(crate) fn key(&self, recipient: &[u8]) -> i64 {
        let digest = self.0.clone().chain_update(recipient).finalize();
        i64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test(migrator = "pg::MIGRATOR")]
    async fn rust_and_sql_agree(pool: PgPool) -> Result<(), pg::Error> {
        let keys = MailboxKeys::load(&pool).await?;
        for recipient in [&b"bob"[..], b"", b"\xed\xa0\x80\0"] {
            let by_sql: i64 = sqlx::query_scalar("SELECT relay.mailbox($1)")
                .bind(recipient)
                .fetch_one(&pool)
                .await?;
            assert_eq!(keys.key(recipient), by_sql);
        }
        Ok(())
    }
}
