//! `switchyard db`: psql, dumps and restores.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::json;
use sqlx::PgPool;

use crate::cli::{DbCommand, EXIT_FAILED, EXIT_OK, Place};
use crate::database::Database;
use crate::layout::Layout;
use crate::{clock, output};

const EXTENSION: &str = "dump";

/// Runs one of the database commands.
pub(crate) async fn run(place: &Place, command: DbCommand) -> anyhow::Result<u8> {
    let database = Database::open(place).await?;
    let result = match command {
        DbCommand::Psql { arguments } => psql(&database, &arguments).await,
        DbCommand::Backup { keep, json } => backup(place, &database, keep.into(), json).await,
        DbCommand::Restore { file, force } => restore(&database, &file, force).await,
    };
    database.close().await;
    result
}

async fn psql(database: &Database, arguments: &[std::ffi::OsString]) -> anyhow::Result<u8> {
    let mut command = database.client.command("psql");
    command.args(arguments);
    // Ctrl-C belongs to psql now: it cancels the statement, not us.
    let ignore = tokio::signal::ctrl_c();
    let mut child = tokio::process::Command::from(command).spawn().context("cannot start psql")?;
    let mut ignore = std::pin::pin!(ignore);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = &mut ignore => ignore.set(tokio::signal::ctrl_c()),
        }
    };
    Ok(if status.success() { EXIT_OK } else { EXIT_FAILED })
}

async fn backup(place: &Place, database: &Database, keep: usize, json: bool) -> anyhow::Result<u8> {
    let layout = Layout::find(place)?;
    layout.prepare()?;
    let path = layout.backups().join(format!("switchyard-{}.{EXTENSION}", clock::stamp()));
    let draft = path.with_added_extension("part");
    let mut command = database.client.command("pg_dump");
    command.args(["-Fc", "--no-password"]);
    for schema in pg::SCHEMAS.iter().chain([&"public"]) {
        command.args(["--schema", schema]); // public has the list of migrations
    }
    command.arg("--file").arg(&draft);
    finish(command, "pg_dump").await.inspect_err(|_| {
        let _ = fs::remove_file(&draft); // half a dump is none
    })?;
    fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    fs::File::open(&draft)?.sync_all()?;
    layout.account().own(&draft)?;
    fs::rename(&draft, &path)?;
    let size = fs::metadata(&path)?.len();
    let removed = remove_old(&layout.backups(), keep)?;
    if json {
        output::json(&json!({ "file": path, "bytes": size, "removed": removed }));
    } else {
        output::line(&format!("{}  {}", path.display(), output::bytes(size)));
        for old in removed {
            output::line(&format!("removed {}", old.display()));
        }
    }
    Ok(EXIT_OK)
}

/// Removes all dumps but the newest `keep`; their names sort by time.
fn remove_old(directory: &Path, keep: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut dumps = dumps(directory)?;
    dumps.truncate(dumps.len().saturating_sub(keep));
    for old in &dumps {
        fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(dumps)
}

fn dumps(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("switchyard-") && path.extension().is_some_and(|e| e == EXTENSION) {
            dumps.push(path);
        }
    }
    dumps.sort();
    Ok(dumps)
}

/// One transaction: what was there before is replaced by the whole dump, or stays.
async fn restore(database: &Database, file: &Path, force: bool) -> anyhow::Result<u8> {
    if !file.exists() {
        bail!("{} does not exist", file.display());
    }
    let pool = database.pool().await?;
    let rows = rows(&pool).await?;
    if rows > 0 && !force {
        bail!(
            "the database holds data. To replace it: stop the services, run `switchyard db \
             backup`, then the same command with --force"
        );
    }
    if in_use(&pool).await? {
        bail!("services are connected to the database: stop them first");
    }
    pg::MIGRATOR.run(&pool).await.context("cannot make the roles the dump refers to")?;
    pool.close().await;

    let script = file.with_added_extension("sql");
    let loaded = load(database, file, &script).await;
    let _ = fs::remove_file(&script); // it may not have come to be
    loaded.context("nothing was changed")?;
    let pool = database.pool().await?;
    pg::MIGRATOR.run(&pool).await.context("the dump is in, but newer migrations failed")?;
    pool.close().await;
    output::line(&format!("restored {}", file.display()));
    Ok(EXIT_OK)
}

