//! Settings of the bus.

use std::fmt;

/// What carries messages between the replicas of a service.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Replicas")]
pub struct BusArgs {
    /// NATS server that carries messages between replicas: `nats://user:password@host:4222`, or several
    /// separated by commas [default: the database carries them].
    #[arg(long, env = "BUS_URL", value_name = "URL", hide_env_values = true)]
    pub bus_url: Option<String>,

    /// Tells deployments that share a NATS server apart: letters, digits, `-` and `_`.
    #[arg(long, env = "BUS_NAMESPACE", value_name = "NAME", default_value = "switchyard",
          value_parser = namespace)]
    pub bus_namespace: String,
}

impl Default for BusArgs {
    /// The database carries the messages.
    fn default() -> Self {
        Self { bus_url: None, bus_namespace: "switchyard".to_owned() }
    }
}

impl fmt::Debug for BusArgs {
    /// Leaves the URL out: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = if self.bus_url.is_some() { "nats" } else { "postgres" };
        f.debug_struct("BusArgs").field("backend", &backend).finish_non_exhaustive()
    }
}

fn namespace(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err("letters, digits, - and _ only".to_owned())
}
