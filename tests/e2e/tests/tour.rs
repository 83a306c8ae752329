//! Two PeerLink clients, from the first handshake to a file, against the real services: once in
//! plain text and once by TLS, on the same ports.

use std::path::Path;

use testkit::database::Database;
use testkit::keys::Peer;
use testkit::process::Service;

/// A certificate in files that go when this does.
struct Certificate(std::path::PathBuf);

impl Certificate {
    fn make() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let directory = std::env::temp_dir().join(format!("tour-{}", Peer::random().id));
        std::fs::create_dir(&directory)?;
        std::fs::write(directory.join("cert.pem"), made.cert.pem())?;
        std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem())?;
        Ok(Self(directory))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // Left files are the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(name: &'static str, url: &str, tls: &Path) -> anyhow::Result<Service> {
    let (certificate, key) = (tls.join("cert.pem"), tls.join("key.pem"));
    let service = Service::named(name).database(url);
    let service = service.set("TLS_CERT", certificate.display()).set("TLS_KEY", key.display());
    service.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_meet_call_write_and_share_by_both_transports() -> anyhow::Result<()> {
    let (database, tls) = (Database::fresh().await?, Certificate::make()?);
    let signal = start("signal", &database.url(), tls.path()).await?;
    let relay = start("relay", &database.url(), tls.path()).await?;
    for by_tls in [false, true] {
        e2e::tour::two_clients(signal.address(), relay.address(), by_tls).await?;
    }
    Ok(())
}
