//! `switchyard doctor`: what is wrong, and the line that fixes it.

mod clock;
mod database;
mod front;
mod machine;
mod mail;
mod reach;
mod stack;
mod turn;

use serde::Serialize;

use self::reach::Trust;
use crate::cli::{DoctorArgs, EXIT_FAILED, EXIT_OK, Place};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::output;
use crate::state::State;

/// How one check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Condition {
    /// As it should be.
    Ok,
    /// Works, but not for ever or not for many.
    Warn,
    /// Has to be mended.
    Broken,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    condition: Condition,
    found: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, condition: Condition::Ok, found: found.into(), fix: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, condition: Condition::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    fn broken(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, condition: Condition::Broken, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Runs every check; something broken is exit code 1.
pub(crate) async fn run(place: &Place, args: &DoctorArgs) -> anyhow::Result<u8> {
    let layout = Layout::find(place)?;
    let running = Lock::holder(&layout.lock());
    let state = running.and_then(|_| State::load(&layout).ok());
    let trust = Trust::new(&layout, &args.certificate)?;
    let public = args.public.as_deref().filter(|host| !host.is_empty());
    let endpoints = front::endpoints(state.as_ref(), public, args);
    let turn = front::turn_urls(args, state.as_ref(), public);
    let mut findings = vec![
        stack::programs(),
        machine::postgres(place, &layout),
        machine::files(),
        machine::disk(&layout),
        clock::check(&layout),
    ];
    if let Some(url) = &args.time_url {
        findings.push(clock::against(url, &trust).await);
    }
    if args.service.is_empty() {
        findings.extend(stack::ports(&layout, running, args.port_offset));
        findings.extend(stack::services(&layout, running).await);
    } else {
        // Their ports are theirs.
        findings.extend(stack::deployed(&args.service).await);
    }
    findings.extend(stack::certificates(&layout));
    findings.extend(database::check(place, &layout, running).await);
    if let Some(host) = front::host(&endpoints) {
        findings.extend(front::names(host).await);
    }
    findings.extend(front::check(&endpoints, &trust).await);
    findings.extend(turn::check(&layout, args, &trust, &turn).await);
    findings.push(mail::check(&args.mail).await);
    let broken = findings.iter().any(|finding| finding.condition == Condition::Broken);
    if args.json {
        output::json(&serde_json::json!({ "ok": !broken, "checks": findings }));
    } else {
        findings.iter().for_each(print);
    }
    Ok(if broken { EXIT_FAILED } else { EXIT_OK })
}

fn print(finding: &Finding) {
    let colour = output::colourful();
    let (word, code) = match finding.condition {
        Condition::Ok => ("ok    ", "32"),
        Condition::Warn => ("warn  ", "33"),
        Condition::Broken => ("BROKEN", "31"),
    };
    let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
    let fix = finding.fix.iter().map(|fix| format!("\n        -> {fix}")).collect::<String>();
    output::line(&format!("{word}  {}: {}{fix}", finding.check, finding.found));
}
