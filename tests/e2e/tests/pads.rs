//! peer-linker and channel-hub with real clients of both generations.
//!
//! `E2E_PAD_MIB` sets how much passes through a link in each direction; 64 when unset, because
//! services under test are debug builds. 1024 is what is promised.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::pad::certificate;
use sha2::{Digest, Sha256};
use testkit::database::Database;
use testkit::pad_client::{Generation, PadClient, PadReceiver, PadSender, Program};
use testkit::process::{Process, Service};

const MIB: usize = 1 << 20;

/// The most that one packet of either generation carries.
const PAYLOAD: usize = 65_499;

/// What the whole process may grow by while a stream passes, in KiB.
const GROWTH_MAX_KIB: u64 = 32 * 1024;

/// With these variables set, this program is the other client of a link.
const OTHER: &str = "E2E_PAD_OTHER";

fn mebibytes() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a test has no service::run to read settings")]
    let given = std::env::var("E2E_PAD_MIB");
    given.ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

/// A directory with the server's secret in it; gone with its owner.
struct Secret(PathBuf);

impl Secret {
    const BYTES: &[u8] = b"27346e24a5cab3038130af03c073cd0e";

    fn make() -> anyhow::Result<Self> {
        let name = format!("pads-{}", testkit::keys::Peer::random().id);
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory)?;
        std::fs::write(directory.join("secret.bin"), Self::BYTES)?;
        Ok(Self(directory))
    }

    fn path(&self) -> String {
        self.0.join("secret.bin").display().to_string()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // Left files are the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes that do not repeat within what anybody compares.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let bytes = self.0.to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }
}

/// What stands still fails instead of running for ever.
async fn within(test: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(600), test).await.context("no end")?
}

/// A line of the process's memory figures, in KiB.
fn memory_kib(pid: u32, line: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)).context("no such line")?;
    Ok(found.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
}

/// Makes the highest memory use so far that of now.
fn forget_peak(pid: u32) -> anyhow::Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// What each service uses now, in KiB; from here on peaks are counted.
fn resting(services: &[Service]) -> anyhow::Result<Vec<u64>> {
    let now = |service: &Service| {
        forget_peak(service.pid())?;
        memory_kib(service.pid(), "VmRSS")
    };
    services.iter().map(now).collect()
}

/// No service has used much more than `before`.
fn little_growth(services: &[Service], before: &[u64], what: &str) -> anyhow::Result<()> {
    for (service, before) in services.iter().zip(before) {
        let growth = memory_kib(service.pid(), "VmHWM")?.saturating_sub(*before);
        eprintln!("{what}: growth {growth} KiB");
        ensure!(growth < GROWTH_MAX_KIB, "{what}: grew by {growth} KiB");
    }
    Ok(())
}

/// Sends so many bytes; their digest.
async fn send(
    mut sender: PadSender,
    seed: u64,
    bytes: usize,
) -> anyhow::Result<(PadSender, Vec<u8>)> {
    let (mut noise, mut hash) = (Noise(seed), Sha256::new());
    let mut buffer = vec![0; PAYLOAD];
    let mut left = bytes;
    while left > 0 {
        let piece = &mut buffer[..left.min(PAYLOAD)];
        noise.fill(piece);
        hash.update(&*piece);
        sender.send_payload(piece).await?;
        left -= piece.len();
    }
    Ok((sender, hash.finalize().to_vec()))
}

/// Receives so many bytes; their digest.
async fn receive(
    mut receiver: PadReceiver,
    bytes: usize,
) -> anyhow::Result<(PadReceiver, Vec<u8>)> {
    let (mut hash, mut received) = (Sha256::new(), 0);
    while received < bytes {
        let payload = receiver.next_payload().await?.context("hung up on")?;
        hash.update(&payload);
        received += payload.len();
    }
    ensure!(received == bytes, "{received} bytes of {bytes}");
    Ok((receiver, hash.finalize().to_vec()))
}

