-- Whose these records are: each bot that begins with them raises the epoch, and who has an older one writes nothing any more.
CREATE TABLE owner (
    id    BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    who   TEXT NOT NULL
);
