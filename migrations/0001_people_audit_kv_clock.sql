-- Written in the subset of SQL that SQLite and PostgreSQL both take.

CREATE TABLE users (
    handle   TEXT PRIMARY KEY,
    flags    TEXT NOT NULL,
    comment  TEXT NOT NULL,
    password TEXT
);

-- What a user has several of. kind: account (scope: network), cert, channel (scope: channel, value: flags), host, role.
CREATE TABLE user_marks (
    handle TEXT NOT NULL REFERENCES users (handle) ON DELETE CASCADE,
    kind   TEXT NOT NULL,
    scope  TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (handle, kind, scope, value)
);

-- Raised with every change of a table that a running bot keeps a copy of.
CREATE TABLE revisions (
    name     TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);

INSERT INTO revisions (name, revision) VALUES ('users', 0);

CREATE TABLE audit (
    id      BIGINT PRIMARY KEY,
    at      TEXT NOT NULL,
    network TEXT NOT NULL,
    actor   TEXT NOT NULL,
    handle  TEXT,
    kind    TEXT NOT NULL,
    mask    TEXT NOT NULL,
    action  TEXT NOT NULL,
    detail  TEXT NOT NULL
);

-- What scripts keep. expires: Unix milliseconds.
CREATE TABLE kv (
    script  TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    expires BIGINT,
    PRIMARY KEY (script, name)
);

-- When each schedule last ran.
CREATE TABLE clock (
    name TEXT PRIMARY KEY,
    ran  TEXT NOT NULL
);
