-- Every line the bot says, what became of it and why it was said. at, until, sent: Unix milliseconds. cause: JSON.
CREATE TABLE said (
    id      BIGINT PRIMARY KEY,
    network TEXT NOT NULL,
    target  TEXT NOT NULL,
    place   TEXT NOT NULL,
    text    TEXT NOT NULL,
    how     TEXT NOT NULL,
    class   TEXT NOT NULL,
    state   TEXT NOT NULL,
    at      BIGINT NOT NULL,
    until   BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    msgid   TEXT,
    reason  TEXT NOT NULL,
    page    TEXT,
    cause   TEXT NOT NULL
);

CREATE INDEX said_state ON said (state, id);
CREATE INDEX said_place ON said (place, id);
CREATE INDEX said_msgid ON said (msgid);
CREATE INDEX said_page ON said (page, id);

-- On which networks lines may have left since this was last written: 1 from before a connection is made until it is gone.
CREATE TABLE said_network (
    name    TEXT PRIMARY KEY,
    sending BIGINT NOT NULL
);
