package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// cursorHeader names the log that a reader follows and how far it is: <log id>/<profile>:<sequence>.
const cursorHeader = "EntityEvent-Cursor"

// RestoredState says that the store was restored from a backup: somebody had read further in this log than
// the log now goes, so its numbers are given out a second time, for other events.
type RestoredState struct {
	Log  entityevent.LogID    `json:"log"`
	Seq  entityevent.Sequence `json:"seq"`  // where the reader stood
	Head entityevent.Sequence `json:"head"` // where the log ended then
	By   string               `json:"by"`   // the client or subscription that showed it
	At   time.Time            `json:"at"`
}

// The one document of this kind is of the log that it names: resosync log new-id ends it.
const (
	restoredKind = "restored"
	restoredID   = "log"
)

// restoredDoc is a proof, and who is not believed: what they say of this log is no proof.
type restoredDoc struct {
	RestoredState
	Disbelieved []string `json:"disbelieved,omitempty"`
}

func (d restoredDoc) believes(by string) bool { return !slices.Contains(d.Disbelieved, by) }

// Restored returns what proves that the store was restored from a backup and not named anew since; nil
// without a proof.
func Restored(ctx context.Context, store Store) (*RestoredState, error) {
	state, _, err := readRestored(ctx, store)
	if err != nil || state.Log != store.LogID() || !state.believes(state.By) {
		return nil, err
	}
	return &state.RestoredState, nil
}

// ErrNotRestored says that there is no proof of a restore.
var ErrNotRestored = errors.New("nobody who is believed was ahead of the log: there is nothing to dismiss")

// Disbelieve ends a proof that is none, for the store was not restored, and returns it. Whoever gave it is believed
// no more, until the log gets another name: any client can claim a position. Without a proof it is ErrNotRestored.
func Disbelieve(ctx context.Context, store Store) (RestoredState, error) {
	state, version, err := readRestored(ctx, store)
	switch {
	case err != nil:
		return state.RestoredState, err
	case state.Log != store.LogID() || !state.believes(state.By):
		return state.RestoredState, ErrNotRestored
	}
	state.Disbelieved = append(state.Disbelieved, state.By)
	return state.RestoredState, writeRestored(ctx, store, state, version)
}

func readRestored(ctx context.Context, store Store) (state restoredDoc, version int64, err error) {
	doc, err := store.Get(ctx, restoredKind, restoredID)
	if err == nil && doc.Version > 0 {
		err = json.Unmarshal(doc.Body, &state)
	}
	if err != nil {
		return state, 0, fmt.Errorf("proof of a restore: %w", err)
	}
	return state, doc.Version, nil
}

func writeRestored(ctx context.Context, store Store, state restoredDoc, version int64) error {
	body, err := json.Marshal(state)
	if err != nil {
		return err
	}
	doc := entityevent.Doc{Kind: restoredKind, ID: restoredID, Version: version, Body: body}
	if _, err = store.Apply(ctx, entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
		return fmt.Errorf("proof of a restore: %w", err)
	}
	return nil
}

// cursor is a position that a reader names.
type cursor struct {
	log entityevent.LogID
	seq entityevent.Sequence
}

// parseCursor reads an EntityEvent-Cursor. It is false for anything else.
func parseCursor(text string) (cursor, bool) {
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return cursor{}, false
	}
	log, _, _ := strings.Cut(text[:at], "/")
	n, err := strconv.ParseUint(text[at+1:], 10, 63)
	return cursor{entityevent.LogID(log), entityevent.Sequence(n)}, err == nil && log != ""
}

// checkCursor compares the position of a reader with the head. It must be called after the reader named
// it, for it reads the head anew: what he has read was committed by then. A position above the head of
// the log that it names proves a restore, which is noted, and logged the first time.
func checkCursor(ctx context.Context, store Store, logger *slog.Logger, by string, c cursor) (restored bool, err error) {
	if c.log != store.LogID() {
		return false, nil
	}
	page, err := store.Events(ctx, entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone},
		entityevent.EventQuery{After: math.MaxInt64, Limit: 1})
	if err != nil || page.Log != c.log || c.seq <= page.Head {
		return false, err
	}
	return true, noteRestored(ctx, store, logger, RestoredState{Log: c.log, Seq: c.seq, Head: page.Head, By: by, At: time.Now().UTC()})
}

// noteRestored stores a proof, unless there is one, or whoever gives it is not believed.
func noteRestored(ctx context.Context, store Store, logger *slog.Logger, state RestoredState) error {
	old, version, err := readRestored(ctx, store)
	if err != nil {
		return err
	}
	next := restoredDoc{RestoredState: state}
	if old.Log == state.Log {
		if old.believes(old.By) || !old.believes(state.By) {
			return nil
		}
		next.Disbelieved = old.Disbelieved
	}
	switch err := writeRestored(ctx, store, next, version); {
	case errors.Is(err, entityevent.ErrConflict):
		return nil // another reader was faster
	case err != nil:
		return err
	}
	logger.Error("the store was restored from a backup: a reader is ahead of its log; run: resosync log new-id; if it was not, run: resosync log keep-id",
		"by", state.By, "seq", state.Seq, "head", state.Head)
	return nil
}

// checkCursor answers 410 to a reader of EntityEvent that is ahead of the log that it names. Whatever else
// the header holds is ignored, as an unknown header is.
func (x *exchange) checkCursor() error {
	c, ok := parseCursor(x.r.Header.Get(cursorHeader))
	if !ok {
		return nil
	}
	restored, err := checkCursor(x.r.Context(), x.Store, x.logger(), "client "+x.client.Name, c)
	if err != nil || !restored {
		return err
	}
	return &odata.Error{Status: http.StatusGone, Code: "Restored", Target: cursorHeader,
		Message: fmt.Sprintf("The log ends below %d, where this cursor stands: it was restored from a backup. "+
			"Its operator gives it a new name; when EntityEvent-Log changes, synchronise anew.", c.seq)}
}

// checkCursor looks at the position that a subscriber answers with. Below what was just pushed it needs no
// look at the head.
func (r *run) checkCursor(ctx context.Context, b batch, got answer) {
	c, ok := parseCursor(got.cursor)
	if !ok || c.seq <= b.through {
		return
	}
	by := "subscription " + r.sub.Name
	if r.sub.Self != "" { // its client registers as many as it likes, and is to be dismissed once
		by = "client " + r.sub.Client
	}
	// A proof that could not be stored comes with the next answer again.
	if _, err := checkCursor(ctx, r.Store, r.log, by, c); err != nil && ctx.Err() == nil {
		r.log.Warn("the subscriber's position was not compared with the log", "seq", c.seq, "err", err)
	}
}
