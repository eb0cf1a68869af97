package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The files of a data folder.
const (
	storeFile = "resosync.db"
	keyFile   = "signing.key"
	tokenFile = "admin.token"
	lockFile  = "lock"
)

// lockPatience is how long a command or an agent waits for another command that has the folder.
const lockPatience = 10 * time.Second

// folder is a data folder that this process holds: no other process opens its store.
type folder struct {
	path string
	lock *os.File
}

// holder is what the lock file says about the process that holds it.
type holder struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Address string `json:"address,omitempty"` // URL at which a running agent answers; "" for a command
}

// heldError says that another process holds the folder.
type heldError struct {
	path string
	by   holder
}

func (e heldError) Error() string {
	return fmt.Sprintf("the data folder %s is in use by `resosync %s` (process %d): stop it, or wait for its end", e.path, e.by.Command, e.by.PID)
}

// lockFolder makes the folder on first use (0700) and takes its lock, or returns a heldError at once.
func lockFolder(path, command string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, unusable(err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unusable(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, heldError{path: path, by: readHolder(path)}
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	f := &folder{path: path, lock: lock}
	if err := f.write(holder{PID: os.Getpid(), Command: command}); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// unusable says what to do about a folder in which nothing can be made.
func unusable(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("data folder: %w: make it writable (mount -o remount,rw), or name another folder in %q", err, "data")
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("data folder: %w: make room on its disk", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("data folder: %w: give it to the user that runs resosync, or name another folder in %q", err, "data")
	}
	return fmt.Errorf("data folder: %w", err)
}

// waitFolder is lockFolder, but it waits until commands that hold the folder are done. It gives up at
// once if an agent holds it.
func waitFolder(ctx context.Context, path, command string) (*folder, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		f, err := lockFolder(path, command)
		var held heldError
		if !errors.As(err, &held) || held.by.Address != "" {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func readHolder(path string) holder {
	var h holder
	raw, err := os.ReadFile(filepath.Join(path, lockFile))
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return holder{} // the other process is writing it
	}
	return h
}

// announce tells commands where the running agent answers.
func (f *folder) announce(command, address string) error {
	return f.write(holder{PID: os.Getpid(), Command: command, Address: address})
}

func (f *folder) write(h holder) error {
	raw, err := json.Marshal(h)
	if err == nil {
		err = f.lock.Truncate(0)
	}
	if err == nil {
		_, err = f.lock.WriteAt(append(raw, '\n'), 0)
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// Close gives the folder back.
func (f *folder) Close() error {
	return errors.Join(f.lock.Truncate(0), f.lock.Close())
}

func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

// adminToken reads the secret with which commands speak to the agent, and makes it on first use: 256
// random bits, 0600. Only the holder of the folder makes it.
func (f *folder) adminToken() (string, error) {
	token, err := readAdminToken(f.path)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", err
	}
	token = hex.EncodeToString(secret[:])
	next := f.file(tokenFile + ".new")
	if err := writeDurably(next, token+"\n"); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	if err := os.Rename(next, f.file(tokenFile)); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	return token, nil
}

// writeDurably keeps a power cut from leaving the file empty under its name.
func writeDurably(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func readAdminToken(path string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(path, tokenFile))
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) != 64 {
		return "", fmt.Errorf("admin token: %s is damaged: remove it and start the agent again", filepath.Join(path, tokenFile))
	}
	return token, nil
}
