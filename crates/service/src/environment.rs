//! The environment as a value: read once, then only looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// The variables a process was started with. Empty ones count as unset.
#[derive(Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process; names that are not UTF-8 cannot be ours and are left out.
    pub(crate) fn of_process() -> Self {
        Self::from_iter(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// Names under `prefix` that are neither `known` nor put there by Kubernetes.
    pub(crate) fn strangers<'a>(&'a self, prefix: &str, known: &BTreeSet<String>) -> Vec<&'a str> {
        let mine = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        mine.filter(|(name, value)| !known.contains(*name) && !is_service_link(name, value))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

impl FromIterator<(String, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }
}

/// Kubernetes describes every Service of a namespace to every pod, so a Service named like ours
/// puts `RELAY_SERVICE_HOST`, `RELAY_PORT=tcp://10.0.0.7:4000`, `RELAY_PORT_4000_TCP_ADDR` and
/// their like beside the settings.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| numbered(rest))
        || (name.ends_with("_PORT") && value.to_str().is_some_and(|value| value.contains("://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_misspelt_settings_are_strangers() {
        let environment: Environment = [
            ("RELAY_BODY_LIMIT", "20mb"),
            ("RELAY_BODY_LIMT", "20mb"),
            ("RELAY_EMPTY", ""),
            ("RELAY_PORT", "tcp://10.0.0.7:4000"),
            ("RELAY_PORT_4000_TCP_ADDR", "10.0.0.7"),
            ("RELAY_SERVICE_HOST", "10.0.0.7"),
            ("RELAY_SERVICE_PORT_HTTP", "4000"),
            ("RELAY_ADMIN_SERVICE_PORT", "14000"),
            ("SIGNAL_ANYTHING", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), OsString::from(value)))
        .into_iter()
        .collect();
        let known = BTreeSet::from(["RELAY_BODY_LIMIT".to_owned()]);
        assert_eq!(environment.strangers("RELAY_", &known), ["RELAY_BODY_LIMT"]);
    }

    #[test]
    fn a_number_under_port_is_a_setting_to_answer_for() {
        let environment: Environment =
            [("RELAY_PORT".to_owned(), OsString::from("4000"))].into_iter().collect();
        assert_eq!(environment.strangers("RELAY_", &BTreeSet::new()), ["RELAY_PORT"]);
    }
}
