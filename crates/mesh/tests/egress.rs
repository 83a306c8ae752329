//! Where a node of the public network connects to when somebody else names the place (scenario 18):
//! to the address it checked, whatever the name stands for a moment later, and to nothing private.
//!
//! In a network of the test's own, where public addresses are this machine's and names are answered
//! as the test likes. Where there can be none this test says so and passes.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use common::impostor::descriptor;
use common::rogue::Rogue;
use common::{Node, until};
use proto::mesh::link::Frame;
use testkit::cluster::Cluster;
use testkit::name_server::NameServer;
use testkit::namespace;
use testkit::process::Port;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An address of the public Internet: here nobody's but the test's.
const PUBLIC: &str = "93.184.216.34";
const INSIDE: [&str; 4] = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"];

/// Counts who connects, and hangs up.
struct Trap {
    reached: Arc<AtomicUsize>,
    counting: JoinHandle<()>,
}

impl Trap {
    async fn at(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let reached = Arc::new(AtomicUsize::new(0));
        let count = reached.clone();
        #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
        let counting = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self { reached, counting })
    }

    fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

/// What names stand for. Two change what they say between the first look and the next.
fn addresses(name: &str, before: usize) -> Vec<Ipv4Addr> {
    let public = Ipv4Addr::new(93, 184, 216, 34);
    match name {
        "seed.test" | "told.test" if before == 0 => vec![public],
        "both.test" => vec![public, Ipv4Addr::LOCALHOST],
        "inside.test" => vec![Ipv4Addr::new(10, 0, 0, 1)],
        _ => vec![Ipv4Addr::LOCALHOST],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_its_address_leads_nowhere() -> anyhow::Result<()> {
    if !namespace::entered() {
        if let Err(missing) = namespace::installed() {
            println!("SKIPPED: {missing}");
            return Ok(());
        }
        // Its socket is a file, which can be reached from any network.
        let cluster = Cluster::start().await?;
        let name = "a_name_that_changes_its_address_leads_nowhere";
        let more = [PUBLIC, "10.0.0.1", "169.254.169.254"];
        return namespace::enter(name, &more, &[("DATABASE_URL", &cluster.url())]).await;
    }
    let names = NameServer::start((Ipv4Addr::LOCALHOST, 53).into(), addresses).await?;
    let port = Port::reserve()?.number();
    let at = |ip: &str| anyhow::Ok(SocketAddr::new(ip.parse::<IpAddr>()?, port));
    let public = Trap::at(at(PUBLIC)?).await?;
    let mut inside = Vec::new();
    for ip in INSIDE {
        match Trap::at(at(ip)?).await {
            Ok(trap) => inside.push((ip, trap)),
            Err(why) if ip == "::1" => println!("without IPv6: {why}"),
            Err(why) => return Err(why),
        }
    }
    let hosts = "seed.test both.test inside.test 127.0.0.1 [::1] 10.0.0.1 169.254.169.254 localhost \
                 [::ffff:127.0.0.1] 2130706433 0x7f000001";
    let seeds: Vec<String> =
        hosts.split_whitespace().map(|host| format!("https://{host}:{port}")).collect();
    let node = Node::start(1, |builder| {
        builder
            .set("ALLOW_PRIVATE", 0)
            .set("PUBLIC_URL", "https://mesh.example.org")
            .set("PEERS", seeds.join(","))
    })
    .await?;
    // And so that it hears of the same from another node.
    until("it takes links", async || Ok(node.service.metric("mesh_leads").await? == 1.0)).await?;
    let mut rogue = Rogue::link(200, &node, None).await?;
    let mut items = vec![descriptor(201, "test", Some(&format!("https://told.test:{port}")))?];
    for (seed, seed_url) in (202..).zip(&seeds) {
        items.push(descriptor(seed, "test", Some(seed_url))?);
    }
    for items in items.chunks(4) {
        rogue.send(&Frame::Peers { items: items.to_vec() }).await?;
    }

    until("every name was looked up again", async || {
        Ok(["seed.test", "told.test", "both.test", "inside.test"]
            .iter()
            .all(|name| names.asked(name) >= 3))
    })
    .await?;
    // Once for the address that each of the two had when it was checked: with a second look at the
    // name, the connection would have gone to where it had moved meanwhile.
    until("the checked addresses were connected to", async || Ok(public.reached() >= 2)).await?;
    ensure!(public.reached() == 2, "{} connections", public.reached());
    for (ip, trap) in &inside {
        ensure!(trap.reached() == 0, "{ip} was connected to");
    }
    ensure!(node.nodes().await?.is_empty());
    Ok(())
}
