ALTER TABLE outbox DROP COLUMN event;
ALTER TABLE deployment DROP COLUMN replicas;
ALTER TABLE stage DROP COLUMN waited;
