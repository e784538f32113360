-- For which end of a lock it was told that it is near, so that a bot that starts again does not tell it once more.
ALTER TABLE env_lock ADD COLUMN warned BIGINT;
