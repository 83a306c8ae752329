//! CPU time per operation as `scripts/bench` measured it on two cores, server and load together:
//! microseconds, rounded up. Newer figures belong here as soon as they are measured.

/// Signal: one of 1 kB from socket to socket, one at a time (2.0 with sixteen in flight).
pub(super) const FORWARD_US: f64 = 11.3;
/// Signal: a presence event written to one more socket.
pub(super) const PRESENCE_US: f64 = 0.28;
/// Signal: a registration with its signature, and its share of Postgres.
pub(super) const REGISTER_US: f64 = 71.0;
pub(super) const REGISTER_POSTGRES_US: f64 = 29.0;
/// Relay: a verified, durable store.
pub(super) const STORE_US: f64 = 61.0;
pub(super) const STORE_POSTGRES_US: f64 = 30.0;
/// Relay: a fetch of ten.
pub(super) const FETCH_US: f64 = 56.0;
pub(super) const FETCH_POSTGRES_US: f64 = 87.0;
/// Relay: an ack.
pub(super) const ACK_US: f64 = 89.0;
pub(super) const ACK_POSTGRES_US: f64 = 100.0;
/// Waiting for a group commit's turn and its write to disk.
pub(super) const COMMIT_WAIT_US: f64 = 1_500.0;
/// Resident bytes of a signal replica for each registered peer.
pub(super) const PEER_BYTES: f64 = 7_500.0;

/// What one message from replica to replica costs. Estimates from the costs of what it consists of
/// (a queue, a batch, a statement or a write): not measured yet, unlike the figures above.
pub(super) struct Bus {
    /// At the replica that sends.
    pub(super) send_us: f64,
    /// At the broker: Postgres itself, or NATS.
    pub(super) broker_us: f64,
    /// At the replica that receives.
    pub(super) receive_us: f64,
    /// Waiting for a batch to fill.
    pub(super) wait_us: f64,
}

/// Over `LISTEN` and `NOTIFY`.
pub(super) const POSTGRES_BUS: Bus =
    Bus { send_us: 15.0, broker_us: 25.0, receive_us: 15.0, wait_us: 2_000.0 };
/// Over NATS.
pub(super) const NATS_BUS: Bus =
    Bus { send_us: 6.0, broker_us: 4.0, receive_us: 6.0, wait_us: 100.0 };
