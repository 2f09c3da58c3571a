-- Runs, their events in batches as they arrived, and the tokens of references.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    created_ns INTEGER NOT NULL,          -- unix time
    started_ns INTEGER,
    ended_ns INTEGER,
    status TEXT NOT NULL,
    model TEXT NOT NULL,
    backend TEXT NOT NULL,
    techniques TEXT NOT NULL,             -- JSON list of keys
    device TEXT NOT NULL,
    num_beams INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    preview TEXT NOT NULL,                -- start of the first input
    request TEXT NOT NULL,                -- JSON
    digest TEXT NOT NULL,                 -- hash of the request
    machine TEXT NOT NULL,                -- JSON
    fingerprint TEXT NOT NULL,            -- hash of the machine
    observed_by TEXT NOT NULL,
    random_weights INTEGER NOT NULL DEFAULT 0,
    error TEXT,                           -- JSON of an ErrorRecord
    owner_pid INTEGER NOT NULL,           -- the process whose executor carries the run out
    owner_started REAL NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    time_to_first_token_ns INTEGER,
    itl_p50_ns INTEGER,
    itl_p95_ns INTEGER,
    tokens_per_second REAL,
    total_ns INTEGER,
    tokens INTEGER,
    peak_rss_bytes INTEGER,
    weight_bytes INTEGER,
    equal_share REAL,
    first_difference_step INTEGER
);
CREATE INDEX runs_created ON runs (created_ns DESC);
CREATE INDEX runs_status ON runs (status);

CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    lines TEXT NOT NULL,                  -- events, one JSON object a line
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

CREATE TABLE reference_tokens (
    digest TEXT PRIMARY KEY,
    token_ids TEXT NOT NULL,              -- JSON list of lists
    texts TEXT NOT NULL,                  -- JSON list
    made_by TEXT NOT NULL                 -- words: what computed it
);
