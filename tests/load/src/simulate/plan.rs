//! Who runs what, and what its peers do: the work that follows.

use anyhow::ensure;
use clap::{Args, ValueEnum};

use super::costs::{self, Bus};

/// The engine between replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// `LISTEN` and `NOTIFY`.
    Postgres,
    /// NATS.
    Nats,
}

/// A deployment and its peers.
#[derive(Args, Clone, Debug)]
pub(crate) struct Plan {
    /// Peers that are connected at any time.
    #[arg(long, default_value_t = 20_000.0)]
    pub(super) peers: f64,
    /// Replicas of signal, and as many of relay.
    #[arg(long, default_value_t = 2)]
    pub(super) replicas: u32,
    /// Cores of each replica.
    #[arg(long, default_value_t = 1)]
    pub(super) cores: u32,
    /// Cores of Postgres.
    #[arg(long, default_value_t = 4)]
    pub(super) postgres_cores: u32,
    /// What carries messages between replicas.
    #[arg(long, value_enum, default_value_t = Engine::Postgres)]
    pub(super) bus: Engine,
    /// Signals a peer sends in a minute: a call takes about 40 in both directions.
    #[arg(long, default_value_t = 4.0)]
    pub(super) signals: f64,
    /// Minutes a peer stays connected before it comes back anew.
    #[arg(long, default_value_t = 30.0)]
    pub(super) stay: f64,
    /// Peers that hear of another's coming and going; 0: everybody, as the original has it.
    #[arg(long, default_value_t = 20.0)]
    pub(super) watchers: f64,
    /// Envelopes a peer stores in a minute; each is fetched by tens and acked.
    #[arg(long, default_value_t = 2.0)]
    pub(super) stores: f64,
}

/// A place where work waits for one of `servers`.
#[derive(Clone, Debug)]
pub(super) struct Station {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) servers: u32,
}

/// What a place is, and what helps when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Signal,
    Relay,
    Postgres,
    Nats,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Signal => "the signal replicas' processors",
            Self::Relay => "the relay replicas' processors",
            Self::Postgres => "Postgres",
            Self::Nats => "NATS",
        }
    }

    pub(super) fn lifted_by(self) -> &'static str {
        match self {
            Self::Signal | Self::Relay => "more replicas or cores",
            Self::Postgres => {
                "the NATS bus, then more cores, then sharding by recipient and peer (Citus)"
            }
            Self::Nats => "a NATS cluster",
        }
    }
}

/// One step of a piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// CPU time, on average, at one of `count` places from `first` on; any of them.
    Serve { first: usize, count: usize, us: f64 },
    /// Time that passes without work.
    Wait { us: f64 },
}

/// One kind of work, arriving at random.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) name: &'static str,
    pub(super) per_second: f64,
    pub(super) steps: Vec<Step>,
}

/// Places and the work they get.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) places: Vec<Station>,
    pub(super) flows: Vec<Flow>,
}

impl Model {
    /// The place that has most to do.
    pub(super) fn busiest(&self, utilisation: &[f64]) -> &str {
        let pairs = self.places.iter().zip(utilisation);
        let busiest = pairs.max_by(|a, b| a.1.total_cmp(b.1));
        busiest.map_or("nothing", |(place, _)| &place.name)
    }
}

impl Plan {
    /// The same deployment with other peers.
    pub(super) fn with_peers(&self, peers: f64) -> Self {
        Self { peers, ..self.clone() }
    }

