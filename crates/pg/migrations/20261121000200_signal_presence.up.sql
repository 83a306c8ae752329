-- Who is connected where, which register proofs were used, who was seen last.
-- Peer ids are WTF-8 bytes, not text: JSON strings may hold NUL and lone surrogates.

-- One row per running process. A process that stops renewing is swept by the next one to look.
CREATE TABLE signal.node (
    node       uuid PRIMARY KEY,
    instance   text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE signal.node IS 'Lease of one signal process; renewed every 5 s, expired after 15 s.';
COMMENT ON COLUMN signal.node.instance IS 'Name kept across restarts: a starting process sweeps what its predecessor of this name left.';

-- Orders two registers of one peer across processes: the higher one holds the peer.
CREATE SEQUENCE signal.session_generation;

-- No foreign key to node: it would lock the node row on every register.
CREATE TABLE signal.session (
    peer       bytea PRIMARY KEY,
    node       uuid NOT NULL,
    session    uuid NOT NULL,
    generation bigint NOT NULL,
    since      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX session_by_node ON signal.session (node);
COMMENT ON TABLE signal.session IS 'Current session of every connected peer.';

-- Nonces are hashed: their length is the client''s choice, an index entry''s is not.
CREATE TABLE signal.nonce (
    digest    bytea PRIMARY KEY,
    -- Who used it: a register that is committed again after a lost connection meets its own row.
    session   uuid NOT NULL,
    forget_at timestamptz NOT NULL
);
CREATE INDEX nonce_by_forget_at ON signal.nonce (forget_at);
COMMENT ON TABLE signal.nonce IS 'SHA-256 of register nonces in use; forgotten 120 s after their timestamp.';

CREATE TABLE signal.last_seen (
    peer    bytea PRIMARY KEY,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX last_seen_by_time ON signal.last_seen (seen_at);
COMMENT ON TABLE signal.last_seen IS 'When a peer last left; kept while it is back too, ended by age.';

GRANT SELECT, INSERT, UPDATE, DELETE ON signal.node, signal.session, signal.nonce, signal.last_seen TO switchyard_signal;
GRANT USAGE ON SEQUENCE signal.session_generation TO switchyard_signal;
