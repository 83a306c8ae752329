//! The private Postgres cluster: made once, reachable through a Unix socket only.

pub(crate) mod binaries;
mod leftover;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

pub(crate) use self::binaries::Binaries;
use crate::cli::Place;
use crate::layout::Layout;
use crate::secrets;
use crate::supervise::Program;

/// The role that owns the cluster and the name of its database.
pub(crate) const OWNER: &str = "switchyard";
/// Where unqualified names are found, above all the list of migrations. The default begins with the
/// schema named like the login, and there is a schema `switchyard`.
pub(crate) const SEARCH_PATH: &str = "public";
/// Names the variable part of a socket; Postgres's own default.
const PORT: u16 = 5432;
/// How long a fast stop may take: it writes one checkpoint.
const STOP_GRACE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A private cluster and the programs that run it.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    layout: Layout,
    binaries: Binaries,
    socket: PathBuf,
}

impl Cluster {
    /// Finds the programs that fit the data, or that can make it.
    pub(crate) fn find(place: &Place, layout: &Layout) -> anyhow::Result<Self> {
        let made_by = Self::version(layout)?;
        let binaries =
            Binaries::find(place.pg_bin.as_deref(), &layout.tools(), made_by.as_deref())?;
        Ok(Self { layout: layout.clone(), binaries, socket: layout.socket_dir() })
    }

    /// The major version that made the data; nothing when there is none.
    pub(crate) fn version(layout: &Layout) -> anyhow::Result<Option<String>> {
        let path = layout.postgres().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The programs.
    pub(crate) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Makes the cluster unless there is one. `true` when it was made now.
    ///
    /// It is made beside its place and moved there when complete, so that an interrupted start
    /// leaves nothing that looks like a cluster.
    pub(crate) async fn initialise(&self) -> anyhow::Result<bool> {
        if Self::version(&self.layout)?.is_some() {
            return Ok(false);
        }
        let password = self.layout.secrets().join("postgres");
        secrets::keep(&password, self.layout.account())?;
        let draft = self.layout.postgres().with_added_extension("new");
        if draft.exists() {
            fs::remove_dir_all(&draft)
                .with_context(|| format!("cannot remove {}", draft.display()))?;
        }
        let mut initdb = self.binaries.command("initdb");
        initdb.arg("-D").arg(&draft).args(["-U", OWNER, "-k", "-E", "UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--auth=scram-sha-256", "--no-instructions"]).arg("--pwfile").arg(&password);
        self.layout.account().apply(&mut initdb);
        initdb.current_dir(self.layout.data()).stdin(Stdio::null());
        let output = Command::from(initdb).kill_on_drop(true).output().await;
        let output = output.context("cannot start initdb")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("Postgres could not make its directory:\n{why}");
        }
        let conf = draft.join("postgresql.conf");
        let text = fs::read_to_string(&conf)? + settings::INCLUDES;
        secrets::write_private(&conf, text.as_bytes(), self.layout.account())?;
        let yours = draft.join("local.conf");
        secrets::write_private(&yours, settings::YOURS.as_bytes(), self.layout.account())?;
        fs::rename(&draft, self.layout.postgres()).context("cannot move the new cluster")?;
        Ok(true)
    }

    /// Gets everything ready for a start: directories, settings, nothing left of an earlier one.
    pub(crate) async fn prepare(&self) -> anyhow::Result<()> {
        self.layout.make_private(&self.socket)?;
        leftover::clear(&self.layout.postgres()).await?;
        let text = settings::render(&self.socket, self.binaries.has_lz4(), settings::memory_kib());
        let path = self.layout.postgres().join(settings::FILE);
        secrets::write_private(&path, text.as_bytes(), self.layout.account())
    }

    /// The server, to be kept running.
    pub(crate) fn program(&self) -> Program {
        Program {
            name: "postgres",
            path: self.binaries.path("postgres"),
            arguments: vec!["-D".into(), self.layout.postgres().into()],
            environment: self.binaries.environment(),
            hidden: vec!["PGDATA", "PGPORT", "PGHOST", "PGOPTIONS"],
            directory: self.layout.data().to_owned(),
            // Interrupt = fast stop: sessions end, everything is written down.
            ask: Signal::INT,
            // Quit = immediate stop: nothing committed is lost, the next start replays the log.
            insist: Signal::QUIT,
            death: "INT",
            grace: STOP_GRACE,
            privileged: false,
        }
    }

    /// Waits until the server answers, then makes sure the database exists.
    pub(crate) async fn ready(&self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let options = self.owner()?.database("postgres");
        let mut connection = loop {
            // Asking earlier works too, but leaves a line in the log each time.
            while !leftover::says_ready(&self.layout.postgres()) && Instant::now() < deadline {
                sleep(POLL).await;
            }
            match PgConnection::connect_with(&options).await {
                Ok(connection) => break connection,
                Err(why) if Instant::now() >= deadline => {
                    return Err(why).context("Postgres does not come up");
                }
                Err(_) => sleep(POLL).await,
            }
        };
        let exists: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(OWNER)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            sqlx::raw_sql("CREATE DATABASE switchyard").execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// How the owner connects.
    pub(crate) fn owner(&self) -> anyhow::Result<PgConnectOptions> {
        let password = fs::read_to_string(self.layout.secrets().join("postgres"))
            .context("the cluster's password is missing")?;
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.socket)
            .port(PORT)
            .username(OWNER)
            .password(password.trim())
            .database(OWNER)
            .application_name("switchyard")
            .options([("search_path", SEARCH_PATH)]);
        Ok(options.disable_statement_logging())
    }

    /// The variables with which Postgres's own programs connect as the owner.
    pub(crate) fn client_environment(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let password = fs::read_to_string(self.layout.secrets().join("postgres"))?;
        let socket = self.socket.to_str().context("the data directory's name is not UTF-8")?;
        Ok(vec![
            ("PGHOST", socket.to_owned()),
            ("PGPORT", PORT.to_string()),
            ("PGUSER", OWNER.to_owned()),
            ("PGPASSWORD", password.trim().to_owned()),
            ("PGDATABASE", OWNER.to_owned()),
            ("PGOPTIONS", format!("-c search_path={SEARCH_PATH}")),
        ])
    }

    /// A connection string for a role.
    pub(crate) fn url(&self, role: &str, password: &str) -> String {
        url(&self.socket, role, password)
    }
}

fn url(socket: &Path, role: &str, password: &str) -> String {
    let host = percent_encode(socket.as_os_str().as_encoded_bytes());
    format!("postgres://{role}:{password}@localhost:{PORT}/{OWNER}?host={host}")
}

fn percent_encode(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    bytes
        .iter()
        .map(|byte| if plain(*byte) { char::from(*byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn a_socket_in_an_awkward_directory_survives_the_url() {
        let url = url(Path::new("/srv/a b&c/é/run"), "switchyard_relay", "pass-word_1");
        let options = PgConnectOptions::from_str(&url).unwrap();
        assert_eq!(options.get_socket().map(PathBuf::as_path), Some(Path::new("/srv/a b&c/é/run")));
        assert_eq!(options.get_username(), "switchyard_relay");
        assert_eq!(options.get_database(), Some("switchyard"));
    }
}
