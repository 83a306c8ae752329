//! `switchyard status`: what runs, where, and how it fares.

use std::time::Duration;

use serde::Serialize;

use crate::cli::{EXIT_OK, EXIT_UNCLEAN, JsonArgs, Place};
use crate::database::{self, Database};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::state::{ServiceState, State};
use crate::{clock, http, output, table};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is known about the stack.
#[derive(Serialize)]
struct Status {
    running: bool,
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    launcher_pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up_s: Option<i64>,
    services: Vec<ServiceStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<DatabaseStatus>,
}

#[derive(Serialize)]
struct ServiceStatus {
    name: String,
    url: String,
    admin: String,
    state: &'static str,
    version: Option<String>,
    pid: Option<u32>,
    restarts: u32,
    rss_bytes: Option<u64>,
}

#[derive(Serialize)]
struct DatabaseStatus {
    kind: String,
    version: String,
    bytes: i64,
    connections: i64,
}

/// Prints the status; nothing running is exit code 3.
pub(crate) async fn run(place: &Place, args: &JsonArgs) -> anyhow::Result<u8> {
    let layout = Layout::find(place)?;
    let status = collect(place, &layout).await;
    if args.json {
        output::json(&serde_json::to_value(&status)?);
    } else {
        print(&status);
    }
    Ok(if status.running { EXIT_OK } else { EXIT_UNCLEAN })
}

async fn collect(place: &Place, layout: &Layout) -> Status {
    let holder = Lock::holder(&layout.lock());
    let state = holder.and_then(|_| State::load(layout).ok());
    let mut status = Status {
        running: holder.is_some(),
        data: layout.data().display().to_string(),
        launcher_pid: holder,
        version: state.as_ref().map(|state| state.version.clone()),
        up_s: state.as_ref().map(|state| (clock::now_ms() - state.started_ms) / 1000),
        services: Vec::new(),
        database: None,
    };
    if let Some(state) = state {
        for (name, service) in &state.services {
            status.services.push(ask(name, service).await);
        }
        status.database = database(place, state.database).await.ok();
    }
    status
}

async fn ask(name: &str, service: &ServiceState) -> ServiceStatus {
    let ready = http::get(service.admin, "/readyz", ANSWER_WITHIN).await;
    let metrics = http::get(service.admin, "/metrics", ANSWER_WITHIN).await;
    let metrics = metrics.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
    ServiceStatus {
        name: name.to_owned(),
        url: service.url.clone(),
        admin: service.admin.to_string(),
        state: match ready {
            Ok(answer) if answer.status == 200 => "ready",
            Ok(_) => "not ready",
            Err(_) if service.pid.is_none() => "restarting",
            Err(_) => "silent",
        },
        version: metrics.ok().and_then(|text| version(&text)),
        pid: service.pid,
        restarts: service.restarts,
        rss_bytes: service.pid.and_then(resident),
    }
}

/// The version label of `service_build_info`.
fn version(metrics: &str) -> Option<String> {
    let line = metrics.lines().find(|line| line.starts_with("service_build_info{"))?;
    let (_, rest) = line.split_once("version=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

async fn database(place: &Place, kind: String) -> anyhow::Result<DatabaseStatus> {
    let database = Database::open(place).await?;
    let pool = database::pool(database.options.clone()).await?;
    let (version, bytes, connections) = sqlx::query_as(
        "SELECT current_setting('server_version'), pg_database_size(current_database()),
                (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())",
    )
    .fetch_one(&pool)
    .await?;
    pool.close().await;
    database.close().await;
    Ok(DatabaseStatus { kind, version, bytes, connections })
}

fn print(status: &Status) {
    if !status.running {
        output::line(&format!("nothing runs in {}: start it with `switchyard up`", status.data));
        return;
    }
    let rows: Vec<[String; 7]> = status
        .services
        .iter()
        .map(|service| {
            [
                service.name.clone(),
                service.url.clone(),
                service.state.to_owned(),
                service.version.clone().unwrap_or_default(),
                service.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                service.restarts.to_string(),
                service.rss_bytes.map(output::bytes).unwrap_or_default(),
            ]
        })
        .collect();
    let heading = ["service", "url", "state", "version", "pid", "restarts", "memory"];
    output::line(&table::render(heading, &rows));
    let size = |bytes: i64| output::bytes(u64::try_from(bytes).unwrap_or(0));
    match &status.database {
        Some(found) => output::line(&format!(
            "database: PostgreSQL {} ({}), {}, {} connections",
            found.version,
            found.kind,
            size(found.bytes),
            found.connections
        )),
        None => output::line("database: does not answer"),
    }
    if let (Some(pid), Some(up_s)) = (status.launcher_pid, status.up_s) {
        output::line(&format!("launcher: process {pid}, up {up_s} s, data in {}", status.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_build_info() {
        let metrics = "# HELP x\nservice_build_info{service=\"relay\",version=\"0.1.0\"} 1\n";
        assert_eq!(version(metrics).as_deref(), Some("0.1.0"));
    }
}
