-- The roles and schemas of the services that came after signal and relay; as the first migration
-- made theirs: a role is made when missing, and losing the race to make it is as good.
DO $$
DECLARE
    wanted name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'switchyard_peer_linker', 'switchyard_channel_hub', 'switchyard_peerbook'
    ]::name[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'role % is missing and % may not create it', wanted, current_user
                        USING HINT = format('as a superuser: CREATE ROLE %I NOLOGIN;', wanted);
            END;
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA switchyard
    TO switchyard_peer_linker, switchyard_channel_hub, switchyard_peerbook;
GRANT SELECT ON _sqlx_migrations
    TO switchyard_peer_linker, switchyard_channel_hub, switchyard_peerbook;

CREATE SCHEMA peer_linker;
COMMENT ON SCHEMA peer_linker IS 'Pads and who holds them.';
GRANT USAGE ON SCHEMA peer_linker TO switchyard_peer_linker;

CREATE SCHEMA channel_hub;
COMMENT ON SCHEMA channel_hub IS 'Channels and who hosts them.';
GRANT USAGE ON SCHEMA channel_hub TO switchyard_channel_hub;

CREATE SCHEMA peerbook;
COMMENT ON SCHEMA peerbook IS 'Users, their peers, and the mail to be sent to them.';
GRANT USAGE ON SCHEMA peerbook TO switchyard_peerbook;
