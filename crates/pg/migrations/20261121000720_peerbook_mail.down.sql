DROP TABLE peerbook.outbox, peerbook.throttle, peerbook.guess, peerbook.totp, peerbook.token;
