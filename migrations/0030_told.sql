-- Lines of the incident logs of other bots, as those signed them. hash: over the line before and all fields, as in the bot's own log.
-- signature: base64. bytes: about how much room a line takes, so that it can be bounded.
CREATE TABLE told (
    origin    TEXT NOT NULL,
    id        BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    handle    TEXT NOT NULL,
    app       TEXT NOT NULL,
    env       TEXT NOT NULL,
    run       BIGINT,
    amends    BIGINT,
    text      TEXT NOT NULL,
    prev      TEXT NOT NULL,
    hash      TEXT NOT NULL,
    signature TEXT NOT NULL,
    bytes     BIGINT NOT NULL,
    PRIMARY KEY (origin, id)
);

CREATE INDEX told_at ON told (at);
