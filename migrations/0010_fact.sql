-- What the bots of a mesh tell each other of people: of each thing the newest, with the bot that said so. value: NULL where it is no
-- longer so. signature: base64.
CREATE TABLE fact (
    handle    TEXT NOT NULL,
    about     TEXT NOT NULL,
    name      TEXT NOT NULL,
    value     TEXT,
    version   BIGINT NOT NULL,
    origin    TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (handle, about, name)
);
