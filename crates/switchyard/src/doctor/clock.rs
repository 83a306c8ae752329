//! The clock. Registrations are signed for the moment: who is off by more than their window is refused.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use http::Method;
use tokio::time::timeout;

use super::Finding;
use super::reach::{self, STEP, Trust};
use crate::layout::Layout;
use crate::{clock, http as client};

const CHECK: &str = "clock";
const FIX: &str = "timedatectl set-ntp true";
/// Nothing of this program is older: a clock before that is wrong.
const BUILT_AFTER_S: u64 = 1_793_000_000;
/// Others are rarely off by more; what a request takes and whole seconds included.
const CLOSE_S: f64 = 3.0;
/// Half of what the services allow between a signature and its arrival.
const FAR_S: f64 = 60.0;

/// A clock that went backwards refuses honest registrations.
pub(super) fn check(layout: &Layout) -> Finding {
    let now = clock::since_epoch();
    let newest = std::fs::metadata(layout.postgres().join("switchyard.conf"))
        .and_then(|found| found.modified())
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    if now.as_secs() < BUILT_AFTER_S || now + Duration::from_secs(5) < newest {
        let found = "it is in the past; clients whose clocks are right will be refused";
        return Finding::broken(CHECK, found, FIX);
    }
    Finding::ok(CHECK, "plausible")
}

/// How this clock compares with that of a web server.
pub(super) async fn against(url: &str, trust: &Trust) -> Finding {
    match theirs(url, trust).await {
        Ok(seconds) => compare(&format!("the clock of {url}"), seconds),
        Err(why) => Finding::warn(CHECK, format!("{url}: {why:#}"), format!("curl -sI {url}")),
    }
}

/// How this clock compares with another one, which is `theirs_s` seconds after the epoch.
pub(super) fn compare(whose: &str, theirs_s: f64) -> Finding {
    let off_s = clock::since_epoch().as_secs_f64() - theirs_s;
    let found =
        format!("{:.1} s {} {whose}", off_s.abs(), if off_s < 0.0 { "behind" } else { "ahead of" });
    match off_s.abs() {
        off if off > FAR_S => Finding::broken(CHECK, found, FIX),
        off if off > CLOSE_S => Finding::warn(CHECK, found, FIX),
        _ => Finding::ok(CHECK, format!("agrees with {whose}")),
    }
}

async fn theirs(url: &str, trust: &Trust) -> anyhow::Result<f64> {
    let (scheme, rest) = url.split_once("://").context("expected http://HOST or https://HOST")?;
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let standard = if scheme == "https" { 443 } else { 80 };
    let (host, port) = crate::ports::host_and_port(place, standard).context("no host in it")?;
    let path = format!("/{path}");
    let unreached = |why: reach::Unreached| anyhow::anyhow!("{why}");
    let ask = async {
        if scheme == "https" {
            let (stream, _) = trust.tls(&host, port).await.map_err(unreached)?;
            client::over(stream, place, Method::HEAD, &path, Vec::new()).await
        } else {
            let stream = reach::tcp(&host, port).await.map_err(unreached)?;
            client::over(stream, place, Method::HEAD, &path, Vec::new()).await
        }
    };
    let answer = timeout(STEP * 2, ask).await.context("no answer in time")??;
    let date = answer.date.context("its answer has no date")?;
    let date = httpdate::parse_http_date(&date).with_context(|| format!("`{date}` is no date"))?;
    Ok(date.duration_since(UNIX_EPOCH)?.as_secs_f64())
}
