-- Blobs of the relay: what is stored, uploads in progress, and the bytes of both.
--
-- Texts that came from a client are WTF-8 in bytea (JSON strings may hold NUL and lone
-- surrogates). In keys, a text longer than 255 bytes is replaced by 0xff and its SHA-256:
-- 0xff occurs in no WTF-8, so a replaced key equals no other text.
--
-- Bytes are cut into pieces of at most 256 KiB. A part is a run of pieces written by one
-- request; a chunk row says which part is in force; a storage is a set of chunks. A finished
-- upload hands its storage to the blob, so the bytes are written once.

-- A blob that can be downloaded until `expires_at`. Reading compares the time itself; the row
-- goes later.
CREATE TABLE relay.blob (
    id         bytea PRIMARY KEY,
    sender     bytea NOT NULL,
    group_id   bytea NOT NULL,
    file_name  bytea NOT NULL,
    mime_type  bytea,
    size_bytes int8 NOT NULL,
    chunks     int4 NOT NULL,
    -- Length in bytes of the payload's text as a JSON string body, kept as chunk -1 when it is
    -- not what encoding the bytes again would give.
    text_bytes int8,
    storage    uuid NOT NULL,
    drop_day   int4 NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX blob_by_sender ON relay.blob (sender, expires_at) INCLUDE (size_bytes);
CREATE INDEX blob_by_expiry ON relay.blob (expires_at);

-- A chunked upload nobody completed yet.
CREATE TABLE relay.upload (
    id           bytea NOT NULL,
    sender       bytea NOT NULL,
    group_id     bytea NOT NULL,
    storage      uuid NOT NULL,
    drop_day     int4 NOT NULL,
    total_chunks int4 NOT NULL,
    received     int4 NOT NULL DEFAULT 0,
    size_bytes   int8 NOT NULL DEFAULT 0,
    -- Raised by every chunk: a signature checked at one revision says nothing about the next.
    revision     int8 NOT NULL DEFAULT 0,
    -- Whose quota the bytes count against until somebody signs for them: an IPv4 address or
    -- the first 8 bytes of an IPv6 one.
    address      bytea NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (id, sender, group_id)
);
CREATE INDEX upload_by_address ON relay.upload (address, expires_at) INCLUDE (size_bytes);
CREATE INDEX upload_by_expiry ON relay.upload (expires_at);

-- Partitions are named after the day they are dropped on, which is later than the expiry of
-- everything in them by at least a day: a download that began in time can end.
CREATE TABLE relay.blob_chunk (
    storage    uuid NOT NULL,
    chunk      int4 NOT NULL,
    drop_day   int4 NOT NULL,
    part       uuid NOT NULL,
    size_bytes int8 NOT NULL,
    PRIMARY KEY (storage, chunk, drop_day)
) PARTITION BY LIST (drop_day);

CREATE TABLE relay.blob_piece (
    part     uuid NOT NULL,
    piece    int4 NOT NULL,
    drop_day int4 NOT NULL,
    bytes    bytea NOT NULL,
    PRIMARY KEY (part, piece, drop_day)
) PARTITION BY LIST (drop_day);
-- Media and ciphertext do not compress; EXTERNAL also lets a range be read alone.
ALTER TABLE relay.blob_piece ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Storages nobody refers to any more; their pieces are deleted in small steps, long before
-- the partition goes.
CREATE TABLE relay.blob_garbage (
    storage  uuid PRIMARY KEY,
    drop_day int4 NOT NULL
);

SELECT switchyard.register_day_partitioned('relay.blob_chunk', 'switchyard_relay'),
       switchyard.register_day_partitioned('relay.blob_piece', 'switchyard_relay');

GRANT SELECT, INSERT, UPDATE, DELETE
    ON relay.blob, relay.upload, relay.blob_chunk, relay.blob_piece, relay.blob_garbage
    TO switchyard_relay;
