-- The roles stay: they belong to the cluster, and another database may use them.
DROP SCHEMA peerbook;
DROP SCHEMA channel_hub;
DROP SCHEMA peer_linker;
REVOKE SELECT ON _sqlx_migrations
    FROM switchyard_peer_linker, switchyard_channel_hub, switchyard_peerbook;
REVOKE USAGE ON SCHEMA switchyard
    FROM switchyard_peer_linker, switchyard_channel_hub, switchyard_peerbook;
