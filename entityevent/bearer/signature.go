package bearer

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// remembered is how many signatures are kept: more than the clients of one agent.
const remembered = 1024

// signatures remembers the newest tokens whose signature was found genuine, by their hash: a lookup
// compares no secret, and no token is kept in memory. What does not verify is never kept.
type signatures struct {
	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*list.Element
	used   list.List // newest first
}

type signature struct {
	hash   [sha256.Size]byte
	claims claims
}

func (s *signatures) get(signed string) (claims, bool) {
	hash := sha256.Sum256([]byte(signed))
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.byHash[hash]
	if !ok {
		return claims{}, false
	}
	s.used.MoveToFront(at)
	return at.Value.(signature).claims, true
}

func (s *signatures) put(signed string, claims claims) {
	hash := sha256.Sum256([]byte(signed))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byHash == nil {
		s.byHash = map[[sha256.Size]byte]*list.Element{}
	}
	if _, ok := s.byHash[hash]; ok {
		return
	}
	s.byHash[hash] = s.used.PushFront(signature{hash, claims})
	if s.used.Len() > remembered {
		delete(s.byHash, s.used.Remove(s.used.Back()).(signature).hash)
	}
}
