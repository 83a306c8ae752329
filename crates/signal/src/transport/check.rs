//! `/check`: a page that finds out which paths work from the browser that shows it.
//!
//! The page, its style and its script are files in this program; it loads nothing from elsewhere. The
//! one thing it asks for is a TURN credential. So that this is no dispenser of them, a credential works
//! for minutes, an address (IPv4, IPv6 /64) gets the same one again within that time, and asks rarely:
//! coturn counts its quotas by the name in it.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use edge::{
    Body, Client, LimitKey,
    limit::{Keyed, Rate},
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use prometheus::{IntCounterVec, Registry, register_int_counter_vec_with_registry};
use service::Clock;

use crate::{
    config::{CheckArgs, CheckMode},
    domain::ice::IceServers,
};

const PAGE: &str = include_str!("../../check/check.html");
const STYLE: &str = include_str!("../../check/check.css");
const SCRIPT: &str = include_str!("../../check/check.js");

/// What an address has to spend on credentials.
const CREDENTIALS: Rate = Rate { burst: 60, per_second: 1 };
/// And what one costs: six at once, then one in ten seconds.
const CREDENTIAL_COST: u32 = 10;
/// Addresses counted at the same time.
const ADDRESSES: usize = 65_536;

/// Answers what is under `/check`.
pub(crate) struct Check {
    mode: CheckMode,
    ttl: Duration,
    policy: HeaderValue,
    services: String,
    rates: Keyed<LimitKey>,
    clock: Clock,
    answers: IntCounterVec,
}

impl Check {
    /// # Errors
    /// When a metric's name is taken.
    pub(crate) fn new(args: &CheckArgs, clock: Clock, to: &Registry) -> anyhow::Result<Self> {
        let origins: String = args.check_services.iter().fold(String::new(), |mut all, one| {
            let _ = write!(all, " {}", one.origin()); // a String takes everything
            all
        });
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
             connect-src 'self'{origins}; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let named = args.check_services.iter().map(|one| [&one.name, &one.url]);
        let services = serde_json::to_string(&named.collect::<Vec<_>>())?;
        Ok(Self {
            mode: args.check,
            ttl: args.check_ttl,
            policy: HeaderValue::try_from(policy)?,
            services,
            rates: Keyed::new(CREDENTIALS, ADDRESSES),
            clock,
            answers: register_int_counter_vec_with_registry!(
                "signal_check_requests_total",
                "Requests of the connectivity page, by what was answered.",
                &["answer"],
                to
            )?,
        })
    }

    /// The answer, if this is one of ours.
    pub(crate) fn answer<B>(
        &self,
        request: &Request<B>,
        client: Client,
        ice: Option<&IceServers>,
    ) -> Option<Response<Body>> {
        if self.mode == CheckMode::Off {
            return None;
        }
        let path = request.uri().path();
        let (label, response) = match (path, request.method()) {
            ("/check", &Method::GET) => ("page", self.file(PAGE, "text/html")),
            ("/check.css", &Method::GET) => ("page", self.file(STYLE, "text/css")),
            ("/check.js", &Method::GET) => ("page", self.file(SCRIPT, "text/javascript")),
            ("/check/ping", &Method::GET) => {
                ("ping", self.with(StatusCode::NO_CONTENT, Body::Empty))
            }
            ("/check/servers", &Method::POST) => self.servers(client, ice),
            ("/check" | "/check.css" | "/check.js" | "/check/ping" | "/check/servers", _) => {
                let mut wrong = self.with(StatusCode::METHOD_NOT_ALLOWED, Body::Empty);
                let allowed = if path == "/check/servers" { "POST" } else { "GET" };
                wrong.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                ("refused", wrong)
            }
            _ => return None,
        };
        self.answers.with_label_values(&[label]).inc();
        Some(response)
    }

    /// `{"iceServers":[…],"services":[[name, url],…]}`
    fn servers(&self, client: Client, ice: Option<&IceServers>) -> (&'static str, Response<Body>) {
        let ice = ice.filter(|_| self.mode == CheckMode::Relay);
        if ice.is_some()
            && let Err(wait) = self.rates.check(&client.limit_key(), CREDENTIAL_COST)
        {
            let mut response = self.with(StatusCode::TOO_MANY_REQUESTS, Body::Empty);
            response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
            return ("limited", response);
        }
        let servers = ice.map_or_else(
            || "[]".to_owned(),
            |ice| ice.for_check(&address_name(client.ip), self.ttl, self.clock.now_ms()),
        );
        let text = format!("{{\"iceServers\":{servers},\"services\":{}}}", self.services);
        let mut response = self.with(StatusCode::OK, Body::from(text));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        ("servers", response)
    }

    fn file(&self, text: &'static str, kind: &'static str) -> Response<Body> {
        let mut response = self.with(StatusCode::OK, Body::from(text));
        let kind = HeaderValue::try_from(format!("{kind}; charset=utf-8"));
        if let Ok(kind) = kind {
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        response
    }

    fn with(&self, status: StatusCode, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// What quotas count by, as text.
fn address_name(ip: IpAddr) -> String {
    match LimitKey::from(ip) {
        LimitKey::V4(bytes) => format!("{bytes:?}"),
        LimitKey::V6(bytes) => format!("{bytes:?}/64"),
    }
}
