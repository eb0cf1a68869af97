package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// newCertificate returns a certificate that signed itself, with a serial number, and its key, as PEM.
func newCertificate(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "sync.acme.example"}, DNSNames: []string{"sync.acme.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der8})
}

// secureClient trusts the certificates, and no other.
func secureClient(t *testing.T, certs ...[]byte) *http.Client {
	trusted := x509.NewCertPool()
	for _, cert := range certs {
		trusted.AppendCertsFromPEM(cert)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "sync.acme.example"}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// TestTLS serves https by HTTP/2, and changes the certificate under traffic: half written first, then whole.
func TestTLS(t *testing.T) {
	t.Parallel()
	s, address := newShell(t), freeAddress(t)
	oldCert, oldKey := newCertificate(t, 1)
	nextCert, nextKey := newCertificate(t, 2)
	s.write("tls.crt", string(oldCert))
	s.write("tls.key", string(oldKey))
	s.write("resosync.yaml", producerConfig(address)+"tls: {cert: tls.crt, key: tls.key}\n")
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	client := secureClient(t, oldCert, nextCert)
	agent := &process{dir: s.dir, address: address, env: os.Environ(), output: new(output), secure: client}
	agent.start(t)
	t.Cleanup(func() { agent.kill(t) })

	ask := func() (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/odata/EntityEvent", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	first, body := ask()
	if first.ProtoMajor != 2 || first.StatusCode != http.StatusOK || !strings.Contains(body, "https://"+address+"/odata/$metadata#EntityEvent") {
		t.Fatalf("%s %d %s", first.Proto, first.StatusCode, body)
	}
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", address, old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	s.must(0, `ok +tls .*good until`, "check")
	s.must(0, `running at https://`+address, "status")
	s.must(0, `ready`, "status", "--ready")

	serial := func() int64 {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	// until repeats a look, with traffic between two, until it is as it should be.
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
			if resp, _ := ask(); resp.StatusCode != http.StatusOK || resp.TLS.PeerCertificates[0].SerialNumber.Int64() != 1 {
				t.Fatalf("a request meanwhile, on the connection that was open: %d by certificate %v", resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within 30 s:\n%s", what, agent.tail())
			}
		}
	}
	s.write("tls.crt", string(nextCert))
	until("the half is noticed", func() bool {
		if got := serial(); got != 1 {
			t.Fatalf("certificate %d without its key", got)
		}
		return strings.Contains(agent.output.String(), "the new certificate cannot be used")
	})
	s.write("tls.key", string(nextKey))
	until("the new one is used", func() bool {
		return serial() == 2 && strings.Contains(agent.output.String(), "the certificate was read again")
	})
	if log := agent.output.String(); strings.Count(log, "cannot be used") != 1 || strings.Count(log, "the certificate was read again") != 1 || strings.Contains(log, "PRIVATE") {
		t.Errorf("the log:\n%s", log)
	}

	agent.kill(t)
	s.write("tls.key", string(oldKey))
	s.must(1, `FAIL tls .*of one key`, "check")
	s.must(1, `tls: .*of one key`, "run")
}

// TestHTTP2BehindAProxy speaks HTTP/2 without TLS, with prior knowledge.
func TestHTTP2BehindAProxy(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address)+"trusted_proxies: [127.0.0.0/8]\naccess_log: true\n")
	agent := s.agent(address)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "198.51.100.7")
	req.Header.Set("X-Request-Id", "from-the-proxy")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("X-Request-Id") != "from-the-proxy" {
		t.Errorf("%s %d %v", resp.Proto, resp.StatusCode, resp.Header)
	}
	until(t, func() (string, bool) { // the line follows the answer
		log := agent.output.String()
		return "the log:\n" + log, strings.Contains(log, "address=198.51.100.7 request_id=from-the-proxy")
	})
}

