//! Settings from flags, environment and files, for every service alike.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command, FromArgMatches};

use crate::About;
use crate::environment::Environment;

/// Variables the whole stack shares, accepted without a service's prefix: name, argument id.
const SHARED: &[(&str, &str)] =
    &[("DATABASE_URL", "database_url"), ("BUS_URL", "bus_url"), ("BUS_NAMESPACE", "bus_namespace")];

/// Settings every service has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub struct Common {
    /// Address of the admin port (`/livez`, `/readyz`, `/metrics`), or `off`. Never expose it.
    #[arg(long, env = "ADMIN_LISTEN", value_name = "ADDRESS", default_value = "off")]
    pub admin_listen: String,

    /// What to log: a level, or `target=level` pairs separated by commas.
    #[arg(long, env = "LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// Shape of the log lines, which go to stderr.
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// How long to keep serving after SIGTERM while balancers notice that readiness ended.
    #[arg(long, env = "DRAIN_LAG", value_name = "DURATION", default_value = "5s",
          value_parser = crate::duration::parse)]
    pub drain_lag: Duration,

    /// How long clients and tasks get to finish after that. Keep lag + grace + 2 s below the
    /// limit of whoever stops the process.
    #[arg(long, env = "DRAIN_GRACE", value_name = "DURATION", default_value = "20s",
          value_parser = crate::duration::parse)]
    pub drain_grace: Duration,

    /// Threads that run tasks [default: one per core].
    #[arg(long, env = "WORKER_THREADS", value_name = "COUNT",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub worker_threads: Option<u16>,
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line per event, for people.
    Text,
    /// One JSON object per event, for collectors.
    Json,
}

/// Reads all settings: `argv` over `environment` over files over defaults.
pub(crate) fn parse<C: Args>(
    about: &About,
    argv: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<(Common, C), clap::Error> {
    let bare = Common::augment_args(C::augment_args(Command::new(about.name)));
    // After the arguments, whose own documentation would stand in its place.
    let bare = bare.about(about.about).long_about(about.about).version(env!("CARGO_PKG_VERSION"));
    let found = Found::collect(&bare, about, environment)
        .map_err(|why| clap::Error::raw(ErrorKind::ValueValidation, why + "\n").with_cmd(&bare))?;
    let command = bare.mut_args(|arg| found.apply(arg, about)).after_help(
        "Every variable NAME may be given as NAME_FILE instead: the path of a file that \
             holds the value.\nFlags win over variables.",
    );
    let argv = argv.into_iter().map(|word| translated(word, about));
    let matches = command.try_get_matches_from(argv)?;
    Ok((Common::from_arg_matches(&matches)?, C::from_arg_matches(&matches)?))
}

/// The flag that a word of an older command line stands for.
fn translated(word: OsString, about: &About) -> OsString {
    let known = about.arguments.iter().find(|(old, _)| *old == word);
    known.map_or(word, |(_, flag)| (*flag).into())
}

/// What the environment says about each argument.
struct Found {
    prefix: String,
    values: BTreeMap<String, OsString>,
}

impl Found {
    fn collect(command: &Command, about: &About, env: &Environment) -> Result<Self, String> {
        let prefix = about.name.to_uppercase().replace('-', "_") + "_";
        let mut values = BTreeMap::new();
        let mut known = BTreeSet::new();
        for arg in command.get_arguments() {
            let Some(name) = arg.get_env().and_then(|name| name.to_str()) else { continue };
            let id = arg.get_id().as_str();
            let mut names = vec![format!("{prefix}{name}")];
            let aliases = about.aliases.iter().chain(SHARED).filter(|(_, target)| *target == id);
            names.extend(aliases.map(|(alias, _)| (*alias).to_owned()));
            for (place, name) in names.into_iter().enumerate() {
                let value = lookup(env, &name)?;
                // Under its own name the log takes filters; only older names take numbers.
                let older = place > 0 && id == "log";
                let value = if older { value.map(log_level) } else { value };
                if let Some(value) = value.filter(|_| !values.contains_key(id)) {
                    values.insert(id.to_owned(), spell(arg, value));
                }
                known.insert(format!("{name}_FILE"));
                known.insert(name);
            }
        }
        match env.strangers(&prefix, &known).first() {
            None => Ok(Self { prefix, values }),
            Some(stranger) => Err(unknown(stranger, about.name, &known)),
        }
    }

    fn apply(&self, arg: Arg, about: &About) -> Arg {
        let id = arg.get_id().as_str().to_owned();
        let Some(name) = arg.get_env().map(|name| name.to_string_lossy().into_owned()) else {
            return arg;
        };
        // clap would read the process's own environment, unprefixed; only `Found` reads it.
        let arg = arg.env(None::<&'static str>);
        let shown = format!("[env: {}{name}]", self.prefix);
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let long = arg.get_long_help().map(|help| format!("{help}\n\n{shown}"));
        let arg = arg.help(format!("{help} {shown}"));
        let arg = if let Some(long) = long { arg.long_help(long) } else { arg };
        let arg = match id.as_str() {
            "listen" => arg.required(false).default_value(about.listen),
            "admin_listen" => arg.default_value(about.admin),
            _ => arg,
        };
        match self.values.get(&id) {
            Some(value) => {
                let takes_value = arg.get_action().takes_values();
                let arg = arg.required(false).default_value(value);
                // Values may be secrets: `--help` never shows what the environment holds.
                if takes_value { arg.hide_default_value(true) } else { arg }
            }
            None => arg,
        }
    }
}

/// The value of `name`, or what the file named by `<name>_FILE` holds.
fn lookup(env: &Environment, name: &str) -> Result<Option<OsString>, String> {
    let file_name = format!("{name}_FILE");
    match (env.get(name), env.get(&file_name)) {
        (Some(_), Some(_)) => Err(format!("{name} and {file_name} are both set; keep one")),
        (Some(value), None) if is_link(name, value) => Ok(None),
        (Some(value), None) => Ok(Some(value.to_owned())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|why| format!("{file_name}: cannot read {}: {why}", path.display()))?;
            let text = text.trim_end_matches(['\r', '\n']);
            Ok((!text.is_empty()).then(|| text.into()))
        }
        (None, None) => Ok(None),
    }
}

/// The name of a level that is given as a number from 0 to 3.
fn log_level(value: OsString) -> OsString {
    let names = ["error", "warn", "info", "debug"];
    let number = value.to_str().and_then(|text| text.parse::<usize>().ok());
    number.and_then(|number| names.get(number)).map_or(value, OsString::from)
}

/// A plain `PORT` may be a Kubernetes service link too.
fn is_link(name: &str, value: &std::ffi::OsStr) -> bool {
    name.ends_with("PORT") && value.to_str().is_some_and(|value| value.contains("://"))
}

/// A switch takes the ways people write yes and no; anything else is the parser's to judge.
fn spell(arg: &Arg, value: OsString) -> OsString {
    if !matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse) {
        return value;
    }
    match value.to_str().map(str::to_ascii_lowercase).as_deref() {
        Some("1" | "yes" | "on" | "true") => "true".into(),
        Some("0" | "no" | "off" | "false") => "false".into(),
        _ => value,
    }
}

fn unknown(stranger: &str, service: &str, known: &BTreeSet<String>) -> String {
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(stranger, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((likeness, name)) if likeness > 0.8 => format!("; did you mean {name}?"),
        _ => format!("; `{service} --help` lists them"),
    };
    format!("{stranger} is not a setting of {service}{hint}")
}

#[cfg(test)]
mod tests;
