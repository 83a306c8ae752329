-- The role stays: it belongs to the cluster, and another database may use it.
DROP SCHEMA mesh CASCADE;
REVOKE SELECT ON _sqlx_migrations FROM switchyard_mesh;
REVOKE USAGE ON SCHEMA switchyard FROM switchyard_mesh;