    /// The work of this plan.
    pub(super) fn model(&self) -> anyhow::Result<Model> {
        let counts = [self.peers, self.signals, self.watchers, self.stores];
        ensure!(counts.iter().all(|n| n.is_finite() && *n >= 0.0), "counts are not negative");
        ensure!(self.stay > 0.0, "--stay is more than 0");
        ensure!(self.replicas * self.cores * self.postgres_cores > 0, "nothing runs on nothing");
        let replicas = self.replicas as usize;
        let mut places = Vec::new();
        for (kind, name) in [(Kind::Signal, "signal"), (Kind::Relay, "relay")] {
            for number in 1..=replicas {
                let name = format!("{name} {number}");
                places.push(Station { name, kind, servers: self.cores });
            }
        }
        let postgres = places.len();
        let name = "postgres".to_owned();
        places.push(Station { name, kind: Kind::Postgres, servers: self.postgres_cores });
        let (bus, broker) = match self.bus {
            Engine::Postgres => (&costs::POSTGRES_BUS, postgres),
            Engine::Nats => {
                let name = "nats".to_owned();
                places.push(Station { name, kind: Kind::Nats, servers: 1 });
                (&costs::NATS_BUS, postgres + 1)
            }
        };
        let at = At { replicas, postgres, broker, bus };
        let flows = self.flows(&at).into_iter().filter(|flow| flow.per_second > 0.0).collect();
        Ok(Model { places, flows })
    }

    fn flows(&self, at: &At<'_>) -> Vec<Flow> {
        let signals = self.peers * self.signals / 60.0;
        let far = 1.0 - 1.0 / f64::from(self.replicas);
        let joins = self.peers / (self.stay * 60.0);
        let stores = self.peers * self.stores / 60.0;
        let watchers = if self.watchers > 0.0 { self.watchers } else { self.peers };
        let heard = watchers.min(self.peers) / f64::from(self.replicas);
        let register = [
            at.signal(costs::REGISTER_US),
            at.postgres(costs::REGISTER_POSTGRES_US),
            Step::Wait { us: costs::COMMIT_WAIT_US },
        ];
        let durable = |us, postgres_us| {
            vec![at.relay(us), at.postgres(postgres_us), Step::Wait { us: costs::COMMIT_WAIT_US }]
        };
        let flow = |name, per_second, steps| Flow { name, per_second, steps };
        let mut flows = vec![
            flow("signal, same replica", signals * (1.0 - far), vec![at.signal(costs::FORWARD_US)]),
            flow("signal, other replica", signals * far, at.across(costs::FORWARD_US)),
            flow("register", joins, register.to_vec()),
            flow("store", stores, durable(costs::STORE_US, costs::STORE_POSTGRES_US)),
            flow(
                "fetch of ten",
                stores / 10.0,
                vec![at.relay(costs::FETCH_US), at.postgres(costs::FETCH_POSTGRES_US)],
            ),
            flow("ack of ten", stores / 10.0, durable(costs::ACK_US, costs::ACK_POSTGRES_US)),
        ];
        // Coming and going, told on every replica.
        if self.replicas > 1 {
            let told = joins * 2.0 * (f64::from(self.replicas) - 1.0);
            flows.push(flow("presence, other replicas", told, at.across(0.0)));
        }
        let everywhere = joins * 2.0 * f64::from(self.replicas);
        let written = vec![at.signal(heard * costs::PRESENCE_US)];
        flows.push(flow("presence, written out", everywhere, written));
        flows
    }
}

/// Which place is where.
struct At<'b> {
    replicas: usize,
    postgres: usize,
    broker: usize,
    bus: &'b Bus,
}

impl At<'_> {
    fn signal(&self, us: f64) -> Step {
        Step::Serve { first: 0, count: self.replicas, us }
    }

    fn relay(&self, us: f64) -> Step {
        Step::Serve { first: self.replicas, count: self.replicas, us }
    }

    fn postgres(&self, us: f64) -> Step {
        Step::Serve { first: self.postgres, count: 1, us }
    }

    /// From one replica to another; `us` is what it would take on one.
    fn across(&self, us: f64) -> Vec<Step> {
        vec![
            self.signal(us / 2.0 + self.bus.send_us),
            Step::Wait { us: self.bus.wait_us },
            Step::Serve { first: self.broker, count: 1, us: self.bus.broker_us },
            self.signal(us / 2.0 + self.bus.receive_us),
        ]
    }
}
