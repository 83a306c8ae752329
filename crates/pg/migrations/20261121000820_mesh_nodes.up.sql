-- Other nodes of the mesh, as this one knows them.
CREATE TABLE mesh.node (
    key          bytea PRIMARY KEY,
    url          text NOT NULL,
    -- Its descriptor as it signed it, JSON.
    item         bytea NOT NULL,
    state        text NOT NULL DEFAULT 'candidate'
                 CHECK (state IN ('candidate', 'verified', 'linked', 'stale', 'banned')),
    first_seen   timestamptz NOT NULL DEFAULT now(),
    last_seen    timestamptz,
    next_probe   timestamptz NOT NULL DEFAULT now(),
    fails        int NOT NULL DEFAULT 0,
    height       smallint,
    rtt_ms       int,
    -- Where it was reached.
    net          inet,
    banned_until timestamptz
);
CREATE INDEX node_by_state ON mesh.node (state, last_seen);
COMMENT ON TABLE mesh.node IS 'Nodes of the network: heard of, verified, linked; a day after they were last seen they are forgotten.';

CREATE TABLE mesh.probe (
    address bytea PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mesh.probe IS 'Keyed hashes of addresses the DHT named that were asked who they are: each once an hour.';

GRANT SELECT, INSERT, UPDATE, DELETE ON mesh.node, mesh.probe TO switchyard_mesh;
