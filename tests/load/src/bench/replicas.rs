//! Two replicas of signal, over each bus, beside one alone: latency, loss, takeovers and what the bus costs.

use testkit::database::Database;
use testkit::nats::Nats;
use testkit::process::{Builder, Service};

use super::rows::{push, signal_settings};
use super::stack::Stack;
use super::{Options, progress};
use crate::report::Row;
use crate::signal::{across, forward, takeover};
use crate::target::Target;

/// Signals a second at which latencies are compared.
const STEADY: u32 = 1_000;
/// What the database carries when it is busy, and what NATS has to.
const MANY: [u32; 2] = [5_000, 20_000];

/// Two replicas with a database of their own.
struct Pair {
    bus: &'static str,
    here: Service,
    there: Service,
    broker_pid: Option<u32>,
    // After the services.
    _nats: Option<Nats>,
    _database: Database,
}

/// One alone.
struct Lone {
    service: Service,
    _database: Database,
}

pub(super) async fn rows(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let sections = ["replicas-steady", "replicas-many", "replicas-local", "replicas-takeover"];
    if !sections.iter().any(|section| options.wants(section)) {
        return Ok(());
    }
    let stack = Stack::start().await?;
    let database = Database::within(stack.cluster.options()).await?;
    let service = signal(&database).start().await?;
    let lone = Lone { service, _database: database };
    let pairs = [Pair::start(&stack, false).await?, Pair::start(&stack, true).await?];
    if options.wants("replicas-steady") {
        for pair in &pairs {
            compare(options, &stack, &lone, pair, STEADY, rows).await?;
        }
    }
    if options.wants("replicas-many") {
        for (pair, many) in pairs.iter().zip(MANY) {
            compare(options, &stack, &lone, pair, many, rows).await?;
        }
    }
    if options.wants("replicas-local") {
        beside(options, &stack, &lone, &pairs, rows).await?;
    }
    if options.wants("replicas-takeover") {
        for pair in &pairs {
            let other = pair.there.address();
            let each = takeover::Options { other, count: options.size(300, 30) };
            let mut row = takeover::run(&stack.target(&pair.here), &each).await?;
            row.name = format!("takeover over {}", pair.bus);
            push(rows, row);
        }
    }
    Ok(())
}

/// Signals to peers of the same replica and of another one, at the same rate, in turns.
async fn compare(
    options: &Options,
    stack: &Stack,
    lone: &Lone,
    pair: &Pair,
    rate: u32,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let (mut local, mut far) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let target = stack.target(&lone.service);
        let each = across::Options::new(target.target, rate, options.seconds());
        local.push(across::run(&target, &each).await?);
        local.last().into_iter().for_each(progress);
        far.push(pair.across(stack, rate, options.seconds()).await?);
        far.last().into_iter().for_each(progress);
    }
    let (Some(local), Some(mut far)) = (middle(local), middle(far)) else { return Ok(()) };
    let own = local.server_cpu_us.unwrap_or_default();
    far.ratio = far.p50_ms.zip(local.p50_ms).map(|(far, local)| far / local);
    // What is over a signal's own half at each replica is the bus's.
    let sender = far.server_cpu_us.unwrap_or_default() - own / 2.0;
    let receiver = far.notes.get("receiver us").copied().unwrap_or_default() - own / 2.0;
    rows.push(local);
    rows.push(far.note("bus send us", sender).note("bus receive us", receiver));
    Ok(())
}

/// Whether a signal that stays at its replica costs more when there is another replica.
async fn beside(
    options: &Options,
    stack: &Stack,
    lone: &Lone,
    pairs: &[Pair],
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let seconds = options.seconds();
    let each = forward::Options { pairs: 100, window: 1, bytes: 1024, seconds, echo: false };
    let (mut alone, mut beside) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..options.rounds() {
        alone.push(forward::run(&stack.target(&lone.service), &each).await?);
        alone.last().into_iter().for_each(progress);
        for (pair, beside) in pairs.iter().zip(&mut beside) {
            beside.push(forward::run(&stack.target(&pair.here), &each).await?);
            beside.last().into_iter().for_each(progress);
        }
    }
    let Some(mut alone) = middle(alone) else { return Ok(()) };
    alone.name = "local signal, one replica".to_owned();
    let p50 = alone.p50_ms.unwrap_or_default();
    rows.push(alone);
    for (pair, beside) in pairs.iter().zip(beside) {
        let Some(mut row) = middle(beside) else { continue };
        row.name = format!("local signal, two over {}", pair.bus);
        row.ratio = row.p50_ms.map(|beside| beside / p50);
        rows.push(row);
    }
    Ok(())
}

/// The row with the median latency.
fn middle(mut rows: Vec<Row>) -> Option<Row> {
    rows.sort_by(|a, b| a.p50_ms.unwrap_or(f64::MAX).total_cmp(&b.p50_ms.unwrap_or(f64::MAX)));
    rows.get(rows.len() / 2).cloned()
}

fn signal(database: &Database) -> Builder {
    signal_settings().database(&database.url()).set("LOG", "warn")
}

impl Pair {
    async fn start(stack: &Stack, over_nats: bool) -> anyhow::Result<Self> {
        let database = Database::within(stack.cluster.options()).await?;
        let nats = if over_nats { Some(Nats::start().await?) } else { None };
        let replica = || match &nats {
            Some(nats) => signal(&database).set("BUS_URL", nats.url()),
            None => signal(&database),
        };
        let (here, there) = (replica().start().await?, replica().start().await?);
        let bus = if over_nats { "NATS" } else { "Postgres" };
        let broker_pid = nats.as_ref().and_then(Nats::pid);
        Ok(Self { bus, here, there, broker_pid, _nats: nats, _database: database })
    }

    async fn across(&self, stack: &Stack, rate: u32, seconds: f64) -> anyhow::Result<Row> {
        let mut each = across::Options::new(self.there.address(), rate, seconds);
        each.other_pid = Some(self.there.pid());
        each.broker_pid = self.broker_pid;
        let target: Target = stack.target(&self.here);
        let mut row = across::run(&target, &each).await?;
        row.name = format!("signals across {}, {rate}/s", self.bus);
        Ok(row)
    }
}
