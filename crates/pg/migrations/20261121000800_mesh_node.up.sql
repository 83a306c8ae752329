-- One signaling node of the mesh, run by any number of replicas.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'switchyard_mesh') THEN
        BEGIN
            CREATE ROLE switchyard_mesh NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role switchyard_mesh is missing and % may not create it', current_user
                    USING HINT = 'as a superuser: CREATE ROLE switchyard_mesh NOLOGIN;';
        END;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA switchyard TO switchyard_mesh;
GRANT SELECT ON _sqlx_migrations TO switchyard_mesh;

CREATE SCHEMA mesh;
COMMENT ON SCHEMA mesh IS 'One signaling node of the mesh: its key, the proofs it was paid with, the posts of two minutes.';
GRANT USAGE ON SCHEMA mesh TO switchyard_mesh;

CREATE TABLE mesh.secret (
    name    text PRIMARY KEY,
    value   bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mesh.secret IS 'What the node is known by: server_secret and node_seed, 32 bytes each.';

-- Lost with a crash of the database, as the proofs are: tokens from before are then worth nothing,
-- so that none of those proofs can be used again.
CREATE UNLOGGED TABLE mesh.boot (
    one     bool PRIMARY KEY DEFAULT true CHECK (one),
    boot_id bytea NOT NULL
);

CREATE UNLOGGED TABLE mesh.proof (
    hash    bytea PRIMARY KEY,
    -- Which request used it: one that is committed again after a lost connection meets its own row.
    request bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX proof_by_used_at ON mesh.proof (used_at);
COMMENT ON TABLE mesh.proof IS 'Proofs of work that were used; kept longer than a token lives.';

CREATE UNLOGGED TABLE mesh.post (
    id      bytea PRIMARY KEY,
    room    bytea NOT NULL,
    at      timestamptz NOT NULL,
    -- The event as subscribers get it.
    event   bytea NOT NULL
);
CREATE INDEX post_by_room ON mesh.post (room, at);
CREATE INDEX post_by_at ON mesh.post (at);
COMMENT ON TABLE mesh.post IS 'Posts of the last two minutes, for subscribers that come back.';

GRANT SELECT, INSERT, UPDATE, DELETE ON mesh.secret, mesh.boot, mesh.proof, mesh.post TO switchyard_mesh;
