-- Replicas of a mesh node: each tells the others what it wrote, and what it serves.
ALTER TABLE mesh.post
    ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY,
    -- The post as it goes to other nodes; null when it came from one, or goes to none.
    ADD COLUMN carried bytea;
CREATE UNIQUE INDEX post_by_seq ON mesh.post (seq);
COMMENT ON COLUMN mesh.post.seq IS 'By which replicas tell each other of posts. Not the order of commits.';

CREATE UNLOGGED TABLE mesh.replica (
    id      text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now(),
    cpu     real NOT NULL,
    mem     real NOT NULL,
    streams int NOT NULL,
    leads   bool NOT NULL
);
COMMENT ON TABLE mesh.replica IS 'Replicas that run: the busiest makes the price, one of them holds the links.';

CREATE UNLOGGED TABLE mesh.interest (
    replica text NOT NULL,
    room    bytea NOT NULL,
    PRIMARY KEY (replica, room)
);
COMMENT ON TABLE mesh.interest IS 'Rooms somebody listens to, by replica.';

GRANT SELECT, INSERT, UPDATE, DELETE ON mesh.replica, mesh.interest TO switchyard_mesh;
