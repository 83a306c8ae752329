DROP TABLE mesh.interest, mesh.replica;
DROP INDEX mesh.post_by_seq;
ALTER TABLE mesh.post DROP COLUMN seq, DROP COLUMN carried;
