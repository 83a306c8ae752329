DROP TABLE channel_hub.sibling_secret;
ALTER TABLE channel_hub.node DROP COLUMN address;
