-- What came of runs that ended within an hour or a day, by place: kept in step with `run` as rows of it change, and left when they
-- are forgotten. `span` is `hour` or `day`, `at` its beginning; times are sums.
CREATE TABLE rollup (
    span      TEXT NOT NULL,
    at        BIGINT NOT NULL,
    app       TEXT NOT NULL,
    env       TEXT NOT NULL,
    ended     BIGINT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed    BIGINT NOT NULL,
    began     BIGINT NOT NULL,
    waited    BIGINT NOT NULL,
    ran       BIGINT NOT NULL,
    PRIMARY KEY (span, at, app, env)
);
CREATE INDEX rollup_app ON rollup (span, app, at);

INSERT INTO rollup
    SELECT 'hour', finished - finished % 3600000, app, env, COUNT(*),
        SUM(CASE WHEN state = 'succeeded' THEN 1 ELSE 0 END),
        SUM(CASE WHEN state IN ('failed', 'timed_out', 'rolled_back', 'rollback_failed') THEN 1 ELSE 0 END),
        SUM(CASE WHEN started IS NULL THEN 0 ELSE 1 END),
        SUM(CASE WHEN started IS NULL THEN 0 ELSE started - created END),
        SUM(CASE WHEN started IS NULL THEN 0 ELSE finished - started END)
    FROM run WHERE ended = 1 AND finished IS NOT NULL GROUP BY finished - finished % 3600000, app, env;
INSERT INTO rollup
    SELECT 'day', at - at % 86400000, app, env, SUM(ended), SUM(succeeded), SUM(failed), SUM(began), SUM(waited), SUM(ran)
    FROM rollup WHERE span = 'hour' GROUP BY at - at % 86400000, app, env;
