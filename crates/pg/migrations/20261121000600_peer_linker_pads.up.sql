-- Which pads are registered, and at which process, so that two replicas never give out one name.

-- One row per running process. A process that stops renewing is swept by the next one to look.
CREATE TABLE peer_linker.node (
    node       uuid PRIMARY KEY,
    instance   text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE peer_linker.node IS 'Lease of one peer-linker process; renewed every 5 s, expired after 15 s.';
COMMENT ON COLUMN peer_linker.node.instance IS 'Name kept across restarts: a starting process sweeps what its predecessor of this name left.';

-- Hashed: a name is up to 64 KiB of any bytes, an index entry is not.
-- No foreign key to node: it would lock the node row on every register.
CREATE TABLE peer_linker.pad (
    digest bytea PRIMARY KEY,
    node   uuid NOT NULL,
    pad    bigint NOT NULL,
    since  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX pad_by_node ON peer_linker.pad (node);
COMMENT ON TABLE peer_linker.pad IS 'Registered pads of connected clients.';
COMMENT ON COLUMN peer_linker.pad.digest IS 'SHA-256 over the number of the namespace (one per protocol generation) and the name.';
COMMENT ON COLUMN peer_linker.pad.pad IS 'The node''s own number of this registration: giving back an old one never takes a newer.';

GRANT SELECT, INSERT, UPDATE, DELETE ON peer_linker.node, peer_linker.pad TO switchyard_peer_linker;