/// Two clients, at the first and the last of so many replicas, exchange a lot and part.
async fn exchange(replicas: usize) -> anyhow::Result<()> {
    let (database, secret) = (Database::fresh().await?, Secret::make()?);
    let mut services = Vec::new();
    for _ in 0..replicas {
        let service = Service::named("peer-linker").database(&database.url());
        services.push(service.argument("-k").argument(secret.path()).start().await?);
    }
    let (first, last) = (&services[0], &services[replicas - 1]);
    let (certificate, bytes) =
        (certificate::issue(Secret::BYTES, b"user=example"), mebibytes() * MIB);
    for generation in Generation::BOTH {
        let connect = |service: &Service| {
            let address = service.address();
            PadClient::activated_with(generation, Program::PeerLinker, address, &certificate)
        };
        let stranger = PadClient::activated(generation, Program::PeerLinker, first.address()).await;
        ensure!(stranger.is_err(), "{generation:?}: let in without a certificate");
        let (mut one, mut other) = (connect(first).await?, connect(last).await?);
        ensure!(one.register_pad(b"one").await? && other.register_pad(b"other").await?);
        one.link_to(&mut other, b"other", b"secret").await?;

        let before = resting(&services)?;
        let started = std::time::Instant::now();
        let (one, other) = (one.into_halves(), other.into_halves());
        // Each direction has its own tasks: with back-pressure one must not wait for the other.
        let (there, back, arrived, returned) = tokio::try_join!(
            send(one.0, 1, bytes),
            send(other.0, 2, bytes),
            receive(other.1, bytes),
            receive(one.1, bytes),
        )?;
        ensure!(there.1 == arrived.1 && back.1 == returned.1, "{generation:?}: other bytes");
        let seconds = started.elapsed().as_secs_f64();
        let what = format!("{generation:?}: {bytes} bytes each way, {seconds:.1} s");
        little_growth(&services, &before, &what)?;

        let mut one = PadClient::from_halves(generation, there.0, returned.0);
        let mut other = PadClient::from_halves(generation, back.0, arrived.0);
        ensure!(one.unlink().await?, "{generation:?}: not unlinked");
        other.unlinked().await?;
        one.link_to(&mut other, b"other", b"again").await?;
        other.send_payload(b"still here").await?;
        ensure!(one.next_payload().await? == "still here");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_with_certificates_exchange_a_lot_and_part() -> anyhow::Result<()> {
    within(exchange(1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_at_different_replicas_exchange_a_lot_and_part() -> anyhow::Result<()> {
    within(exchange(2)).await
}

/// Its partners elsewhere are told at once, and may link again with whoever is left.
#[tokio::test]
async fn a_replica_is_killed_in_the_middle_of_a_transfer() -> anyhow::Result<()> {
    within(async {
        let database = Database::fresh().await?;
        let start = || Service::named("peer-linker").database(&database.url()).start();
        let (stays, mut dies) = (start().await?, start().await?);
        for generation in Generation::BOTH {
            let connect = |service: &Service| {
                PadClient::activated(generation, Program::PeerLinker, service.address())
            };
            let (mut one, mut other) = (connect(&stays).await?, connect(&dies).await?);
            ensure!(one.register_pad(b"one").await? && other.register_pad(b"other").await?);
            one.link_to(&mut other, b"other", b"").await?;
            let (mut sender, mut receiver) = one.into_halves();
            let (other_sender, other_receiver) = other.into_halves();
            let transfer = async {
                let piece = vec![7; PAYLOAD];
                // Far more than all buffers on the way hold: it is read at the other end, or stops.
                for _ in 0..mebibytes() * MIB / PAYLOAD {
                    sender.send_payload(&piece).await?;
                }
                anyhow::Ok(())
            };
            let kill = async {
                let (receiver, _) = receive(other_receiver, 64 * PAYLOAD).await?;
                dies.kill();
                drop((receiver, other_sender));
                anyhow::Ok(())
            };
            let unlinked = if generation == Generation::WebSocket { 9 } else { 7 };
            let told = async {
                while receiver.next().await?.context("hung up on")?.kind != unlinked {}
                anyhow::Ok(())
            };
            tokio::try_join!(transfer, kill, told)?;
            let mut one = PadClient::from_halves(generation, sender, receiver);
            let mut third = connect(&stays).await?;
            ensure!(third.register_pad(b"third").await?);
            one.link_to(&mut third, b"third", b"").await?;
            one.send_payload(b"on").await?;
            ensure!(third.next_payload().await? == "on");
            dies.start_again().await?;
        }
        Ok(())
    })
    .await
}

/// Not a test of its own: what another process does until it is killed.
#[tokio::test]
#[ignore = "the other process of the test below"]
async fn the_other_process() -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a test has no service::run to read settings")]
    let given = std::env::var(OTHER).context("started by another test only")?;
    let (generation, address) = given.split_once(' ').context("a generation and an address")?;
    let generation = match generation {
        "WebSocket" => Generation::WebSocket,
        _ => Generation::Encrypted,
    };
    let mut client =
        PadClient::activated(generation, Program::PeerLinker, address.parse()?).await?;
    ensure!(client.register_pad(b"mortal").await?);
    let auth = client.next_auth().await?;
    client.answer_auth(&auth.requester, true).await?;
    client.send_payload(b"alive").await?;
    std::future::pending().await
}

#[tokio::test]
async fn a_client_survives_the_sudden_end_of_the_other() -> anyhow::Result<()> {
    within(async {
        let database = Database::fresh().await?;
        let service = Service::named("peer-linker").database(&database.url()).start().await?;
        for generation in Generation::BOTH {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--ignored", "--exact", "the_other_process"]);
            command.env(OTHER, format!("{generation:?} {}", service.address()));
            let log = std::env::temp_dir().join(format!("pads-other-{}", service.pid()));
            let mut process = Process::start("the other", &command, &log)?;

            let mut client =
                PadClient::activated(generation, Program::PeerLinker, service.address()).await?;
            ensure!(client.register_pad(b"survivor").await?);
            let linked = async {
                // It takes the other a while to start.
                while !client.link(b"mortal", b"").await? {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(Duration::from_secs(60), linked).await??;
            ensure!(client.next_payload().await? == "alive");
            process.kill();
            std::fs::remove_file(log)?;
            client.unlinked().await?;
            let mut heir =
                PadClient::activated(generation, Program::PeerLinker, service.address()).await?;
            ensure!(heir.register_pad(b"mortal").await?, "{generation:?}: the name is not free");
            client.link_to(&mut heir, b"mortal", b"").await?;
            heir.send_payload(b"and so on").await?;
            ensure!(client.next_payload().await? == "and so on");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_hub_leads_to_a_pad_and_a_link() -> anyhow::Result<()> {
    within(async {
        let database = Database::fresh().await?;
        let hub = Service::named("channel-hub").database(&database.url()).start().await?;
        let linker = Service::named("peer-linker").database(&database.url()).start().await?;
        for generation in Generation::BOTH {
            let at_hub = || PadClient::activated(generation, Program::ChannelHub, hub.address());
            let at_linker =
                || PadClient::activated(generation, Program::PeerLinker, linker.address());
            let (mut owner, mut guest) = (at_hub().await?, at_hub().await?);
            ensure!(owner.register_channel(b"room").await?);
            ensure!(guest.channels().await?.is_some_and(|all| all == ["room"]));
            let asked = guest.send_pad_request(b"room").await?;
            let request = owner.next_pad_request().await?;
            let mut pad = at_linker().await?;
            ensure!(pad.register_pad(b"pad-of-room").await?);
            ensure!(owner.answer_pad_request(&request, Some(b"pad-of-room")).await?);
            let name = guest.pad(asked).await?.context("no pad")?;
            let mut guest = at_linker().await?;
            ensure!(guest.register_pad(b"guest").await?);
            guest.link_to(&mut pad, &name, b"secret").await?;
            guest.send_payload(b"hello").await?;
            ensure!(pad.next_payload().await? == "hello");
        }
        Ok(())
    })
    .await
}

/// Sends noise through curl; its digest.
fn put_by_curl(url: &str, bytes: usize) -> anyhow::Result<Vec<u8>> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--upload-file", "-", url]);
    let mut child = curl.stdin(Stdio::piped()).spawn().context("curl")?;
    let mut stdin = child.stdin.take().context("its input")?;
    let (mut noise, mut hash) = (Noise(3), Sha256::new());
    let mut buffer = vec![0; MIB];
    for _ in 0..bytes / MIB {
        noise.fill(&mut buffer);
        hash.update(&buffer);
        stdin.write_all(&buffer)?;
    }
    drop(stdin);
    ensure!(child.wait()?.success(), "the upload failed");
    Ok(hash.finalize().to_vec())
}

/// What curl receives: its length and digest.
fn get_by_curl(url: &str) -> anyhow::Result<(usize, Vec<u8>)> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", url]);
    let mut child = curl.stdout(Stdio::piped()).spawn().context("curl")?;
    let mut stdout = child.stdout.take().context("its output")?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; MIB];
    loop {
        let read = stdout.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        length += read;
    }
    ensure!(child.wait()?.success(), "the download failed");
    Ok((length, hash.finalize().to_vec()))
}

/// The sender is at the first, the reader at the last of so many replicas.
async fn curl_to_curl(replicas: usize) -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let mut services = Vec::new();
    for _ in 0..replicas {
        services.push(Service::named("peer-linker").database(&database.url()).start().await?);
    }
    let url = |service: &Service| format!("http://{}/pad/stream", service.address());
    let (first, last) = (url(&services[0]), url(&services[replicas - 1]));
    for (bytes, sender_first) in [(MIB, true), (mebibytes() * MIB, false)] {
        let before = resting(&services)?;
        let put = {
            let url = first.clone();
            move || put_by_curl(&url, bytes)
        };
        let get = {
            let url = last.clone();
            move || get_by_curl(&url)
        };
        // Either may come first; what is tested is the order, so the second waits a moment.
        let pause = Duration::from_millis(300);
        let (sent, received) = if sender_first {
            let sent = tokio::task::spawn_blocking(put);
            tokio::time::sleep(pause).await;
            (sent, tokio::task::spawn_blocking(get))
        } else {
            let received = tokio::task::spawn_blocking(get);
            tokio::time::sleep(pause).await;
            (tokio::task::spawn_blocking(put), received)
        };
        let (sent, (length, received)) = (sent.await??, received.await??);
        ensure!(length == bytes && received == sent, "{length} bytes of {bytes}");
        little_growth(&services, &before, &format!("curl to curl, {bytes} bytes"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_sends_curl_a_stream_of_any_size_in_little_memory() -> anyhow::Result<()> {
    within(curl_to_curl(1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_sends_curl_at_another_replica_a_stream_in_little_memory() -> anyhow::Result<()> {
    within(curl_to_curl(2)).await
}
