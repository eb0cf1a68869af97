// Package seal encrypts the secrets of others that an agent has to keep, as the tokens that it must send.
//
// It promises that what is stored can be read with the agent's signing key alone, that it cannot be changed or put in
// another's place unnoticed, and that no error repeats any of it.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// ErrSealed means a secret that cannot be opened: it was sealed with another key or for another place, or was changed.
var ErrSealed = errors.New("the secret was sealed with another key than this agent's, or was changed: it has to be given again")

// Key seals and opens secrets. It may be used concurrently.
type Key struct{ aead cipher.AEAD }

// New derives a Key from an agent's signing key: whoever moves a store to another machine moves that key with it.
func New(signing ed25519.PrivateKey) Key {
	secret, err := hkdf.Key(sha256.New, signing.Seed(), nil, "resosync: secrets at rest", 32)
	if err != nil {
		panic(err) // of the length alone
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return Key{aead}
}

// Seal encrypts a text: AES-256-GCM, in base64. It can be opened only for the same place: what names the document and
// the member, as "subscription/<uuid>/token". Two sealings of one text differ.
func (k Key) Seal(text, what string) string {
	sealed := k.aead.Seal(nil, nil, []byte(text), []byte(what)) //nolint:gosec // it draws a nonce of its own each time
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// Open returns the text that was sealed for this place, or ErrSealed, wrapped.
func (k Key) Open(sealed, what string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err == nil {
		raw, err = k.aead.Open(nil, nil, raw, []byte(what))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, ErrSealed)
	}
	return string(raw), nil
}
