//! Settings of the port for siblings.

use std::{net::IpAddr, time::Duration};

use edge::ListenArgs;

/// How the processes of one service reach each other.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Replicas")]
pub struct PeerArgs {
    /// Where to take connections of other replicas [default: a free port of the address from
    /// which the database is reached].
    #[arg(long, env = "PEER_LISTEN", value_name = "ADDRESS:PORT")]
    pub peer_listen: Option<String>,

    /// Where other replicas reach this one [default: what --peer-listen is].
    #[arg(long, env = "PEER_ADDRESS", value_name = "HOST:PORT")]
    pub peer_address: Option<String>,

    /// Connections with other replicas at once; a pair of pads that are linked across two takes one.
    #[arg(long, env = "MAX_PEER_CONNECTIONS", value_name = "COUNT", default_value_t = 20_000)]
    pub max_peer_connections: usize,
}

impl PeerArgs {
    /// The port for siblings, at `vantage` unless it is set.
    pub(super) fn listen(&self, vantage: IpAddr) -> ListenArgs {
        let address = self.peer_listen.clone();
        ListenArgs {
            max_connections: self.max_peer_connections,
            max_connections_per_address: self.max_peer_connections,
            // A sibling whose client reads slowly reads slowly; the client's own deadline counts.
            send_timeout: Duration::ZERO,
            ..ListenArgs::at(
                address.unwrap_or_else(|| std::net::SocketAddr::from((vantage, 0)).to_string()),
            )
        }
    }
}
