-- The roles stay: they belong to the cluster, and another database may use them.
DROP SCHEMA relay;
DROP SCHEMA signal;
DROP SCHEMA switchyard CASCADE;
REVOKE SELECT ON _sqlx_migrations FROM switchyard_signal, switchyard_relay;
