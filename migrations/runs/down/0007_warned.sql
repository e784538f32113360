ALTER TABLE env_lock DROP COLUMN warned;
