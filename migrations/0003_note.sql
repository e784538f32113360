-- Words that wait for somebody until they are on the partyline.
CREATE TABLE note (
    id        BIGINT PRIMARY KEY,
    recipient TEXT NOT NULL,
    sender    TEXT NOT NULL,
    at        TEXT NOT NULL,
    text      TEXT NOT NULL
);

CREATE INDEX note_of ON note (recipient, id);
