-- Of each line that is said, the event of its run that it tells of; of each deployment, how many of it run where that is known;
-- of each stage, how long it waited for its turn before it began.
ALTER TABLE outbox ADD COLUMN event BIGINT;
ALTER TABLE deployment ADD COLUMN replicas BIGINT;
ALTER TABLE stage ADD COLUMN waited BIGINT;
