-- Bots of the mesh. settings: JSON, NULL where the configuration has them. password, fingerprint: what was learned when a bot
-- first linked.
CREATE TABLE bots (
    handle      TEXT PRIMARY KEY,
    settings    TEXT,
    password    TEXT,
    fingerprint TEXT
);
