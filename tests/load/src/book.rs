//! Generators for peerbook.

pub(crate) mod forward;
pub(crate) mod revoke;

use anyhow::ensure;
use sqlx::PgPool;
use testkit::book_client::random_fp;

use crate::signal::contains;
use crate::target::Target;
use crate::ws::Socket;

/// A user who has approved some peers.
struct User {
    uid: String,
    fps: Vec<String>,
}

/// Puts a user with `peers` approved peers into the tables, as a mailed page would.
async fn user(pool: &PgPool, peers: usize) -> anyhow::Result<User> {
    let uid = format!("LOAD{}", &random_fp()[..16]);
    let fps: Vec<String> = (0..peers).map(|_| random_fp()).collect();
    sqlx::query("INSERT INTO peerbook.account (uid, email, email_key) VALUES ($1, $2, lower($2))")
        .bind(&uid)
        .bind(format!("{uid}@example.org"))
        .execute(pool)
        .await?;
    const ADD: &str = "
        INSERT INTO peerbook.peer (uid, fp, name, kind, verified, verified_at)
        SELECT $1, fp, 'peer ' || nth, 'load', true, now()
        FROM unnest($2::text[]) WITH ORDINALITY AS peer (fp, nth)";
    sqlx::query(ADD).bind(&uid).bind(&fps).execute(pool).await?;
    Ok(User { uid, fps })
}

/// Opens the `nth` socket, for this fingerprint, and waits until it is let in.
async fn connect(target: &Target, nth: usize, fp: &str) -> anyhow::Result<Socket> {
    let mut socket = Socket::open_at(target, nth, &format!("/ws?fp={fp}")).await?;
    let mut status = None;
    while status.is_none() {
        let see = |frame: &[u8]| {
            if contains(frame, "\"code\"") {
                status = Some(frame.to_vec());
            }
        };
        socket.receive(see).await?;
    }
    let status = String::from_utf8_lossy(&status.unwrap_or_default()).into_owned();
    ensure!(status.contains("200"), "not let in: {status}");
    Ok(socket)
}
