-- +goose Up

-- The current records. The body stands last, so that a look at the rest reads no overflow pages. A gone
-- record keeps its row: body NULL, hash 16 zero bytes. Text compares by its bytes throughout.
CREATE TABLE records (
	feed        TEXT NOT NULL,
	resource    TEXT NOT NULL,
	key         TEXT NOT NULL,
	hash        BLOB NOT NULL,
	version     INTEGER NOT NULL, -- of its last event
	views       INTEGER NOT NULL, -- who sees it now
	seen        INTEGER NOT NULL, -- who ever saw it
	modified_at INTEGER,          -- unix microseconds
	pass        INTEGER NOT NULL DEFAULT 0,
	body        TEXT
) STRICT;
CREATE UNIQUE INDEX records_ref ON records (feed, resource, key);

-- The log. Whether an event is its record's newest is told by records.version, without an index here.
CREATE TABLE events (
	feed     TEXT NOT NULL,
	seq      INTEGER NOT NULL,
	resource TEXT NOT NULL,
	key      TEXT NOT NULL,
	views    INTEGER NOT NULL,
	at       INTEGER NOT NULL, -- unix microseconds
	PRIMARY KEY (feed, seq)
) STRICT, WITHOUT ROWID;

-- What was received and waits to be applied.
CREATE TABLE inbox (
	feed     TEXT NOT NULL,
	seq      INTEGER NOT NULL,
	resource TEXT NOT NULL,
	key      TEXT NOT NULL,
	url      TEXT NOT NULL,
	PRIMARY KEY (feed, seq, resource, key)
) STRICT, WITHOUT ROWID;

-- What was seen of a feed above its cursor.
CREATE TABLE recent (
	feed     TEXT NOT NULL,
	seq      INTEGER NOT NULL,
	resource TEXT NOT NULL,
	key      TEXT NOT NULL,
	at       INTEGER NOT NULL, -- first seen, unix microseconds
	PRIMARY KEY (feed, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE aside (
	feed     TEXT NOT NULL,
	resource TEXT NOT NULL,
	key      TEXT NOT NULL,
	kind     TEXT NOT NULL,
	reason   TEXT NOT NULL,
	tries    INTEGER NOT NULL,
	next_at  INTEGER, -- unix microseconds; NULL: not by itself
	PRIMARY KEY (feed, resource, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX aside_due ON aside (feed, next_at, resource, key);

CREATE TABLE cursors (
	feed      TEXT NOT NULL PRIMARY KEY,
	log       TEXT NOT NULL DEFAULT '',
	seq       INTEGER NOT NULL DEFAULT 0,
	started   INTEGER NOT NULL DEFAULT 0,
	marked    INTEGER NOT NULL DEFAULT 0,
	cleared   INTEGER NOT NULL DEFAULT 0,
	unsettled INTEGER NOT NULL DEFAULT 0,
	pending   INTEGER NOT NULL DEFAULT 0 -- rows of the feed in inbox
) STRICT, WITHOUT ROWID;

CREATE TABLE docs (
	kind    TEXT NOT NULL,
	id      TEXT NOT NULL,
	version INTEGER NOT NULL,
	body    TEXT NOT NULL,
	PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- One row. The log's id is a random (version 4) UUID; the counter is the newest sequence given out.
CREATE TABLE meta (
	id      INTEGER PRIMARY KEY CHECK (id = 1),
	log     TEXT NOT NULL,
	counter INTEGER NOT NULL
) STRICT;
INSERT INTO meta (id, log, counter)
SELECT 1, substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-' ||
	substr('89ab', 1 + (unicode(substr(h, 17, 1)) & 3), 1) || substr(h, 18, 3) || '-' || substr(h, 21, 12), 0
FROM (SELECT lower(hex(randomblob(16))) AS h);
