ALTER TABLE signal.session DROP COLUMN changed;
