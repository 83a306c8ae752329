-- Roles belong to the whole cluster, and several databases may be migrated at the same time: each
-- role is made when missing, and losing the race to make it is as good as having made it.
DO $$
DECLARE
    wanted name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['switchyard_signal', 'switchyard_relay']::name[] LOOP
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

CREATE SCHEMA switchyard;
COMMENT ON SCHEMA switchyard IS 'What every service needs: which migrations ran, partitions by day.';
GRANT USAGE ON SCHEMA switchyard TO switchyard_signal, switchyard_relay;

-- Services refuse a schema they do not know, so they have to see which one it is.
GRANT SELECT ON _sqlx_migrations TO switchyard_signal, switchyard_relay;

-- Tables whose days come and go. Only these may be partitioned through the functions below.
CREATE TABLE switchyard.day_partitioned (
    schema_name name NOT NULL,
    table_name  name NOT NULL,
    -- Who may have partitions made and dropped.
    role_name   name NOT NULL,
    -- Storage parameters of each partition, such as 'fillfactor = 90'; a parent cannot hold them.
    options     text NOT NULL DEFAULT '',
    PRIMARY KEY (schema_name, table_name)
);

CREATE FUNCTION switchyard.today() RETURNS int4
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog
    AS $$ SELECT floor(extract(epoch FROM now()) / 86400)::int4 $$;
COMMENT ON FUNCTION switchyard.today IS 'Whole days since the epoch, UTC.';

-- For migrations: called by whoever owns the table.
CREATE FUNCTION switchyard.register_day_partitioned(parent regclass, role_name name, options text DEFAULT '')
    RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog
    AS $$
        INSERT INTO switchyard.day_partitioned (schema_name, table_name, role_name, options)
        SELECT n.nspname, c.relname, role_name, options
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = parent AND c.relkind = 'p'
        ON CONFLICT (schema_name, table_name)
            DO UPDATE SET role_name = excluded.role_name, options = excluded.options
    $$;
REVOKE ALL ON FUNCTION switchyard.register_day_partitioned FROM PUBLIC;

-- The entry of `parent`, locked against the same work elsewhere, or an error. Inside a function that
-- runs with its owner's rights the caller is known by the role it took on, else by its login.
CREATE FUNCTION switchyard.claim_day_partitioned(parent regclass)
    RETURNS switchyard.day_partitioned
    LANGUAGE plpgsql
    SET search_path = pg_catalog
    AS $$
    DECLARE
        entry  switchyard.day_partitioned;
        caller name := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    BEGIN
        SELECT d.* INTO entry
        FROM switchyard.day_partitioned d
            JOIN pg_namespace n ON n.nspname = d.schema_name
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = d.table_name
        WHERE c.oid = parent;
        IF NOT FOUND OR NOT pg_has_role(caller, entry.role_name, 'MEMBER') THEN
            RAISE insufficient_privilege USING MESSAGE =
                format('%s may not partition %s', caller, parent);
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended('switchyard.day_partitioned', parent::oid::int8));
        RETURN entry;
    END
    $$;
REVOKE ALL ON FUNCTION switchyard.claim_day_partitioned FROM PUBLIC;

CREATE FUNCTION switchyard.ensure_day_partitions(parent regclass, first_day int4, last_day int4)
    RETURNS int4
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog
    SET lock_timeout = '2s'
    AS $$
    DECLARE
        entry switchyard.day_partitioned := switchyard.claim_day_partitioned(parent);
        strategy "char" := (SELECT partstrat FROM pg_partitioned_table WHERE partrelid = parent);
        child text;
        made  int4 := 0;
    BEGIN
        IF last_day::int8 - first_day > 1000 THEN
            RAISE invalid_parameter_value USING MESSAGE = 'more than 1000 days at once';
        END IF;
        FOR day IN first_day..last_day LOOP
            child := format('%I.%I', entry.schema_name, format('%s_d%s', entry.table_name, day));
            CONTINUE WHEN to_regclass(child) IS NOT NULL;
            -- Making the table first and attaching it then takes a lock that lets readers and
            -- writers of the parent go on; CREATE … PARTITION OF would stop them.
            EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)%s', child, parent,
                CASE WHEN entry.options <> '' THEN format(' WITH (%s)', entry.options) ELSE '' END);
            IF strategy = 'r' THEN
                EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)',
                    parent, child, day, day::int8 + 1);
            ELSE
                EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%s)',
                    parent, child, day);
            END IF;
            made := made + 1;
        END LOOP;
        RETURN made;
    END
    $$;
REVOKE ALL ON FUNCTION switchyard.ensure_day_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION switchyard.ensure_day_partitions TO switchyard_signal, switchyard_relay;

CREATE FUNCTION switchyard.drop_day_partitions(parent regclass, before_day int4)
    RETURNS int4
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog
    SET lock_timeout = '1s'
    AS $$
    DECLARE
        entry switchyard.day_partitioned := switchyard.claim_day_partitioned(parent);
        child text;
        dropped int4 := 0;
    BEGIN
        FOR child IN
            SELECT format('%I.%I', n.nspname, c.relname)
            FROM pg_inherits i
                JOIN pg_class c ON c.oid = i.inhrelid
                JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE i.inhparent = parent AND n.nspname = entry.schema_name
              AND starts_with(c.relname, entry.table_name || '_d')
              AND substr(c.relname, length(entry.table_name) + 3) ~ '^-?[0-9]{1,9}$'
              AND substr(c.relname, length(entry.table_name) + 3)::int4 < before_day
        LOOP
            EXECUTE format('DROP TABLE %s', child);
            dropped := dropped + 1;
        END LOOP;
        RETURN dropped;
    END
    $$;
REVOKE ALL ON FUNCTION switchyard.drop_day_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION switchyard.drop_day_partitions TO switchyard_signal, switchyard_relay;

CREATE SCHEMA signal;
COMMENT ON SCHEMA signal IS 'Sessions, nonces and last-seen times of the signal service.';
GRANT USAGE ON SCHEMA signal TO switchyard_signal;

CREATE SCHEMA relay;
COMMENT ON SCHEMA relay IS 'Mailboxes, groups and blobs of the relay service.';
GRANT USAGE ON SCHEMA relay TO switchyard_relay;
