-- Which channels are registered, and at which process, so that two replicas never give out one name.

-- One row per running process. A process that stops renewing is swept by the next one to look.
CREATE TABLE channel_hub.node (
    node       uuid PRIMARY KEY,
    instance   text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE channel_hub.node IS 'Lease of one channel-hub process; renewed every 5 s, expired after 15 s.';
COMMENT ON COLUMN channel_hub.node.instance IS 'Name kept across restarts: a starting process sweeps what its predecessor of this name left.';

-- Hashed: a name is up to 64 KiB of any bytes, an index entry is not.
-- No foreign key to node: it would lock the node row on every register.
CREATE TABLE channel_hub.channel (
    digest  bytea PRIMARY KEY,
    node    uuid NOT NULL,
    channel bigint NOT NULL,
    since   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX channel_by_node ON channel_hub.channel (node);
COMMENT ON TABLE channel_hub.channel IS 'Registered channels of connected clients.';
COMMENT ON COLUMN channel_hub.channel.digest IS 'SHA-256 over the number of the namespace (one per protocol generation) and the name.';
COMMENT ON COLUMN channel_hub.channel.channel IS 'The node''s own number of this registration: giving back an old one never takes a newer.';

GRANT SELECT, INSERT, UPDATE, DELETE ON channel_hub.node, channel_hub.channel TO switchyard_channel_hub;
