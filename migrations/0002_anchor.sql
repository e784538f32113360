-- What stands for the newest line of a chain that is kept elsewhere, so that its end cannot be cut off unseen.
CREATE TABLE anchor (
    name TEXT PRIMARY KEY,
    id   BIGINT NOT NULL,
    hash TEXT NOT NULL
);
