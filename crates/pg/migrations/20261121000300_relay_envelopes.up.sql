-- Mailboxes of the relay: envelopes, group fan-out, ack marks, group membership.
--
-- Every text that came from a client is WTF-8 in bytea: JSON strings may hold NUL and
-- lone surrogates, which `text` refuses.

-- One row: what sequence numbers and mailbox keys are computed from.
CREATE TABLE relay.state (
    one               boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Added to every sequence number; raised when the data moves to a cluster whose
    -- transaction ids started over (see relay.rebase). A multiple of 65536.
    seq_base          int8 NOT NULL,
    system_identifier int8 NOT NULL,
    -- Mailbox keys are salted, so that nobody can construct two peer ids that share one.
    mailbox_salt      bytea NOT NULL
);

CREATE FUNCTION relay.day_of(at timestamptz) RETURNS int4
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(extract(epoch FROM at) / 86400)::int4;

-- Key of a mailbox: the first 64 bits of SHA-256 over the salt and the recipient's id.
CREATE FUNCTION relay.mailbox(recipient bytea) RETURNS int8
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ('x' || encode(substr(sha256((SELECT mailbox_salt FROM relay.state) || recipient), 1, 8), 'hex'))::bit(64)::int8;

-- Sequence number of the first row this transaction writes; the next ones add up to 65535.
--
-- Transaction ids are handed out in order, so everything numbered below relay.seq_horizon()
-- is decided: readers who stop there never miss a row that commits late.
CREATE FUNCTION relay.seq_first() RETURNS int8
    LANGUAGE sql VOLATILE
    RETURN (SELECT seq_base FROM relay.state) + (pg_current_xact_id()::text::int8 << 16);

CREATE FUNCTION relay.seq_horizon() RETURNS int8
    LANGUAGE sql STABLE
    RETURN (SELECT seq_base FROM relay.state) + (pg_snapshot_xmin(pg_current_snapshot())::text::int8 << 16);

-- An envelope for one recipient. `body` is the JSON text exactly as it will be sent.
CREATE TABLE relay.envelope (
    mailbox     int8 NOT NULL,
    seq         int8 NOT NULL,
    received_at timestamptz NOT NULL,
    day         int4 NOT NULL,
    size        int4 NOT NULL,
    id          bytea NOT NULL,
    body        bytea NOT NULL,
    -- Clients make ids from the time: with the id first, inserts stay on the last leaf pages.
    PRIMARY KEY (id, mailbox, day)
) PARTITION BY LIST (day);
-- Payloads are ciphertext: compressing them costs more than the insert.
ALTER TABLE relay.envelope ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX envelope_by_mailbox ON relay.envelope (mailbox, seq) INCLUDE (size);

-- A group message, kept once. The envelope of a recipient is head, its id, tail.
CREATE TABLE relay.fanout (
    seq         int8 NOT NULL,
    received_at timestamptz NOT NULL,
    day         int4 NOT NULL,
    id          bytea NOT NULL,
    -- Counts the rows of one id (a message sent again to more recipients), so that two
    -- connections storing the same message cannot both succeed.
    nth         int4 NOT NULL,
    head        bytea NOT NULL,
    tail        bytea NOT NULL,
    PRIMARY KEY (seq, day),
    UNIQUE (id, nth, day)
) PARTITION BY LIST (day);
ALTER TABLE relay.fanout ALTER COLUMN head SET STORAGE EXTERNAL, ALTER COLUMN tail SET STORAGE EXTERNAL;

-- A group message in one mailbox; `seq` names the fanout row. Nothing else is in the row:
-- a fan-out to many is as many rows as this.
CREATE TABLE relay.pointer (
    mailbox int8 NOT NULL,
    seq     int8 NOT NULL,
    day     int4 NOT NULL,
    size    int4 NOT NULL,
    PRIMARY KEY (mailbox, seq, day) INCLUDE (size)
) PARTITION BY LIST (day);

-- "(mailbox, id) was acknowledged": a later copy is swallowed.
CREATE TABLE relay.ack_mark (
    mailbox int8 NOT NULL,
    day     int4 NOT NULL,
    id      bytea NOT NULL,
    PRIMARY KEY (id, mailbox, day)
) PARTITION BY LIST (day);

-- Who belongs to a group, as far as this relay was told.
CREATE TABLE relay.membership (
    group_id    bytea PRIMARY KEY,
    owner       bytea NOT NULL,
    -- True until an owner's signed update: the members were inferred from a first message.
    provisional boolean NOT NULL,
    members     bytea[] NOT NULL,
    -- `ts` of the update in force, as the owner signed it.
    updated_ts  float8 NOT NULL,
    -- Digests of the last updates applied, newest last: an exact replay is recognised.
    applied     bytea[] NOT NULL DEFAULT '{}',
    last_used   date NOT NULL DEFAULT CURRENT_DATE
);
CREATE INDEX membership_by_last_used ON relay.membership (last_used);

-- Sequence numbers by time, one a minute: readers start behind what has expired.
CREATE TABLE relay.seq_mark (
    at  timestamptz PRIMARY KEY,
    seq int8 NOT NULL
);

-- Puts seq_base above every stored number when the cluster is not the one that made them
-- (restored dump): its transaction ids are lower. Returns true when it did.
CREATE FUNCTION relay.rebase() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here int8 := (SELECT system_identifier FROM pg_control_system());
    top  int8;
BEGIN
    -- FOR UPDATE: replicas starting together rebase once.
    PERFORM 1 FROM relay.state FOR UPDATE;
    IF (SELECT s.system_identifier = here FROM relay.state s) THEN
        RETURN false;
    END IF;
    SELECT GREATEST(
        (SELECT max(seq) FROM relay.envelope),
        (SELECT max(seq) FROM relay.fanout),
        (SELECT max(seq) FROM relay.seq_mark),
        0) INTO top;
    UPDATE relay.state SET system_identifier = here, seq_base = ((top >> 16) + 1) << 16;
    RETURN true;
END $$;

INSERT INTO relay.state (seq_base, system_identifier, mailbox_salt)
SELECT 0, system_identifier, uuid_send(gen_random_uuid()) FROM pg_control_system();

SELECT switchyard.register_day_partitioned(name, 'switchyard_relay')
FROM unnest('{relay.envelope,relay.fanout,relay.pointer,relay.ack_mark}'::regclass[]) AS name;

GRANT SELECT ON relay.state TO switchyard_relay;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON relay.envelope, relay.fanout, relay.pointer, relay.ack_mark, relay.membership,
       relay.seq_mark
    TO switchyard_relay;
REVOKE ALL ON FUNCTION relay.rebase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION relay.rebase TO switchyard_relay;
