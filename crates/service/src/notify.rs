//! systemd's readiness protocol: one datagram per change, when systemd asks for it.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where to tell the supervisor about changes; does nothing without `NOTIFY_SOCKET`.
#[derive(Debug)]
pub(crate) struct Supervisor(Option<SocketAddr>);

impl Supervisor {
    /// Reads `address`, the value of `NOTIFY_SOCKET`: a path, or `@name` in the abstract space.
    pub(crate) fn at(address: Option<&OsStr>) -> Self {
        Self(address.and_then(|address| match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            _ => SocketAddr::from_pathname(address).ok(),
        }))
    }

    /// Sends one state, such as `READY=1`. Failing to is no reason to stop serving.
    pub(crate) fn tell(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        let sent = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(state.as_bytes(), address));
        if let Err(why) = sent {
            tracing::debug!(%why, "the supervisor did not hear");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_hears_both_kinds_of_address() {
        let name = format!("notify-test-{}", std::process::id());
        let abstract_socket = UnixDatagram::bind_addr(
            &SocketAddr::from_abstract_name(name.as_bytes()).expect("short enough"),
        )
        .expect("the name is ours");
        Supervisor::at(Some(OsStr::new(&format!("@{name}")))).tell("READY=1");
        let mut heard = [0; 32];
        let length = abstract_socket.recv(&mut heard).expect("a datagram waits");
        assert_eq!(&heard[..length], b"READY=1");

        let path = std::env::temp_dir().join(name);
        let socket = UnixDatagram::bind(&path).expect("the path is ours");
        Supervisor::at(Some(path.as_os_str())).tell("STOPPING=1");
        let length = socket.recv(&mut heard).expect("a datagram waits");
        assert_eq!(&heard[..length], b"STOPPING=1");
        std::fs::remove_file(path).expect("it was just bound");
        Supervisor::at(None).tell("READY=1");
    }
}