/// Rows in the stack's tables; 0 for a database that was only migrated, or not even that.
async fn rows(pool: &PgPool) -> anyhow::Result<i64> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND n.nspname = ANY($1) AND n.nspname <> 'switchyard'
           AND (n.nspname, c.relname) <> ('relay', 'state')", // its row comes with the migration
    )
    .bind(&pg::SCHEMAS[..])
    .fetch_all(pool)
    .await?;
    let mut found = 0;
    for table in tables {
        // The name comes quoted from the catalogue.
        let query = sqlx::AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {table})"));
        found += i64::from(sqlx::query_scalar::<_, bool>(query).fetch_one(pool).await?);
    }
    Ok(found)
}

async fn in_use(pool: &PgPool) -> anyhow::Result<bool> {
    let others: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'switchyard-%')",
    )
    .fetch_one(pool)
    .await?;
    Ok(others)
}

/// Unpacks the dump into a script first: a dump that cannot be read to its end must not look like
/// a short one. Then dropping the old schemas and loading the new ones is one transaction, which
/// `pg_restore` alone cannot promise when the old ones differ.
async fn load(database: &Database, file: &Path, script: &Path) -> anyhow::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(script)?;
    let mut look = reader(database);
    look.arg("--list").arg(file);
    let contents = finish(look, "pg_restore").await?;
    let list = script.with_added_extension("list");
    fs::write(&list, without_public(&String::from_utf8_lossy(&contents)))?;
    let mut unpack = reader(database);
    unpack.arg("--use-list").arg(&list).arg("--file").arg(script).arg(file);
    let unpacked = finish(unpack, "pg_restore").await;
    fs::remove_file(&list)?;
    unpacked?;

    let mut clear = String::from("SET client_min_messages = warning;\n");
    for schema in pg::SCHEMAS {
        clear.push_str(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE;\n"));
    }
    clear.push_str("DROP TABLE IF EXISTS public._sqlx_migrations;\n");
    let mut psql = database.client.command("psql");
    psql.args(["-X", "-q", "--no-password", "-v", "ON_ERROR_STOP=1", "--single-transaction"]);
    psql.args(["-o", "/dev/null", "-c", &clear, "-f"]).arg(script);
    psql.stdin(Stdio::null());
    finish(psql, "psql").await.map(drop)
}

/// `pg_restore` that only reads.
fn reader(database: &Database) -> Command {
    let mut command = database.client.command("pg_restore");
    command.env_remove("PGDATABASE"); // or it would connect
    command
}

/// The list of a dump's contents without the schema `public` itself, which every database has.
fn without_public(list: &str) -> String {
    let is_schema =
        |line: &str| line.contains(" SCHEMA - public ") || line.contains(" - SCHEMA public ");
    list.lines().filter(|line| !is_schema(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Runs to the end; the value is what it printed.
async fn finish(command: Command, name: &'static str) -> anyhow::Result<Vec<u8>> {
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await;
    let output = output
        .with_context(|| format!("cannot start {name}: apt-get install postgresql-client"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_schema_is_not_made_again_but_what_is_in_it_is() {
        let list = "; comment\n6; 2615 2200 SCHEMA - public pg_database_owner\n\
                    3400; 0 0 COMMENT - SCHEMA public pg_database_owner\n\
                    215; 1259 16389 TABLE public _sqlx_migrations switchyard\n";
        let kept = "; comment\n215; 1259 16389 TABLE public _sqlx_migrations switchyard\n";
        assert_eq!(without_public(list), kept);
    }

    #[test]
    fn only_the_newest_dumps_stay() {
        let directory = std::env::temp_dir().join(format!("dumps-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["switchyard-2.dump", "switchyard-1.dump", "switchyard-3.dump", "mine.dump"] {
            fs::write(directory.join(name), "").unwrap();
        }
        let removed = remove_old(&directory, 2).unwrap();
        assert_eq!(removed, [directory.join("switchyard-1.dump")]);
        assert!(directory.join("mine.dump").exists());
        fs::remove_dir_all(&directory).unwrap();
    }
}
