//! What a recording put into the original's storage by hand, put into ours.

use anyhow::{Context as _, bail};
use sqlx::PgPool;
use testkit::book_client::random_fp;
use testkit::totp;

use super::names::Names;

/// Carries out one `redis-cli` command of a recording.
pub(super) async fn apply(pool: &PgPool, names: &mut Names, command: &str) -> anyhow::Result<()> {
    let words: Vec<&str> = command.split(' ').collect();
    let ["redis-cli", verb, key, fields @ ..] = words.as_slice() else { bail!("{command}?") };
    let (table, id) = key.split_once(':').context("keys have a kind and an id")?;
    let field = |name: &str| {
        fields.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1)).copied()
    };
    match (*verb, table) {
        ("HSET", "user") => {
            let email = names.fill(field("email").context("a user has an address")?)?;
            let own = format!("{id}{}", &random_fp()[..10]);
            names.own_literal(id, &own);
            user(pool, &own, &email).await?;
            if field("QRVerified") == Some("1") {
                let secret = field("secret").context("a confirmed QR has a secret")?;
                enrolled(pool, &own, secret).await?;
            }
        }
        ("HSET", "peer") => {
            let fp = match id.strip_prefix('<') {
                Some(_) => names.fill(id)?,
                None => {
                    let fp = random_fp();
                    names.own_literal(id, &fp);
                    fp
                }
            };
            let uid = names.fill(field("user").context("a peer has a user")?)?;
            let name = field("name").unwrap_or_default();
            names.call(&fp, name);
            let kind = field("kind").unwrap_or_default();
            peer(pool, &uid, &fp, name, kind, field("verified") == Some("1")).await?;
        }
        // The user's row holds the address, a peer's row its user; TURN servers are settings.
        ("SET", "uid") | ("SADD", "userset") | ("HSET", "iceserver") => {}
        _ => bail!("{command}?"),
    }
    Ok(())
}

async fn user(pool: &PgPool, uid: &str, email: &str) -> anyhow::Result<()> {
    let add = "INSERT INTO peerbook.account (uid, email, email_key) VALUES ($1, $2, lower($2))";
    sqlx::query(add).bind(uid).bind(email).execute(pool).await?;
    Ok(())
}

async fn enrolled(pool: &PgPool, uid: &str, secret: &str) -> anyhow::Result<()> {
    let secret = totp::secret(secret).context("secrets are base32")?;
    let add = "INSERT INTO peerbook.totp (uid, secret, confirmed_at) VALUES ($1, $2, now())";
    sqlx::query(add).bind(uid).bind(secret).execute(pool).await?;
    Ok(())
}

async fn peer(
    pool: &PgPool,
    uid: &str,
    fp: &str,
    name: &str,
    kind: &str,
    verified: bool,
) -> anyhow::Result<()> {
    const ADD: &str = "
        INSERT INTO peerbook.peer (uid, fp, name, kind, verified, verified_at, created_at)
        VALUES ($1, $2, $3, $4, $5, CASE WHEN $5 THEN now() END, to_timestamp(1690000000))";
    let add = sqlx::query(ADD).bind(uid).bind(fp).bind(name).bind(kind).bind(verified);
    add.execute(pool).await?;
    Ok(())
}
