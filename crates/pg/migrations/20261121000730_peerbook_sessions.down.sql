DROP TABLE peerbook.session, peerbook.node;
