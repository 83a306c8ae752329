CREATE OR REPLACE FUNCTION relay.day_of(at timestamptz) RETURNS int4
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(extract(epoch FROM at) / 86400)::int4;
