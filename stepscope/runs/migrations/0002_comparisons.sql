-- Comparisons: what was asked and found; their processes are runs that name them.
CREATE TABLE comparisons (
    id TEXT PRIMARY KEY,
    created_ns INTEGER NOT NULL,          -- unix time
    ended_ns INTEGER,
    status TEXT NOT NULL,
    spec TEXT NOT NULL,                   -- JSON
    digest TEXT NOT NULL,                 -- hash of the spec
    machine TEXT NOT NULL,                -- JSON
    fingerprint TEXT NOT NULL,
    error TEXT,                           -- JSON of an ErrorRecord
    result TEXT,                          -- JSON of a ComparisonResult, renewed after every process
    owner_pid INTEGER NOT NULL,
    owner_started REAL NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX comparisons_created ON comparisons (created_ns DESC);
ALTER TABLE runs ADD COLUMN comparison TEXT REFERENCES comparisons (id) ON DELETE CASCADE;
ALTER TABLE runs ADD COLUMN variant TEXT;
ALTER TABLE runs ADD COLUMN round INTEGER;
CREATE INDEX runs_comparison ON runs (comparison);
