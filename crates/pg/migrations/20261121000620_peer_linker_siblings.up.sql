-- How the processes of peer-linker reach each other: pads at two of them are linked over a connection of their own.

ALTER TABLE peer_linker.node ADD COLUMN address text;
COMMENT ON COLUMN peer_linker.node.address IS 'host:port at which the process takes connections of its siblings; NULL when it takes none.';

CREATE TABLE peer_linker.sibling_secret (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    secret   bytea NOT NULL CHECK (octet_length(secret) = 32),
    made_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE peer_linker.sibling_secret IS 'What processes of this service prove to each other that they are: whoever reads it is one. Made by the first to start.';

GRANT SELECT, INSERT ON peer_linker.sibling_secret TO switchyard_peer_linker;
