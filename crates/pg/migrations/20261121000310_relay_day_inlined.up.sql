-- extract(epoch FROM timestamptz) counts as STABLE, and the planner does not inline an IMMUTABLE
-- function over it: every comparison of a day ran it through the function interpreter, which was
-- half of what a fetch of an empty mailbox cost Postgres. Differences of times and the epoch of
-- an interval are IMMUTABLE, so this one is inlined; its values are the same.
CREATE OR REPLACE FUNCTION relay.day_of(at timestamptz) RETURNS int4
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(extract(epoch FROM (at - timestamptz '1970-01-01 00:00:00+00')) / 86400)::int4;
