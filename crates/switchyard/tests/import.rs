//! Importing from an original's Redis, with a real one.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::database::Database;
use testkit::process::Port;

/// A Redis of our own; killed with its owner.
struct Redis {
    child: Child,
    port: Port,
}

impl Redis {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let port = Port::reserve().unwrap();
        let number = port.number().to_string();
        let arguments =
            ["--port", &number, "--bind", "127.0.0.1", "--save", "", "--requirepass", "s3"];
        let child =
            Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().ok()?;
        Some(Self { child, port })
    }

    /// Commands as they are typed into `redis-cli`, each answered without an error.
    fn fill(&self, commands: &[&str]) {
        let end = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match TcpStream::connect(self.port.address()) {
                Ok(stream) => break stream,
                Err(why) => assert!(Instant::now() < end, "{why}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        for command in ["AUTH s3"].iter().chain(commands) {
            (&stream).write_all(format!("{command}\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            answers.read_line(&mut answer).unwrap();
            assert!(answer.starts_with([':', '+']), "{command}: {answer}");
        }
    }

    fn url(&self) -> String {
        format!("redis://:s3@127.0.0.1:{}/0", self.port.number())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn import(redis: &str, database: &Database, more: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_switchyard"))
        .env_remove("DATABASE_URL")
        .args(["--database-url", &database.url(), "peerbook", "import", redis, "--json"])
        .args(more)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const BOTH_LAYOUTS: &[&str] = &[
    // 0.3.2: users are addresses.
    "HSET peer:OLD fp OLD name old kind webexec user J@Nowhere.org verified 1 online 1 created_on 1616300000 last_connect 1616400000",
    "HSET peer:OLD2 fp OLD2 user J@Nowhere.org verified 0 online 0 created_on 1616300001",
    "SADD user:J@Nowhere.org OLD OLD2",
    // A fingerprint that once connected, and what is no peer at all.
    "HSET peer:GHOST online 0",
    "SET peer:STRANGE text",
    "HSET peer:BAD fp BAD user not@an@address verified 1",
    // 1.x: users are ids.
    "HSET user:UIDJ email new@example.org active 1 QRVerified 1 secret GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
    "SET uid:new@example.org UIDJ",
    "HSET peer:AA fp AA name alpha kind terminal7 user UIDJ verified 1 online 0 created_on 1690000000",
    "SADD userset:UIDJ AA",
    "HSET user:UIDE email empty@example.org active 1 QRVerified 0 secret GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
];

#[tokio::test(flavor = "multi_thread")]
async fn both_layouts_are_imported_once_and_a_dry_run_changes_nothing() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    redis.fill(BOTH_LAYOUTS);
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let count = async |table: &str| -> i64 {
        let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM peerbook.{table}"));
        sqlx::query_scalar(statement).fetch_one(&pool).await.unwrap()
    };
    let expected = |dry_run: bool| {
        json!({"dry_run": dry_run, "users": 3, "peers": 3, "verified": 2, "one_time_secrets": 1,
            "already_here": 0, "verified_elsewhere": 0, "unowned": 1, "unusable": 1})
    };
    assert_eq!(import(&redis.url(), &database, &["--dry-run"]), expected(true));
    assert_eq!(count("account").await, 0);
    assert_eq!(import(&redis.url(), &database, &[]), expected(false));
    let rows: Vec<(String, String, String, bool, i64)> = sqlx::query_as(
        "SELECT a.email, p.fp, p.name, p.verified, extract(epoch FROM p.created_at)::bigint
         FROM peerbook.peer AS p JOIN peerbook.account AS a USING (uid) ORDER BY p.fp",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let row = |email: &str, fp: &str, name: &str, verified, at| {
        (email.to_owned(), fp.to_owned(), name.to_owned(), verified, at)
    };
    assert_eq!(
        rows,
        [
            row("new@example.org", "AA", "alpha", true, 1_690_000_000),
            row("J@Nowhere.org", "OLD", "old", true, 1_616_300_000),
            row("J@Nowhere.org", "OLD2", "", false, 1_616_300_001),
        ]
    );
    let uid: String =
        sqlx::query_scalar("SELECT uid FROM peerbook.account WHERE email_key = 'new@example.org'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(uid, "UIDJ", "ids are kept: clients have them in their settings");
    let secrets: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT uid, secret FROM peerbook.totp").fetch_all(&pool).await.unwrap();
    assert_eq!(secrets, [("UIDJ".to_owned(), b"12345678901234567890".to_vec())]);
    let again = import(&redis.url(), &database, &[]);
    assert_eq!(
        (&again["users"], &again["peers"], &again["already_here"]),
        (&json!(0), &json!(0), &json!(3))
    );
}
