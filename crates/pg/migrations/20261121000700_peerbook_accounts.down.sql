DROP TABLE peerbook.pairing, peerbook.peer, peerbook.account;
