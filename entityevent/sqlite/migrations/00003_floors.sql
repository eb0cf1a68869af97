-- +goose Up

-- The newest event of each feed that was forgotten.
CREATE TABLE floors (
	feed TEXT NOT NULL PRIMARY KEY,
	seq  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
