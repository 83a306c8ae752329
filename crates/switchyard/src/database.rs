//! The stack's database for commands that need it: a given one, the running private one, or the
//! private one started for the moment.

use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::task::JoinSet;

use crate::cli::Place;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::output::Output;
use crate::postgres::binaries::Binaries;
use crate::postgres::{Cluster, SEARCH_PATH};
use crate::supervise::{Starter, Stop};

/// How long the private server may take to come up; recovery after a crash included.
pub(crate) const COMES_UP: Duration = Duration::from_secs(60);

/// A database in reach, and what to stop when done with it.
pub(crate) struct Database {
    /// How to connect as the owner.
    pub(crate) options: PgConnectOptions,
    /// What Postgres's own programs need to connect as the owner.
    pub(crate) client: Client,
    moment: Option<Moment>,
}

/// A private server started by this command.
struct Moment {
    stop: Stop,
    tasks: JoinSet<bool>,
    #[expect(dead_code, reason = "keeps `up` out while our server runs")]
    lock: Lock,
}

/// How psql and its like connect.
pub(crate) struct Client {
    environment: Vec<(&'static str, String)>,
    /// URL of a given database, without its password.
    target: Option<String>,
    /// Where the programs are; on the search path when only a client is installed.
    programs: Option<Binaries>,
}

impl Client {
    /// `psql`, `pg_dump` or `pg_restore`, set up to reach the database.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = match &self.programs {
            Some(programs) => programs.command(program),
            None => Command::new(program),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // libpq takes a whole connection string where a database's name is expected, but not
        // from the environment.
        if let Some(target) = self.target.as_ref().filter(|_| program != "pg_restore") {
            command.args(["--dbname", target]);
        }
        command
    }
}

impl Database {
    /// Opens whichever database this place has.
    pub(crate) async fn open(place: &Place) -> anyhow::Result<Self> {
        if let Some(url) = place.foreign_url() {
            return Self::foreign(url, place);
        }
        let layout = Layout::find(place)?;
        if Cluster::version(&layout)?.is_none() {
            bail!(
                "there is no database in {} yet: start the stack with `switchyard up`, or name \
                 yours with --database-url",
                layout.data().display()
            );
        }
        let cluster = Cluster::find(place, &layout)?;
        let moment = match Lock::holder(&layout.lock()) {
            Some(_) => None,
            None => Some(Moment::start(&cluster, &layout).await?),
        };
        Ok(Self {
            options: cluster.owner()?,
            client: Client {
                environment: cluster.client_environment()?,
                target: None,
                programs: Some(cluster.binaries().clone()),
            },
            moment,
        })
    }

    fn foreign(url: &str, place: &Place) -> anyhow::Result<Self> {
        // A dump is read by the version that made it and by newer ones, never by older ones.
        let tools = Layout::find(place)?.tools();
        let programs = Binaries::find(place.pg_bin.as_deref(), &tools, None);
        let programs = if place.pg_bin.is_some() { Some(programs?) } else { programs.ok() };
        let (bare, password) = split_password(url);
        let environment = password.map(|password| ("PGPASSWORD", password)).into_iter().collect();
        Ok(Self {
            options: foreign_options(url)?,
            client: Client { environment, target: Some(bare), programs },
            moment: None,
        })
    }

    /// A small pool; fails when the database does not answer.
    pub(crate) async fn pool(&self) -> anyhow::Result<PgPool> {
        pool(self.options.clone()).await
    }

    /// Stops what was started for the moment.
    pub(crate) async fn close(self) {
        if let Some(mut moment) = self.moment {
            moment.stop.asked.cancel();
            while moment.tasks.join_next().await.is_some() {}
        }
    }
}

/// How to connect to a given database.
pub(crate) fn foreign_options(url: &str) -> anyhow::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).context("DATABASE_URL cannot be read")?;
    let options = options.application_name("switchyard").options([("search_path", SEARCH_PATH)]);
    Ok(options.disable_statement_logging())
}

/// A small pool; fails when the database does not answer.
pub(crate) async fn pool(options: PgConnectOptions) -> anyhow::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .context("the database does not answer")
}

impl Moment {
    async fn start(cluster: &Cluster, layout: &Layout) -> anyhow::Result<Self> {
        let lock = Lock::take(&layout.lock())?;
        cluster.prepare().await?;
        let starter = Starter {
            launcher: crate::up::programs::launcher(layout)?,
            account: layout.account().clone(),
            output: Output::silent(),
        };
        let stop = Stop::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(starter.keep(cluster.program(), stop.clone(), |_| ()));
        let mut this = Self { stop, tasks, lock };
        if let Err(why) = cluster.ready(COMES_UP).await {
            this.stop.asked.cancel();
            while this.tasks.join_next().await.is_some() {}
            return Err(why);
        }
        Ok(this)
    }
}

/// The URL without its password, which must not show in the list of processes, and the password.
pub(crate) fn split_password(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return (url.to_owned(), None) };
    let Some(colon) = rest[..at].find(':') else { return (url.to_owned(), None) };
    let bare = format!("{scheme}://{}{}", &rest[..colon], &rest[at..]);
    (bare, Some(percent_decode(&rest[colon + 1..at])))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_leave_the_command_line() {
        let (bare, password) = split_password("postgres://me:p%40ss%25@db:5433/x?sslmode=require");
        assert_eq!(bare, "postgres://me@db:5433/x?sslmode=require");
        assert_eq!(password.as_deref(), Some("p@ss%"));
        let without = "postgres://me@db/x?options=a:b@c";
        assert_eq!(split_password(without), (without.to_owned(), None));
    }
}
