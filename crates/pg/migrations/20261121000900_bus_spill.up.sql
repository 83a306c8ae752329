-- Messages between replicas that are too long for a notification: one row until every receiver has had
-- time to fetch it. Not in the write-ahead log: who misses one looks at the tables that matter.
CREATE SCHEMA bus;
COMMENT ON SCHEMA bus IS 'Messages on their way between the replicas of a service.';

CREATE UNLOGGED TABLE bus.spill (
    id     uuid PRIMARY KEY,
    -- Each service sees its own only.
    owner  name NOT NULL DEFAULT current_user,
    at     timestamptz NOT NULL DEFAULT now(),
    packet bytea NOT NULL
);
ALTER TABLE bus.spill ALTER COLUMN packet SET STORAGE EXTERNAL;
CREATE INDEX spill_by_time ON bus.spill (at);
COMMENT ON TABLE bus.spill IS 'Packets of the bus too long for NOTIFY; deleted after 30 s.';

ALTER TABLE bus.spill ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON bus.spill USING (owner = current_user) WITH CHECK (owner = current_user);

GRANT USAGE ON SCHEMA bus TO switchyard_signal, switchyard_relay, switchyard_peer_linker,
    switchyard_channel_hub, switchyard_peerbook, switchyard_mesh;
GRANT SELECT, INSERT, DELETE ON bus.spill TO switchyard_signal, switchyard_relay, switchyard_peer_linker,
    switchyard_channel_hub, switchyard_peerbook, switchyard_mesh;
