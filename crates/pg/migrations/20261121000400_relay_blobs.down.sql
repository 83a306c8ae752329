DROP TABLE relay.blob_garbage, relay.blob_piece, relay.blob_chunk, relay.upload, relay.blob;
DELETE FROM switchyard.day_partitioned
    WHERE schema_name = 'relay' AND table_name IN ('blob_chunk', 'blob_piece');
