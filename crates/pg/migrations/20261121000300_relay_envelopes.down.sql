DELETE FROM switchyard.day_partitioned
WHERE schema_name = 'relay' AND table_name IN ('envelope', 'fanout', 'pointer', 'ack_mark');
DROP FUNCTION relay.rebase();
DROP TABLE relay.seq_mark, relay.membership, relay.ack_mark, relay.pointer,
    relay.fanout, relay.envelope;
DROP FUNCTION relay.seq_horizon(), relay.seq_first(), relay.mailbox(bytea), relay.day_of(timestamptz);
DROP TABLE relay.state;
