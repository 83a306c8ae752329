-- Which transaction wrote a row last. A process that reads the rows from the oldest transaction open at its
-- last look on misses none, whatever order they were committed in: generations cannot tell that.
-- A process of an earlier version leaves the column as it is when a peer moves; others then hear of it from the bus.
ALTER TABLE signal.session ADD COLUMN changed bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX session_by_change ON signal.session (changed);
COMMENT ON COLUMN signal.session.changed IS 'Number of the transaction that wrote the row last.';
