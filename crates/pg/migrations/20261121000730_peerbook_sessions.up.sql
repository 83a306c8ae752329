-- Who is connected to which process, so that replicas know each other's peers.

-- One row per running process. A process that stops renewing is swept by the next one to look.
CREATE TABLE peerbook.node (
    node       uuid PRIMARY KEY,
    instance   text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE peerbook.node IS 'Lease of one peerbook process; renewed every 5 s, expired after 15 s.';

-- No foreign key to node: it would lock the node row on every connect.
CREATE TABLE peerbook.session (
    fp      text NOT NULL CHECK (octet_length(fp) BETWEEN 1 AND 128),
    node    uuid NOT NULL,
    session bigint NOT NULL,
    uid     text,
    proven  boolean NOT NULL,
    since   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (fp, node, session)
) WITH (fillfactor = 80);
CREATE INDEX session_by_node ON peerbook.session (node, session);
COMMENT ON TABLE peerbook.session IS 'Open connections of peers, and those that wait.';
COMMENT ON COLUMN peerbook.session.session IS 'The node''s own number of this connection.';
COMMENT ON COLUMN peerbook.session.uid IS 'The user it was let in for; null while it waits.';
COMMENT ON COLUMN peerbook.session.proven IS 'The fingerprint was proven on it: others of the same fingerprint receive nothing.';

GRANT SELECT, INSERT, UPDATE, DELETE ON peerbook.node, peerbook.session TO switchyard_peerbook;
