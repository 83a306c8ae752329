CREATE SCHEMA identity;
COMMENT ON SCHEMA identity IS 'Which key owns which peer id; shared by the services that check it.';
GRANT USAGE ON SCHEMA identity TO switchyard_signal, switchyard_relay;

CREATE TABLE identity.pin (
    -- The peer id's bytes. The limit keeps a notification's payload inside Postgres's own.
    peer      bytea PRIMARY KEY CHECK (octet_length(peer) BETWEEN 1 AND 1024),
    -- Ed25519 public key.
    key       bytea NOT NULL CHECK (octet_length(key) = 32),
    -- What proved the key: 1 a live registration, 2 a signed store. The better one is kept.
    proof     int2 NOT NULL CHECK (proof IN (1, 2)),
    pinned_at timestamptz NOT NULL DEFAULT now()
);

-- The services see and change pins through these functions alone: a bug in one of them cannot give
-- a peer id away.
CREATE FUNCTION identity.owner_of(wanted bytea) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog
    AS $$ SELECT key FROM identity.pin WHERE peer = wanted $$;
REVOKE ALL ON FUNCTION identity.owner_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identity.owner_of TO switchyard_signal, switchyard_relay;

-- Pins each key to its peer where nobody owns the peer yet, and returns every peer's owner in the
-- order asked. Rows are taken in order of peer, so that concurrent calls cannot deadlock.
CREATE FUNCTION identity.claim(peers bytea[], keys bytea[], proofs int2[]) RETURNS SETOF bytea
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog
    AS $$
    BEGIN
        INSERT INTO identity.pin AS held (peer, key, proof)
        SELECT DISTINCT ON (c.peer) c.peer, c.key, c.proof
        FROM unnest(peers, keys, proofs) WITH ORDINALITY AS c(peer, key, proof, place)
        ORDER BY c.peer, c.place
        ON CONFLICT (peer) DO UPDATE SET proof = excluded.proof
            WHERE held.key = excluded.key AND held.proof > excluded.proof;
        -- A second statement sees what others committed while the first waited for them.
        RETURN QUERY
            SELECT held.key
            FROM unnest(peers) WITH ORDINALITY AS c(peer, place)
                LEFT JOIN identity.pin AS held USING (peer)
            ORDER BY c.place;
    END
    $$;
REVOKE ALL ON FUNCTION identity.claim FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identity.claim TO switchyard_signal, switchyard_relay;
