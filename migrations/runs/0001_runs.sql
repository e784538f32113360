-- Runs of pipelines, in data/runs.db. Times are Unix milliseconds; what is JSON is written and read whole by the engine.

CREATE TABLE app (
    name TEXT PRIMARY KEY,
    repo TEXT
);

CREATE TABLE environment (
    app  TEXT NOT NULL REFERENCES app (name),
    name TEXT NOT NULL,
    PRIMARY KEY (app, name)
);

-- Every version of a pipeline file that a run used; none is ever changed.
CREATE TABLE pipeline (
    hash    TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    app     TEXT NOT NULL REFERENCES app (name),
    source  TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE run (
    number    BIGINT PRIMARY KEY,
    pipeline  TEXT NOT NULL REFERENCES pipeline (hash),
    app       TEXT NOT NULL,
    env       TEXT NOT NULL,
    kind      TEXT NOT NULL,
    state     TEXT NOT NULL,
    ended     BIGINT NOT NULL,
    requester TEXT NOT NULL,
    idem_key  TEXT,
    created   BIGINT NOT NULL,
    started   BIGINT,
    finished  BIGINT,
    detail    TEXT NOT NULL,
    FOREIGN KEY (app, env) REFERENCES environment (app, name)
);
CREATE INDEX run_open ON run (ended, number);
CREATE INDEX run_place ON run (app, env, number);
CREATE INDEX run_key ON run (idem_key, created);
CREATE INDEX run_created ON run (created);

CREATE TABLE stage (
    run     BIGINT NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    state   TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    class   TEXT,
    started BIGINT,
    ended   BIGINT,
    detail  TEXT NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX stage_times ON stage (name, state, run);

CREATE TABLE attempt (
    run   BIGINT NOT NULL,
    stage TEXT NOT NULL,
    n     BIGINT NOT NULL,
    note  TEXT,
    begun BIGINT NOT NULL,
    ended BIGINT,
    class TEXT,
    exit  BIGINT,
    line  TEXT,
    bytes BIGINT,
    PRIMARY KEY (run, stage, n),
    FOREIGN KEY (run, stage) REFERENCES stage (run, name) ON DELETE CASCADE
) WITHOUT ROWID;

-- What happened, in order; never changed.
CREATE TABLE event (
    run   BIGINT NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    seq   BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    kind  TEXT NOT NULL,
    actor TEXT NOT NULL,
    data  TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;

-- What is to be said. `dedupe` is run:seq:target, so that nothing is said twice.
CREATE TABLE outbox (
    dedupe TEXT PRIMARY KEY,
    run    BIGINT NOT NULL,
    target TEXT NOT NULL,
    text   TEXT NOT NULL,
    at     BIGINT NOT NULL,
    sent   BIGINT
);
CREATE INDEX outbox_waiting ON outbox (sent, at);

-- What went live where.
CREATE TABLE deployment (
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

CREATE TABLE approval (
    run    BIGINT NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    code   TEXT NOT NULL,
    handle TEXT NOT NULL,
    yes    BIGINT NOT NULL,
    reason TEXT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (run, code, handle)
);

CREATE TABLE env_lock (
    place    TEXT PRIMARY KEY,
    handle   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    since    BIGINT NOT NULL,
    until    BIGINT,
    rollback BIGINT NOT NULL,
    said_in  TEXT NOT NULL
);

CREATE TABLE freeze (
    scope  TEXT PRIMARY KEY,
    handle TEXT NOT NULL,
    reason TEXT NOT NULL,
    since  BIGINT NOT NULL,
    until  BIGINT
);

-- The incident log: each line holds the hash of the one before.
CREATE TABLE incident (
    id     BIGINT PRIMARY KEY,
    at     BIGINT NOT NULL,
    handle TEXT NOT NULL,
    app    TEXT NOT NULL,
    env    TEXT NOT NULL,
    run    BIGINT,
    amends BIGINT REFERENCES incident (id),
    text   TEXT NOT NULL,
    prev   TEXT NOT NULL,
    hash   TEXT NOT NULL
);
CREATE INDEX incident_app ON incident (app, id);

CREATE TABLE artifact (
    run    BIGINT NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    stage  TEXT NOT NULL,
    path   TEXT NOT NULL,
    bytes  BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (run, stage, path)
);

CREATE TABLE booking (
    id      BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL,
    handle  TEXT NOT NULL,
    detail  TEXT NOT NULL
);
