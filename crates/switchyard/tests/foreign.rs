//! Commands on a database the operator brings along, and a stop that is in a hurry.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, query, query_scalar};
use testkit::cluster::Cluster;
use testkit::process::Place;

const SERVICES: [&str; 2] = ["signal", "relay"];

type Outcome = anyhow::Result<()>;

/// Databases owned by an ordinary login with a password, which may make roles but is no superuser.
struct Server {
    cluster: Cluster,
    admin: PgPool,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::start().await?;
        let admin = PgPool::connect_with(cluster.options()).await?;
        query("CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'p@ss word'").execute(&admin).await?;
        Ok(Self { cluster, admin })
    }

    /// A new database and its address.
    async fn database(&self, name: &str) -> anyhow::Result<String> {
        let statement = format!("CREATE DATABASE {name} OWNER keeper");
        query(AssertSqlSafe(statement)).execute(&self.admin).await?;
        let socket = self.cluster.socket_directory().display().to_string().replace('/', "%2F");
        Ok(format!("postgres://keeper:p%40ss%20word@localhost/{name}?host={socket}"))
    }
}

fn run(place: &Place, url: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(place.command(arguments).env("DATABASE_URL", url).output()?)
}

/// What a command that has to succeed printed.
fn done(place: &Place, url: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(place, url, arguments)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{arguments:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What a command that has to fail said.
fn refused(place: &Place, url: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(place, url, arguments)?;
    anyhow::ensure!(!output.status.success(), "{arguments:?} went well");
    Ok(String::from_utf8(output.stderr)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_down_only_when_it_is_meant_and_come_up_again() -> Outcome {
    let (server, place) = (Server::start().await?, Place::new(&[], 0)?);
    let url = &server.database("book").await?;
    let all = done(&place, url, &["migrate", "--dry-run"])?;
    assert!(done(&place, url, &["migrate"])?.lines().count() == all.lines().count(), "{all}");
    assert!(done(&place, url, &["migrate"])?.starts_with("nothing to do"));

    assert!(refused(&place, url, &["migrate", "--down", "1"])?.contains("--i-know"));
    let last = all.lines().last().and_then(|line| line.strip_prefix("pending  ")).expect("a name");
    let would = done(&place, url, &["migrate", "--down", "1", "--i-know", "--dry-run"])?;
    assert_eq!(would, format!("to undo  {last}\n"));
    assert!(done(&place, url, &["migrate"])?.starts_with("nothing to do"), "it only said so");
    let undone = done(&place, url, &["migrate", "--down", "1", "--i-know"])?;
    assert_eq!(undone, format!("undone  {last}\n"));
    assert_eq!(done(&place, url, &["migrate"])?, format!("applied  {last}\n"));
    // More than there are means all of them.
    let undone = done(&place, url, &["migrate", "--down", "1000", "--i-know"])?;
    assert_eq!(undone.lines().count(), all.lines().count());
    assert_eq!(done(&place, url, &["migrate", "--dry-run"])?, all);
    done(&place, url, &["migrate"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_moves_to_another_database_with_everything_in_it() -> Outcome {
    let (server, place) = (Server::start().await?, Place::new(&[], 0)?);
    let (from, to) = (&server.database("old").await?, &server.database("new").await?);
    done(&place, from, &["migrate"])?;
    let pin = "INSERT INTO identity.pin (peer, key, proof)
               VALUES ('alice', decode(repeat('07', 32), 'hex'), 1)";
    done(&place, from, &["db", "psql", "--", "-qc", pin])?;
    // One table in the schema of every service: nobody's data may be left out.
    for schema in pg::SCHEMAS {
        let table = format!("CREATE TABLE {schema}.keepsake AS SELECT 7 AS seven");
        done(&place, from, &["db", "psql", "--", "-qc", &table])?;
    }
    let made = done(&place, from, &["db", "backup", "--json"])?;
    let made: serde_json::Value = serde_json::from_str(&made)?;
    let file = made["file"].as_str().expect("a path");

    done(&place, to, &["migrate"])?;
    done(&place, to, &["db", "restore", file])?; // empty: nothing to be careful about
    assert!(done(&place, to, &["identity", "list"])?.contains("alice"));
    let pool = PgPool::connect(to).await?;
    for schema in pg::SCHEMAS {
        let sql = format!("SELECT seven FROM {schema}.keepsake");
        let seven: i32 = query_scalar(AssertSqlSafe(sql)).fetch_one(&pool).await?;
        assert_eq!(seven, 7, "{schema}");
    }
    pool.close().await;
    assert!(done(&place, to, &["migrate"])?.starts_with("nothing to do"));

    assert!(refused(&place, to, &["db", "restore", file])?.contains("--force"));
    done(&place, to, &["identity", "release", "alice"])?;
    done(&place, to, &["db", "restore", "--force", file])?;
    assert!(done(&place, to, &["identity", "list"])?.contains("alice"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_lives_in_a_given_database() -> Outcome {
    let (server, place) = (Server::start().await?, Place::new(&SERVICES, 4900)?);
    let url = server.database("book").await?;
    for migrated in [true, false] {
        let mut up = place.up(&["--database-url", &url, "--only", "signal,relay"])?;
        let applied = up.wait("migrated", |_| true)?;
        assert_eq!(applied["applied"].as_array().is_some_and(|all| !all.is_empty()), migrated);
        up.wait("self_check", |_| true)?;
        let status = done(&place, &url, &["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let services = status["services"].as_array().expect("a list");
        assert!(services.iter().all(|service| service["state"] == "ready"), "{status}");
        assert!(status["database"].is_object(), "{status}");
        let refused = refused(&place, &url, &["db", "restore", "--force", "/dev/null"])?;
        assert!(refused.contains("stop them"), "{refused}");
        up.stop()?;
    }
    assert!(!place.data().join("postgres").exists(), "a private cluster was made as well");

    let wrong = url.replace("/book?", "/absent?");
    let said = refused(&place, &wrong, &["up", "--only", "relay", "--port-offset", "4900"])?;
    assert!(said.contains("absent") && !said.contains("p%40ss"), "{said}");
    Ok(())
}

#[test]
fn a_second_interrupt_ends_a_drain_that_would_take_long() -> Outcome {
    let place = Place::new(&SERVICES, 6200)?;
    let mut up = place.up(&["--grace", "300", "--only", "relay", "--no-self-check"])?;
    up.wait("ready", |_| true)?;
    // A request in flight, whose body never comes.
    let mut socket = TcpStream::connect(("127.0.0.1", 4000 + place.offset()))?;
    socket.write_all(
        b"POST /relay/store HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
          content-length: 9\r\nexpect: 100-continue\r\n\r\n",
    )?;
    let mut head = [0; 12];
    socket.read_exact(&mut head)?;
    assert_eq!(&head, b"HTTP/1.1 100");

    let asked = Instant::now();
    up.signal(Signal::INT)?;
    up.wait("stopping", |_| true)?;
    up.wait("log", |event| event["line"].as_str().is_some_and(|line| line.contains("draining")))?;
    up.signal(Signal::INT)?;
    let stopped = up.wait("stopped", |_| true)?;
    assert_eq!(stopped["clean"], false);
    assert_eq!(up.ended()?, Some(3));
    // The body's deadline alone is 60 s, the grace five minutes.
    assert!(asked.elapsed() < Duration::from_secs(45), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_lets_services_log_in_as_their_files_say() -> Outcome {
    let (server, place) = (Server::start().await?, Place::new(&[], 0)?);
    let file = place.data().join("owner.url");
    std::fs::write(&file, server.database("book").await? + "\n")?;
    let login = place.data().join("mesh.url");
    std::fs::write(&login, "postgres://switchyard_mesh:it%27s@db/book\n")?;
    let logins = ["migrate", "--logins", login.to_str().expect("UTF-8")];
    for _ in 0..2 {
        let output = place.command(&logins).env("DATABASE_URL_FILE", &file).output()?;
        let said = String::from_utf8(output.stdout)?;
        assert!(said.contains("may log in: mesh"), "{said}");
    }
    let known: Vec<String> = query_scalar(
        "SELECT rolname::text FROM pg_authid WHERE rolcanlogin AND rolpassword ^@ 'SCRAM'
         AND rolname ^@ 'switchyard_'",
    )
    .fetch_all(&server.admin)
    .await?;
    assert_eq!(known, ["switchyard_mesh"]);

    std::fs::write(&login, "postgres://postgres:x@db/book")?;
    let output = place.command(&logins).env("DATABASE_URL_FILE", &file).output()?;
    let why = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && why.contains("no service's role"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_ready_from_absent() -> Outcome {
    let place = Place::new(&["signal"], 0)?;
    let server = Server::start().await?;
    let url = server.database("book").await?;
    done(&place, &url, &["migrate"])?;
    let mut signal = testkit::process::Service::named("signal").database(&url).start().await?;
    let admin = signal.admin().to_string();
    let output = place.run(&["health", &admin])?;
    assert!(output.status.success(), "{output:?}");
    signal.kill();
    let output = place.run(&["health", &admin])?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Ok(())
}
