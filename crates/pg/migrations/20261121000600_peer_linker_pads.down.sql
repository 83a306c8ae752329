DROP TABLE peer_linker.pad, peer_linker.node;
