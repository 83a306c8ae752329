-- What reaches a user outside a connection: links by mail, codes from an authenticator, and what
-- keeps strangers from abusing either. A user who is removed takes these rows along.

-- A link that was mailed, or what it was exchanged for. Only the digest is kept: whoever reads
-- this table cannot open a page.
CREATE TABLE peerbook.token (
    digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    uid        text NOT NULL REFERENCES peerbook.account ON DELETE CASCADE,
    -- The peer a login link stands for; none for the review page.
    fp         text,
    expires_at timestamptz NOT NULL,
    -- No exchange reaches past this.
    ends_at    timestamptz NOT NULL
);
CREATE INDEX token_by_expiry ON peerbook.token (expires_at);
CREATE INDEX token_by_uid ON peerbook.token (uid);
COMMENT ON TABLE peerbook.token IS 'SHA-256 of every link in force; a change exchanges it for the next.';

-- A user's authenticator (RFC 6238): SHA-1, six digits, 30 seconds.
CREATE TABLE peerbook.totp (
    uid          text PRIMARY KEY REFERENCES peerbook.account ON DELETE CASCADE,
    secret       bytea NOT NULL CHECK (octet_length(secret) = 20),
    -- Codes are asked for from here on.
    confirmed_at timestamptz,
    -- The step of the last code taken: it and those before it are refused.
    last_step    bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE peerbook.totp IS 'Secrets of one-time passwords, and the last step used.';

-- Wrong codes in a row, by user and place: who may try at one place cannot lock another.
CREATE TABLE peerbook.guess (
    uid          text NOT NULL REFERENCES peerbook.account ON DELETE CASCADE,
    place        text NOT NULL,
    failures     int NOT NULL,
    locks        int NOT NULL DEFAULT 0,
    locked_until timestamptz NOT NULL DEFAULT '-infinity',
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (uid, place)
);
CREATE INDEX guess_by_time ON peerbook.guess (at);
COMMENT ON TABLE peerbook.guess IS 'Attempts at one-time passwords since the last right one.';

-- Token buckets that outlive a restart, stored as the time at which each is full again.
CREATE TABLE peerbook.throttle (
    -- SHA-256 of what is limited and for whom.
    digest  bytea PRIMARY KEY,
    full_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX throttle_by_time ON peerbook.throttle (full_at);
COMMENT ON TABLE peerbook.throttle IS 'Who may cause a mail when; forgotten once full.';

-- Mail to be sent. No link is kept: it is made when the mail is, and lives from then on.
CREATE TABLE peerbook.outbox (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL CHECK (kind IN ('review', 'login', 'support')),
    -- To whom; for support, from whom.
    address  text NOT NULL,
    -- The peer a login link stands for.
    fp       text,
    -- What a support request says.
    body     text,
    attempts int NOT NULL DEFAULT 0,
    next_try timestamptz NOT NULL DEFAULT now(),
    made_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_by_time ON peerbook.outbox (next_try);
COMMENT ON TABLE peerbook.outbox IS 'Mail that waits for its first or next attempt.';

GRANT SELECT, INSERT, UPDATE, DELETE ON peerbook.token, peerbook.totp, peerbook.guess, peerbook.throttle, peerbook.outbox TO switchyard_peerbook;
