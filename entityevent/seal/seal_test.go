package seal_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/seal"
)

func key(seed byte) seal.Key {
	return seal.New(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize))))
}

func TestSeal(t *testing.T) {
	const place = "subscription/1/token"
	for _, text := range []string{"", "hidden-token", strings.Repeat("long ", 1000), "\x00\xff"} {
		sealed := key(1).Seal(text, place)
		if got, err := key(1).Open(sealed, place); err != nil || got != text {
			t.Errorf("%.20q: %.20q, %v", text, got, err)
		}
		if len(text) > 0 && strings.Contains(sealed, text) || sealed == key(1).Seal(text, place) {
			t.Errorf("%.20q: sealed as %.40s", text, sealed)
		}
	}
}

func TestNotToBeOpened(t *testing.T) {
	const place = "subscription/1/token"
	sealed := key(1).Seal("hidden-token", place)
	raw, _ := base64.RawURLEncoding.DecodeString(sealed)
	raw[len(raw)-1] ^= 1
	for name, open := range map[string]func() (string, error){
		"another key":       func() (string, error) { return key(2).Open(sealed, place) },
		"another place":     func() (string, error) { return key(1).Open(sealed, "subscription/2/token") },
		"changed":           func() (string, error) { return key(1).Open(base64.RawURLEncoding.EncodeToString(raw), place) },
		"cut":               func() (string, error) { return key(1).Open(sealed[:10], place) },
		"nothing":           func() (string, error) { return key(1).Open("", place) },
		"never sealed":      func() (string, error) { return key(1).Open("hidden-token", place) },
		"no base64 at all!": func() (string, error) { return key(1).Open("!", place) },
	} {
		got, err := open()
		if got != "" || !errors.Is(err, seal.ErrSealed) || strings.Contains(err.Error(), sealed) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
