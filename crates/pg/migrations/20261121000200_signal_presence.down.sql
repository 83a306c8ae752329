DROP TABLE signal.last_seen, signal.nonce, signal.session, signal.node;
DROP SEQUENCE signal.session_generation;
