package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/resosync/resosync/config"
)

// certificateEvery is how often the files of the certificate are looked at, when somebody connects.
const certificateEvery = time.Second

// certificate is the one in the configuration's files, read again when they change. Connections that are
// open keep theirs. While the files do not fit together, as when one of the two is written, the one before
// stays.
type certificate struct {
	files  config.TLS
	every  time.Duration
	logger *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	read    [2][]byte // what now was made of
	now     *tls.Certificate
	trouble string // what was logged of files that do not fit; "" if they do
}

func openCertificate(files config.TLS, logger *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, every: certificateEvery, logger: logger}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	c.looked = time.Now()
	return c, nil
}

// server is how the agent speaks TLS.
func (c *certificate) server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= c.every {
		c.looked = now
		c.refresh()
	}
	return c.now, nil
}

func (c *certificate) refresh() {
	before := c.now
	err := c.load()
	switch {
	case err == nil && c.now != before:
		c.trouble = ""
		c.logger.Info("the certificate was read again", "until", c.now.Leaf.NotAfter)
	case err == nil:
		c.trouble = ""
	case err.Error() != c.trouble:
		c.trouble = err.Error()
		c.logger.Error("the new certificate cannot be used; the one before stays", "until", c.now.Leaf.NotAfter, "err", err)
	}
}

// load reads the files, unless they are what they were.
func (c *certificate) load() error {
	cert, err := os.ReadFile(c.files.Cert)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(c.files.Key)
	if err != nil {
		return err
	}
	if c.now != nil && bytes.Equal(cert, c.read[0]) && bytes.Equal(key, c.read[1]) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s: %w: the two must be PEM, of one key, with the certificate before its intermediates", c.files.Cert, c.files.Key, err)
	}
	c.now, c.read = &pair, [2][]byte{cert, key}
	return nil
}
