//! Settings of a public port.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;

/// Whether connections may start with a PROXY protocol header (versions 1 and 2).
///
/// Only ever believed when the TCP peer is inside `--trusted-proxies`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProxyProtocol {
    /// No header is expected; one would be read as the peer's own bytes.
    #[default]
    Off,
    /// A trusted proxy may send one; without it the proxy itself is the client.
    Accept,
    /// A trusted proxy has to send one; connections without it are closed.
    Require,
}

/// How a service listens for the public.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenArgs {
    /// Address and port to listen on; `[::]` means every address, IPv4 too.
    #[arg(long, env = "LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: String,

    /// Port to listen on, instead of the one in `--listen`.
    #[arg(long, env = "LISTEN_PORT", value_name = "PORT")]
    pub listen_port: Option<u16>,

    /// Certificate chain (PEM). With it, TLS and plain connections share the port.
    #[arg(long, env = "TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM).
    #[arg(long, env = "TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Networks whose `X-Forwarded-For` and PROXY headers are believed.
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,

    /// Whether trusted proxies send a PROXY protocol header.
    #[arg(long, env = "PROXY_PROTOCOL", value_enum, default_value = "off")]
    pub proxy_protocol: ProxyProtocol,

    /// Connections served at once; more are closed on arrival.
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 100_000)]
    pub max_connections: usize,

    /// Connections served at once for one address (IPv4, or IPv6 /64).
    #[arg(
        long,
        env = "MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "COUNT",
        default_value_t = 2_000
    )]
    pub max_connections_per_address: usize,

    /// Time a client has for its PROXY header, TLS handshake and for each request's head.
    #[arg(long, env = "HEADER_TIMEOUT", value_name = "TIME", default_value = "15s",
          value_parser = service::duration::parse)]
    pub header_timeout: Duration,

    /// Time an HTTP connection may wait for its next request.
    #[arg(long, env = "KEEP_ALIVE_TIMEOUT", value_name = "TIME", default_value = "15s",
          value_parser = service::duration::parse)]
    pub keep_alive_timeout: Duration,

    /// Time sent bytes may stay unacknowledged before the connection is given up.
    #[arg(long, env = "SEND_TIMEOUT", value_name = "TIME", default_value = "60s",
          value_parser = service::duration::parse)]
    pub send_timeout: Duration,
}

impl ListenArgs {
    /// The defaults, at `listen`; what tests start from.
    pub fn at(listen: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            listen_port: None,
            tls_cert: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: ProxyProtocol::Off,
            max_connections: 100_000,
            max_connections_per_address: 2_000,
            header_timeout: Duration::from_secs(15),
            keep_alive_timeout: Duration::from_secs(15),
            send_timeout: Duration::from_secs(60),
        }
    }
}
