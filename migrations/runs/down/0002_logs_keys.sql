DROP TABLE log_segment;

CREATE TABLE deployment_old (
    app       TEXT NOT NULL,
    env       TEXT NOT NULL,
    run       BIGINT NOT NULL REFERENCES run (number),
    version   TEXT NOT NULL,
    sha       TEXT NOT NULL,
    at        BIGINT NOT NULL,
    validated BIGINT NOT NULL,
    outputs   TEXT NOT NULL,
    PRIMARY KEY (app, env, run)
);
INSERT INTO deployment_old SELECT app, env, run, version, sha, at, validated, outputs FROM deployment;
DROP TABLE deployment;
ALTER TABLE deployment_old RENAME TO deployment;

CREATE TABLE outbox_old (
    dedupe TEXT PRIMARY KEY,
    run    BIGINT NOT NULL,
    target TEXT NOT NULL,
    text   TEXT NOT NULL,
    at     BIGINT NOT NULL,
    sent   BIGINT
);
INSERT INTO outbox_old SELECT dedupe, COALESCE(run, 0), target, text, at, sent FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_old RENAME TO outbox;
CREATE INDEX outbox_waiting ON outbox (sent, at);

CREATE TABLE env_lock_old (
    place    TEXT PRIMARY KEY,
    handle   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    since    BIGINT NOT NULL,
    until    BIGINT,
    rollback BIGINT NOT NULL,
    said_in  TEXT NOT NULL
);
INSERT INTO env_lock_old SELECT place, handle, reason, since, until, rollback, said_in FROM env_lock;
DROP TABLE env_lock;
ALTER TABLE env_lock_old RENAME TO env_lock;

-- Places that are known for their lock alone were not there before.
DELETE FROM environment WHERE place IN (SELECT place FROM env_lock)
    AND NOT EXISTS (SELECT 1 FROM run WHERE run.app = environment.app AND run.env = environment.name);
DELETE FROM app WHERE NOT EXISTS (SELECT 1 FROM environment WHERE environment.app = app.name)
    AND NOT EXISTS (SELECT 1 FROM pipeline WHERE pipeline.app = app.name);
DROP INDEX environment_place;
ALTER TABLE environment DROP COLUMN place;

DROP INDEX run_finished;
DROP INDEX run_app;
