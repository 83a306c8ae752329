//! Ports that two tests running at once never share.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;

/// Below the range the kernel picks client ports from, so that no outgoing connection takes one.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// One TCP port of the loopback, held by a locked file for as long as this lives, also while
/// nobody listens on it: a service can be restarted on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The kernel drops the lock with the descriptor, however the process ends.
    _lock: File,
}

impl Port {
    /// Takes a port that is free now and that no other test holds.
    pub fn reserve() -> anyhow::Result<Self> {
        let user = rustix::process::getuid().as_raw();
        let directory = std::env::temp_dir().join(format!("switchyard-ports-{user}"));
        std::fs::create_dir_all(&directory)?;
        let start: u16 = rand::random_range(0..COUNT);
        for step in 0..COUNT {
            let number = FIRST + (start + step) % COUNT;
            let lock = File::create(directory.join(number.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        None.context("no free port between 20000 and 30000")
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ_and_can_be_bound_repeatedly() {
        let (a, b) = (Port::reserve().unwrap(), Port::reserve().unwrap());
        assert_ne!(a.number(), b.number());
        for _ in 0..2 {
            drop(TcpListener::bind(a.address()).unwrap());
        }
    }
}
