-- What was pushed to registries, by a stage of ours (`run`) or as a registry told it. `size` is in bytes where it is known.
CREATE TABLE image (
    repo   TEXT NOT NULL,
    tag    TEXT NOT NULL,
    digest TEXT NOT NULL,
    size   BIGINT,
    pushed BIGINT NOT NULL,
    run    BIGINT REFERENCES run (number) ON DELETE SET NULL,
    PRIMARY KEY (repo, tag, digest)
);
CREATE INDEX image_pushed ON image (pushed);
CREATE INDEX image_repo ON image (repo, pushed);
CREATE INDEX image_run ON image (run);
