-- The newest number that was given of what is forgotten when it is over, so that none is given twice.
CREATE TABLE counter (
    name   TEXT PRIMARY KEY,
    newest BIGINT NOT NULL
);
INSERT INTO counter SELECT 'booking', MAX(id) FROM booking HAVING COUNT(*) > 0;
