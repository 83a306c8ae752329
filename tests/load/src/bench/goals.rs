//! The figures to reach, with what was measured beside them.

use std::io::Write as _;

use crate::report::{Row, thousands};

/// One figure to reach.
struct Goal {
    figure: &'static str,
    /// What the original program does on the same kind of machine.
    original: &'static str,
    /// What is enough.
    first: f64,
    /// What would be excellent.
    moonshot: f64,
    /// Whether more is better.
    more: bool,
    /// How to read it from a row whose name starts with `row`.
    row: &'static str,
    read: fn(&Row) -> Option<f64>,
}

const GOALS: &[Goal] = &[
    Goal {
        figure: "relay: durable verified 1 kB stores/s",
        original: "2,485 in RAM",
        first: 8000.0,
        moonshot: 8000.0,
        more: true,
        row: "relay store",
        read: |row| Some(row.per_second),
    },
    Goal {
        figure: "relay: stores / pgbench inserts",
        original: "-",
        first: 0.6,
        moonshot: 0.9,
        more: true,
        row: "relay store",
        read: |row| row.ratio,
    },
    Goal {
        figure: "relay: group of 100, deliveries/s",
        original: "40,000",
        first: 150_000.0,
        moonshot: 400_000.0,
        more: true,
        row: "relay group",
        read: |row| Some(row.per_second),
    },
    Goal {
        figure: "relay: group of 100, WAL / payload",
        original: "-",
        first: f64::INFINITY,
        moonshot: 2.0,
        more: false,
        row: "relay group",
        read: |row| row.notes.get("WAL / payload delivered").copied(),
    },
    Goal {
        figure: "relay: 1 GiB blob, RSS growth MiB",
        original: "-",
        first: 32.0,
        moonshot: 32.0,
        more: false,
        row: "relay blob",
        read: |row| row.notes.get("RSS growth MiB").copied(),
    },
    Goal {
        figure: "signal: CPU us per forwarded 1 kB signal",
        original: "11.9",
        first: 3.0,
        moonshot: 1.5,
        more: false,
        row: "signal forward, window 16",
        read: |row| row.server_cpu_us,
    },
    Goal {
        figure: "signal: presence storm, joins/s",
        original: "114-126",
        first: 1000.0,
        moonshot: 1000.0,
        more: true,
        row: "signal storm",
        read: |row| Some(row.per_second),
    },
    Goal {
        figure: "signal: presence storm, CPU us per frame",
        original: "7.7",
        first: f64::INFINITY,
        moonshot: 0.8,
        more: false,
        row: "signal storm",
        read: |row| row.notes.get("server us/frame").copied(),
    },
    Goal {
        figure: "RSS per idle WebSocket, bytes",
        original: "8,400",
        first: 7000.0,
        moonshot: 2500.0,
        more: false,
        row: "10000 idle WebSockets",
        read: |row| row.notes.get("RSS bytes/socket").copied(),
    },
    Goal {
        figure: "peer-linker: added trip / copy loop, WebSocket",
        original: "-",
        first: 2.0,
        moonshot: 1.3,
        more: false,
        row: "round trip of 64 B, WebSocket",
        read: |row| row.ratio,
    },
    Goal {
        figure: "peer-linker: bulk / copy loop, WebSocket",
        original: "-",
        first: 0.6,
        moonshot: 0.85,
        more: true,
        row: "bulk of 65499 B, WebSocket",
        read: |row| row.ratio,
    },
    Goal {
        figure: "peer-linker: p99 busy / quiet, WebSocket",
        original: "-",
        first: 5.0,
        moonshot: 3.0,
        more: false,
        row: "round trip beside a busy pair, WebSocket",
        read: |row| row.ratio,
    },
    Goal {
        figure: "channel-hub: pad request / copy loop, WebSocket",
        original: "-",
        first: 4.0,
        moonshot: 2.5,
        more: false,
        row: "pad request, WebSocket",
        read: |row| row.ratio,
    },
    Goal {
        figure: "peer-linker: RSS per idle, WebSocket",
        original: "-",
        first: 7000.0,
        moonshot: 2500.0,
        more: false,
        row: "10000 idle connections, WebSocket",
        read: |row| row.notes.get("RSS bytes/socket").copied(),
    },
    Goal {
        figure: "peer-linker: added trip / copy loop, encrypted",
        original: "-",
        first: 2.0,
        moonshot: 1.3,
        more: false,
        row: "round trip of 64 B, encrypted",
        read: |row| row.ratio,
    },
    Goal {
        figure: "peer-linker: bulk / copy loop, encrypted",
        original: "-",
        first: 0.6,
        moonshot: 0.85,
        more: true,
        row: "bulk of 65499 B, encrypted",
        read: |row| row.ratio,
    },
    Goal {
        figure: "peer-linker: p99 busy / quiet, encrypted",
        original: "-",
        first: 5.0,
        moonshot: 3.0,
        more: false,
        row: "round trip beside a busy pair, encrypted",
        read: |row| row.ratio,
    },
    Goal {
        figure: "channel-hub: pad request / copy loop, encrypted",
        original: "-",
        first: 4.0,
        moonshot: 2.5,
        more: false,
        row: "pad request, encrypted",
        read: |row| row.ratio,
    },
    Goal {
        figure: "peer-linker: RSS per idle, encrypted",
        original: "-",
        first: 7000.0,
        moonshot: 2500.0,
        more: false,
        row: "10000 idle connections, encrypted",
        read: |row| row.notes.get("RSS bytes/socket").copied(),
    },
    Goal {
        figure: "peerbook: forward / signal's rate",
        original: "-",
        first: 0.8,
        moonshot: 0.95,
        more: true,
        row: "book forward, window 16",
        read: |row| row.ratio,
    },
    Goal {
        figure: "mesh: CPU us per delivered event",
        original: "-",
        first: 4.0,
        moonshot: 1.7,
        more: false,
        row: "mesh deliver",
        read: |row| row.server_cpu_us,
    },
    Goal {
        figure: "mesh: deliveries/s",
        original: "-",
        first: 50_000.0,
        moonshot: 50_000.0,
        more: true,
        row: "mesh deliver",
        read: |row| Some(row.per_second),
    },
    Goal {
        figure: "mesh: RSS per subscriber, bytes",
        original: "-",
        first: 12_000.0,
        moonshot: 3_200.0,
        more: false,
        row: "10000 idle streams",
        read: |row| row.notes.get("RSS bytes/stream").copied(),
    },
    Goal {
        figure: "mesh: posts accepted/s",
        original: "-",
        first: 2_000.0,
        moonshot: 2_000.0,
        more: true,
        row: "mesh post",
        read: |row| Some(row.per_second),
    },
    Goal {
        figure: "mesh: CPU of a bad proof / GET /ip",
        original: "-",
        first: 1.5,
        moonshot: 1.25,
        more: false,
        row: "mesh bad proof",
        read: |row| row.ratio,
    },
    Goal {
        figure: "mesh: credentials/s",
        original: "-",
        first: 1_000.0,
        moonshot: 1_000.0,
        more: true,
        row: "mesh credential",
        read: |row| Some(row.per_second),
    },
    Goal {
        figure: "mesh: GET / per s",
        original: "-",
        first: 10_000.0,
        moonshot: 10_000.0,
        more: true,
        row: "mesh price",
        read: |row| Some(row.per_second),
    },
    Goal {
        figure: "signal: p50 across NATS / local",
        original: "-",
        first: 3.0,
        moonshot: 2.0,
        more: false,
        row: "signals across NATS, 1000/s",
        read: |row| row.ratio,
    },
    Goal {
        figure: "signal: p50 across Postgres / local",
        original: "-",
        first: 10.0,
        moonshot: 2.0,
        more: false,
        row: "signals across Postgres, 1000/s",
        read: |row| row.ratio,
    },
    Goal {
        figure: "signal: lost of 1,000/s across Postgres",
        original: "-",
        first: 0.0,
        moonshot: 0.0,
        more: false,
        row: "signals across Postgres, 1000/s",
        read: |row| row.notes.get("lost").copied(),
    },
    Goal {
        figure: "signal: lost of 20,000/s across NATS",
        original: "-",
        first: 0.0,
        moonshot: 0.0,
        more: false,
        row: "signals across NATS, 20000/s",
        read: |row| row.notes.get("lost").copied(),
    },
    Goal {
        figure: "signal: carried of 20,000/s across NATS",
        original: "-",
        first: 19_500.0,
        moonshot: 19_500.0,
        more: true,
        row: "signals across NATS, 20000/s",
        read: |row| Some(row.count as f64 / row.notes.get("seconds")?),
    },
    Goal {
        figure: "signal: local p50 beside another, Postgres",
        original: "-",
        first: 1.1,
        moonshot: 1.0,
        more: false,
        row: "local signal, two over Postgres",
        read: |row| row.ratio,
    },
    Goal {
        figure: "signal: local p50 beside another, NATS",
        original: "-",
        first: 1.1,
        moonshot: 1.0,
        more: false,
        row: "local signal, two over NATS",
        read: |row| row.ratio,
    },
    Goal {
        figure: "signal: takeover p99 ms, Postgres",
        original: "-",
        first: 50.0,
        moonshot: 50.0,
        more: false,
        row: "takeover over Postgres",
        read: |row| row.p99_ms,
    },
    Goal {
        figure: "signal: takeover p99 ms, NATS",
        original: "-",
        first: 50.0,
        moonshot: 50.0,
        more: false,
        row: "takeover over NATS",
        read: |row| row.p99_ms,
    },
];

/// Prints every figure to reach that this run has a measurement for.
pub(super) fn print(rows: &[Row]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let (original, first, moonshot) = ("original", "first", "moonshot");
    writeln!(out, "{:46} {original:>14} {first:>10} {moonshot:>10} {:>10}", "figure", "measured")?;
    for goal in GOALS {
        let row = rows.iter().find(|row| row.name.starts_with(goal.row));
        let Some(measured) = row.and_then(goal.read) else { continue };
        let reached = |mark: f64| if goal.more { measured >= mark } else { measured <= mark };
        let verdict = match (reached(goal.first), reached(goal.moonshot)) {
            (_, true) => "moonshot",
            (true, false) => "reached",
            (false, false) => "missed",
        };
        let [first, moonshot] = [goal.first, goal.moonshot].map(bound);
        let (figure, original, measured) = (goal.figure, goal.original, thousands(measured));
        writeln!(
            out,
            "{figure:46} {original:>14} {first:>10} {moonshot:>10} {measured:>10}  {verdict}"
        )?;
    }
    Ok(writeln!(out)?)
}

fn bound(value: f64) -> String {
    if value.is_finite() { thousands(value) } else { "-".into() }
}
