//! Settings of a lease.

use std::time::Duration;

/// How a process is known to the others of its service.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Replicas")]
pub struct LeaseArgs {
    /// Name of this replica across restarts, unlike any other's [default: host name and port].
    #[arg(long, env = "INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,

    /// How often this process says that it lives.
    #[arg(long, env = "LEASE_RENEWAL", value_name = "TIME", default_value = "5s",
          value_parser = service::duration::parse)]
    pub lease_renewal: Duration,

    /// Silence after which another process counts as dead, and what it held as free.
    #[arg(long, env = "LEASE_EXPIRY", value_name = "TIME", default_value = "15s",
          value_parser = service::duration::parse)]
    pub lease_expiry: Duration,
}

impl LeaseArgs {
    /// The name set, or host name and `port`: the same after a restart, another for every replica.
    pub fn instance(&self, port: u16) -> String {
        self.instance.clone().unwrap_or_else(|| super::instance(port))
    }
}
