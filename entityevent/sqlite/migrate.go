package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaSteps returns all migrations. Those that are written in SQL are run as they stand: goose's own reader of SQL clears
// megabytes for each file, at each start.
func schemaSteps() ([]*goose.Migration, error) {
	all := []*goose.Migration{addParents}
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		version, err := goose.NumericComponent(file.Name())
		if err != nil {
			return nil, err
		}
		text, err := migrations.ReadFile("migrations/" + file.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, string(text))
			return err
		}}, nil))
	}
	return all, nil
}

// versionQuery is asked first because goose takes a version that it cannot read for none.
const versionQuery = `SELECT count(*), max(version_id) FROM goose_db_version`

func probe(path string) error {
	c, err := openConn(path, pragmas)
	if err != nil {
		return err
	}
	skip := func([]driver.Value) {}
	found, err := c.one(`SELECT 1 FROM sqlite_schema WHERE name = 'goose_db_version'`, skip)
	if err == nil && found {
		_, err = c.one(versionQuery, skip)
	}
	return errors.Join(err, c.close())
}

// migrate brings the schema up to this program's version, each step in a transaction of its own.
func migrate(ctx context.Context, path string) (err error) {
	if err := probe(path); err != nil {
		return err
	}
	db := sql.OpenDB(connector(dsn(path, writerPragmas)))
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	all, err := schemaSteps()
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, nil,
		goose.WithGoMigrations(all...), goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	has, knows, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if has > knows {
		return fmt.Errorf("its schema is version %d, this program knows up to %d: use a newer resosync", has, knows)
	}
	_, err = provider.Up(ctx)
	return err
}

// connector opens connections for migrations: they know what is computed in Go.
type connector string

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(string(c)) }

// Driver implements driver.Connector.
func (connector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{ConnectHook: registerColumns} }
