-- Which parts of an attempt's log are kept: offsets in what is kept, in the order in which they are read.
CREATE TABLE log_segment (
    run     BIGINT NOT NULL,
    stage   TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    part    BIGINT NOT NULL,
    file    TEXT NOT NULL,
    begins  BIGINT NOT NULL,
    ends    BIGINT NOT NULL,
    PRIMARY KEY (run, stage, attempt, part),
    FOREIGN KEY (run, stage, attempt) REFERENCES attempt (run, stage, n) ON DELETE CASCADE
);

-- Tables that said nothing of what they belong to are made anew.
CREATE TABLE deployment_new (
    app       TEXT NOT NULL,
    env       TEXT NOT NULL,
    run       BIGINT NOT NULL REFERENCES run (number),
    version   TEXT NOT NULL,
    sha       TEXT NOT NULL,
    at        BIGINT NOT NULL,
    validated BIGINT NOT NULL,
    outputs   TEXT NOT NULL,
    PRIMARY KEY (app, env, run),
    FOREIGN KEY (app, env) REFERENCES environment (app, name)
);
INSERT INTO deployment_new SELECT app, env, run, version, sha, at, validated, outputs FROM deployment;
DROP TABLE deployment;
ALTER TABLE deployment_new RENAME TO deployment;
CREATE INDEX deployment_run ON deployment (run);
CREATE INDEX deployment_at ON deployment (app, env, at, run);

-- A line about a place is of no run.
CREATE TABLE outbox_new (
    dedupe TEXT PRIMARY KEY,
    run    BIGINT REFERENCES run (number) ON DELETE CASCADE,
    target TEXT NOT NULL,
    text   TEXT NOT NULL,
    at     BIGINT NOT NULL,
    sent   BIGINT
);
INSERT INTO outbox_new SELECT dedupe, run, target, text, at, sent FROM outbox WHERE run IN (SELECT number FROM run);
INSERT INTO outbox_new SELECT dedupe, NULL, target, text, at, sent FROM outbox WHERE run NOT IN (SELECT number FROM run);
DROP TABLE outbox;
ALTER TABLE outbox_new RENAME TO outbox;
CREATE INDEX outbox_waiting ON outbox (sent, at);
CREATE INDEX outbox_run ON outbox (run);

-- A lock is on a place, also on one where nothing ran yet.
ALTER TABLE environment ADD COLUMN place TEXT NOT NULL DEFAULT '';
INSERT INTO app (name) SELECT substr(place, 1, instr(place, '/') - 1) FROM env_lock WHERE true ON CONFLICT (name) DO NOTHING;
INSERT INTO environment (app, name)
    SELECT substr(place, 1, instr(place, '/') - 1), substr(place, instr(place, '/') + 1) FROM env_lock WHERE true
    ON CONFLICT (app, name) DO NOTHING;
UPDATE environment SET place = app || '/' || name;
CREATE UNIQUE INDEX environment_place ON environment (place);
CREATE TABLE env_lock_new (
    place    TEXT PRIMARY KEY REFERENCES environment (place),
    handle   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    since    BIGINT NOT NULL,
    until    BIGINT,
    rollback BIGINT NOT NULL,
    said_in  TEXT NOT NULL,
    run      BIGINT REFERENCES run (number) ON DELETE SET NULL
);
INSERT INTO env_lock_new SELECT place, handle, reason, since, until, rollback, said_in, NULL FROM env_lock;
DROP TABLE env_lock;
ALTER TABLE env_lock_new RENAME TO env_lock;
CREATE INDEX env_lock_run ON env_lock (run);

-- The incident log refers to nothing: it outlives the runs it tells of, and a line is never changed.

-- Questions that are asked all day.
CREATE INDEX run_finished ON run (finished);
CREATE INDEX run_app ON run (app, number);
