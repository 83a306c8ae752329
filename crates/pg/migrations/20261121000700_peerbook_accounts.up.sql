-- Users and their peers. Text, not bytea: everything here went through a type that refuses NUL,
-- control characters and what is not UTF-8.

CREATE TABLE peerbook.account (
    uid           text PRIMARY KEY CHECK (length(uid) BETWEEN 1 AND 64),
    email         text NOT NULL CHECK (octet_length(email) <= 254),
    -- The address in lower-case ASCII: two spellings are one user.
    email_key     text NOT NULL UNIQUE CHECK (octet_length(email_key) <= 254),
    require_proof text NOT NULL DEFAULT 'none' CHECK (require_proof IN ('none', 'new', 'all')),
    -- Something was approved or enrolled: the user is kept even without peers.
    confirmed     boolean NOT NULL DEFAULT false,
    -- Grows with every change to the user or to a peer of theirs; caches compare it.
    version       bigint NOT NULL DEFAULT 1,
    changed_at    timestamptz NOT NULL DEFAULT now(),
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX account_by_change ON peerbook.account (changed_at);
COMMENT ON TABLE peerbook.account IS 'Users. Every change takes the row lock, so a user''s changes have an order.';
COMMENT ON COLUMN peerbook.account.require_proof IS 'Whose fingerprint has to be proven: nobody''s, that of peers approved from now on, everybody''s.';

-- A fingerprint may be asked for by several users; only one can have it verified.
CREATE TABLE peerbook.peer (
    uid          text NOT NULL REFERENCES peerbook.account ON DELETE CASCADE,
    fp           text NOT NULL CHECK (octet_length(fp) BETWEEN 1 AND 128),
    name         text NOT NULL DEFAULT '' CHECK (octet_length(name) <= 256),
    kind         text NOT NULL DEFAULT '' CHECK (octet_length(kind) <= 64),
    verified     boolean NOT NULL DEFAULT false,
    -- The user said no: it is not asked about again.
    refused      boolean NOT NULL DEFAULT false,
    needs_proof  boolean NOT NULL DEFAULT false,
    proof        text CHECK (proof IN ('challenge', 'certificate', 'bearer', 'dtls')),
    proven_at    timestamptz,
    -- SHA-256 of the secret handed out at approval; demanded once it was used.
    bearer_hash  bytea CHECK (octet_length(bearer_hash) = 32),
    bearer_used  boolean NOT NULL DEFAULT false,
    properties   jsonb NOT NULL DEFAULT '{}'
                 CHECK (jsonb_typeof(properties) = 'object' AND octet_length(properties::text) <= 8192),
    created_at   timestamptz NOT NULL DEFAULT now(),
    verified_at  timestamptz,
    last_seen_at timestamptz,
    mailed_at    timestamptz,
    PRIMARY KEY (uid, fp)
);
CREATE UNIQUE INDEX peer_verified_once ON peerbook.peer (fp) WHERE verified;
CREATE INDEX peer_by_fp ON peerbook.peer (fp, created_at);
CREATE INDEX peer_requests ON peerbook.peer (created_at) WHERE NOT verified AND verified_at IS NULL;
COMMENT ON TABLE peerbook.peer IS 'Peers and requests to become one. At most 20 verified and 20 unverified rows per user.';

-- Codes shown on a device that waits and typed on one that is verified.
CREATE TABLE peerbook.pairing (
    code_hash  bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),
    fp         text NOT NULL UNIQUE,
    name       text NOT NULL,
    kind       text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX pairing_by_expiry ON peerbook.pairing (expires_at);
COMMENT ON TABLE peerbook.pairing IS 'Pairing codes in use, hashed; used once, forgotten after five minutes.';

GRANT SELECT, INSERT, UPDATE, DELETE ON peerbook.account, peerbook.peer, peerbook.pairing
    TO switchyard_peerbook;
