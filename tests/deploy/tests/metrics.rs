//! Every metric, label and label value that dashboards and rules name exists in a running stack.
//!
//! Ignored unless asked for, as HAProxy has to be installed; `scripts/test` asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use deploy::promql::{Selector, selectors};
use serde_json::Value;
use testkit::http_client::HttpClient;
use testkit::process::{Place, workspace};

/// Services and where their admin ports are.
const ADMIN: [(&str, u16); 6] = [
    ("signal", 13_000),
    ("relay", 14_000),
    ("peer-linker", 18_080),
    ("channel-hub", 18_081),
    ("peerbook", 27_777),
    ("mesh", 18_000),
];
const HAPROXY: u16 = 8405;
const MESH: u16 = 8000;
/// Prometheus's own: the label of who was asked, and whether it answered.
const GIVEN_LABELS: [&str; 2] = ["job", "instance"];

/// What was scraped: metric to its samples' labels as printed, by whom.
#[derive(Default)]
struct Scraped {
    samples: BTreeMap<String, BTreeSet<(&'static str, String)>>,
}

impl Scraped {
    fn add(&mut self, job: &'static str, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let labels = line[end..].strip_prefix('{').and_then(|rest| rest.rsplit_once('}'));
            let labels = labels.map_or("", |(labels, _)| labels).to_owned();
            self.samples.entry(line[..end].to_owned()).or_default().insert((job, labels));
        }
    }

    /// What `selector` asks for in vain; `job` is whose dashboard it is on.
    fn missing(&self, selector: &Selector, job: Option<&str>) -> Option<String> {
        let Some(samples) = self.samples.get(&selector.metric) else {
            return Some(format!("there is no {}", selector.metric));
        };
        let of: Vec<&String> = samples
            .iter()
            .filter(|(by, _)| job.is_none_or(|job| job == *by))
            .map(|(_, labels)| labels)
            .collect();
        if of.is_empty() {
            return Some(format!("{} has no {}", job.unwrap_or_default(), selector.metric));
        }
        let asked =
            selector.labels.iter().filter(|(name, _)| !GIVEN_LABELS.contains(&name.as_str()));
        for (name, value) in asked {
            let text = format!("{name}=\"{value}");
            let text = if value.is_empty() { text } else { text + "\"" };
            if !of.iter().any(|labels| labels.contains(&text)) {
                return Some(format!("{} has no {name}={value}", selector.metric));
            }
        }
        None
    }
}

/// Expressions with where they stand and whose dashboard that is.
fn expressions() -> anyhow::Result<Vec<(String, Option<String>, String)>> {
    let folder = workspace().join("deploy/observability");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join("grafana"))? {
        let path = entry?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        let board: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let job = ADMIN.iter().any(|(job, _)| *job == name).then(|| name.clone());
        let panels = board["panels"].as_array().context("panels")?.iter();
        for target in panels.filter_map(|panel| panel["targets"].as_array()).flatten() {
            let expression = target["expr"].as_str().context("an expression")?;
            found.push((name.clone(), job.clone(), expression.to_owned()));
        }
    }
    let boards = found.len();
    let rules = fs::read_to_string(folder.join("prometheus/rules.yml"))?;
    for line in rules.lines() {
        if let Some(expression) = line.trim_start().strip_prefix("expr:") {
            let expression = expression.trim();
            ensure!(
                !expression.is_empty() && !expression.starts_with(['|', '>']),
                "one line: {line}"
            );
            found.push(("rules".to_owned(), None, expression.to_owned()));
        }
    }
    ensure!(boards > 100 && found.len() > boards + 20, "{boards} of {}", found.len());
    Ok(found)
}

/// Names that rules make.
fn recorded() -> anyhow::Result<BTreeSet<String>> {
    let rules = fs::read_to_string(workspace().join("deploy/observability/prometheus/rules.yml"))?;
    let names = rules.lines().filter_map(|line| line.trim_start().strip_prefix("- record: "));
    Ok(names.map(str::to_owned).collect())
}

/// Labels that `sum by (…)` groups by.
fn groups(expression: &str) -> impl Iterator<Item = &str> {
    let lists = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs haproxy"]
async fn dashboards_and_rules_name_only_what_a_running_stack_has() -> anyhow::Result<()> {
    let place = Place::new(&ADMIN.map(|(service, _)| service), 6_500)?;
    let root = workspace();
    let root = root.to_str().context("a path in UTF-8")?;
    let mut stack = place.up(&["--public", "127.0.0.1", "--config-dir", root])?;
    stack.wait("started", |event| event["program"] == "haproxy").context("haproxy is installed")?;
    stack.wait("self_check", |_| true)?;
    // Refusals are counted by code, and have none before the first.
    let mesh: SocketAddr = (Ipv4Addr::LOCALHOST, MESH + place.offset()).into();
    ensure!(HttpClient::plain(mesh).post("/room/none", "{}").await?.status >= 400);
    let mut scraped = Scraped::default();
    for (job, port) in ADMIN.into_iter().chain([("haproxy", HAPROXY)]) {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, port + place.offset()).into();
        let answer = HttpClient::plain(address).get("/metrics").await?;
        ensure!(answer.status == 200, "{job}: {}", answer.status);
        scraped.add(job, &answer.text());
    }
    stack.stop()?;

    let recorded = recorded()?;
    let mut missing = BTreeSet::new();
    for (place, job, expression) in expressions()? {
        let asked = selectors(&expression);
        ensure!(!asked.is_empty(), "{place}: no metric in {expression}");
        for selector in asked {
            if selector.metric == "up" || recorded.contains(&selector.metric) {
                continue;
            }
            let what = scraped.missing(&selector, job.as_deref());
            missing.extend(what.map(|what| format!("{place}: {what}")));
            for label in groups(&expression).filter(|label| !GIVEN_LABELS.contains(label)) {
                let labels = vec![(label.to_owned(), String::new())];
                let grouped = Selector { metric: selector.metric.clone(), labels };
                let what = scraped.missing(&grouped, job.as_deref());
                missing.extend(what.map(|what| format!("{place}: {what}")));
            }
        }
    }
    ensure!(missing.is_empty(), "{missing:#?}");
    Ok(())
}