// grant asks an agent for a token.
func grant(t *testing.T, address, client, secret string) (status int, token string) {
	t.Helper()
	resp, err := http.PostForm("http://"+address+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body.AccessToken
}

// statusOf asks for a path with a token.
func statusOf(t *testing.T, address, path, token string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// TestRevokeNamesPushes: pushes need no token of ours, so whoever revokes a client is told of them.
func TestRevokeNamesPushes(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.write("resosync.yaml", producerConfig(freeAddress(t))+`  subscriptions:
    - {name: first, client: vendor, url: "https://b.example/1", token: t1}
    - {name: other, client: writer, url: "https://b.example/2", token: t2}
    - {name: second, client: vendor, url: "https://b.example/3", token: t3}
`)
	const want = `0 issued tokens\nit is still pushed to, by the subscription first: .* producer.subscriptions .*\nit is .* subscription second: .*\n$`
	s.must(0, want, "client", "revoke", "vendor") // it has no token
	s.must(0, "^eyJ", "token", "issue", "--client", "vendor")
	s.must(0, strings.Replace(want, "0 issued tokens", "1 issued token", 1), "client", "revoke", "vendor")
	s.must(0, `"pushes": \[\s+"first",\s+"second"\s+\]`, "client", "revoke", "vendor", "--json")
	s.must(1, `no such client`, "client", "revoke", "nobody")
}

// TestClientSecrets walks the life of a secret: made, used by a consumer, replaced, revoked at once, and ended with
// its client.
func TestClientSecrets(t *testing.T) {
	t.Parallel()
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address))
	s.must(1, `no client "nobody"`, "client", "secret", "nobody")
	s.must(2, `--help`, "client", "secret")
	s.must(1, `no such client`, "client", "revoke", "vendor")
	offline := strings.TrimSpace(s.must(0, `^[0-9a-f]{64}\n$`, "client", "secret", "vendor").stdout)
	issued := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	agent := s.agent(address)
	s.pipe(listings, "import", "--resource", "Property", "-").must(t, 0, "3 new", "import")

	status, old := grant(t, address, "vendor", offline)
	if got, _ := statusOf(t, address, "/odata/Property", old); status != 200 || got != 200 {
		t.Fatalf("%d, then %d", status, got)
	}
	secret := strings.TrimSpace(s.must(0, `^[0-9a-f]{64}\n$`, "client", "secret", "vendor").stdout)
	if status, _ := grant(t, address, "vendor", offline); status != 401 {
		t.Errorf("the old secret gets %d", status)
	}
	if got, _ := statusOf(t, address, "/odata/Property", old); got != 401 {
		t.Errorf("what the old secret got is answered %d", got)
	}

	copied := newShell(t)
	copied.write("resosync.yaml", fmt.Sprintf(`listen: %s
consumer:
  feeds:
    - {name: mls, url: "http://%s/odata", client_id: vendor, client_secret: %s, token_url: "http://%[2]s/oauth/token", resources: [Property]}
`, freeAddress(t), address, secret))
	copied.must(0, `ok +feed mls`, "check")
	copied.must(0, `(?s)3`, "sync")
	copied.must(0, `records of mls: 3 Property`, "status")

	_, current := grant(t, address, "vendor", secret)
	s.must(0, `revoked client vendor: .* 1 issued token`, "client", "revoke", "vendor")
	for what, token := range map[string]string{"what the secret got": current, "an issued token": issued} {
		if got, header := statusOf(t, address, "/odata/Property", token); got != 401 || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s is answered %d after the revocation", what, got)
		}
	}
	if status, _ := grant(t, address, "vendor", secret); status != 401 {
		t.Errorf("the revoked secret gets %d", status)
	}
	copied.must(1, `FAIL feed mls: no token`, "check")
	copied.must(1, `invalid_client`, "sync")

	last := strings.TrimSpace(s.must(0, `^[0-9a-f]{64}\n$`, "client", "secret", "vendor").stdout)
	_, token := grant(t, address, "vendor", last)
	agent.kill(t)
	s.write("resosync.yaml", strings.Replace(producerConfig(address), "name: vendor", "name: another", 1))
	agent.start(t)
	if status, _ := grant(t, address, "vendor", last); status != 401 {
		t.Errorf("a client that is gone gets %d", status)
	}
	if got, _ := statusOf(t, address, "/odata/Property", token); got != 401 {
		t.Errorf("a client that is gone is answered %d", got)
	}
	store, err := os.ReadFile(filepath.Join(s.dir, "data", "resosync.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{offline, secret, last} {
		if strings.Contains(agent.output.String()+copied.printed.String()+string(store), secret) {
			t.Error("a secret is in the log, in what a command printed, or in the store")
		}
	}
}

// TestRateLimit has a client that may ask once a minute.
func TestRateLimit(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", strings.Replace(producerConfig(address), "{name: vendor}", "{name: vendor, limits: {rate: 1/m}}", 1))
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	s.agent(address)
	if status, _ := statusOf(t, address, "/odata/EntityEvent", token); status != 200 {
		t.Fatalf("the first: %d", status)
	}
	status, header := statusOf(t, address, "/odata/EntityEvent", token)
	if wait := header.Get("Retry-After"); status != 429 || !regexp.MustCompile(`^([1-5]?[0-9]|60)$`).MatchString(wait) {
		t.Errorf("the second: %d, Retry-After: %s", status, wait)
	}
	s.must(0, "head 0", "status") // this machine's commands are not limited
}

// TestHeldPollOverSlowConnection: while somebody holds connections without asking for anything, a poll is held and
// answered.
func TestHeldPollOverSlowConnection(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address))
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	s.agent(address)
	for range 50 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /odata/Property HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-"); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/odata/EntityEvent?$filter=EntityEventSequence%20gt%200", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Prefer", "wait=60")
	answered := make(chan string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answered <- string(body)
	}()
	s.pipe(listings, "import", "--resource", "Property", "-").must(t, 0, "3 new", "import")
	if text := <-answered; !strings.Contains(text, `"EntityEventSequence":1,`) && !strings.Contains(text, `"EntityEventSequence": 1`) {
		t.Errorf("the poll: %s", text)
	}
}
