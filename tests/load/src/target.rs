//! What is measured: an address of this machine and the processes behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// The server under load.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Target {
    /// The server's public address; must be a loopback address.
    #[arg(long, value_parser = loopback)]
    pub(crate) target: SocketAddr,
    /// The server's process, for its CPU time and memory.
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    /// The Postgres server's process, for its CPU time together with its connections'.
    #[arg(long)]
    pub(crate) postgres_pid: Option<u32>,
}

impl Target {
    /// Opens connection number `nth`. Client addresses go round 127.1.0.1 to 127.1.0.250, so
    /// that neither limits by address nor the range of client ports get in the way.
    pub(crate) async fn connect(&self, nth: usize) -> std::io::Result<TcpStream> {
        self.socket(nth)?.connect(self.target).await
    }

    /// As [`Target::connect`], with little room in the kernel at this end.
    pub(crate) async fn connect_small(
        &self,
        nth: usize,
        buffer_bytes: u32,
    ) -> std::io::Result<TcpStream> {
        let socket = self.socket(nth)?;
        socket.set_recv_buffer_size(buffer_bytes)?;
        socket.set_send_buffer_size(buffer_bytes)?;
        socket.connect(self.target).await
    }

    fn socket(&self, nth: usize) -> std::io::Result<TcpSocket> {
        if !self.target.is_ipv4() {
            return TcpSocket::new_v6();
        }
        let socket = TcpSocket::new_v4()?;
        let last = u8::try_from(nth % 250).expect("below 250") + 1;
        socket.bind((Ipv4Addr::new(127, 1, 0, last), 0).into())?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

/// Refuses to aim at anybody else's machine.
pub(crate) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}"))?;
    let own = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    own.then_some(address).ok_or_else(|| "only loopback addresses may be put under load".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_be_put_under_load() {
        assert!(loopback("127.0.0.1:4000").is_ok());
        assert!(loopback("[::1]:4000").is_ok());
        assert!(loopback("192.0.2.1:4000").is_err());
        assert!(loopback("0.0.0.0:4000").is_err());
    }
}
