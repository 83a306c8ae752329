DROP TABLE peer_linker.sibling_secret;
ALTER TABLE peer_linker.node DROP COLUMN address;
