package producer_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resosync/resosync/producer"
)

func TestCallbackCheck(t *testing.T) {
	lan := producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}}
	for _, c := range []struct {
		scheme, address string
		ok              bool
	}{
		{"https", "93.184.216.34:443", true},
		{"https", "93.184.216.34:8443", true},
		{"https", "[2606:4700::1111]:443", true},
		{"https", "93.184.216.34:80", false},
		{"https", "93.184.216.34:22", false},
		{"http", "93.184.216.34:443", false},
		{"http", "93.184.216.34:80", false},
		{"https", "127.0.0.1:443", false},
		{"https", "127.8.9.10:443", false},
		{"https", "[::1]:443", false},
		{"https", "[::ffff:127.0.0.1]:443", false},
		{"https", "[::ffff:10.0.0.1]:443", false},
		{"https", "[::]:443", false},
		{"https", "0.0.0.0:443", false},
		{"https", "0.1.2.3:443", false},
		{"https", "10.0.0.1:443", false},
		{"https", "172.16.0.1:443", false},
		{"https", "192.168.1.1:443", false},
		{"https", "169.254.169.254:443", false},
		{"https", "100.64.0.1:443", false},
		{"https", "198.18.0.1:443", false},
		{"https", "224.0.0.1:443", false},
		{"https", "240.0.0.1:443", false},
		{"https", "255.255.255.255:443", false},
		{"https", "[fe80::1%25eth0]:443", false},
		{"https", "[fe80::1]:443", false},
		{"https", "[fc00::1]:443", false},
		{"https", "[ff02::1]:443", false},
		{"https", "[64:ff9b::7f00:1]:443", false},
		{"https", "[64:ff9b::a9fe:a9fe]:443", false}, // NAT64 of 169.254.169.254
		{"https", "[64:ff9b:1::a00:1]:443", false},   // NAT64 of a local prefix
		{"https", "[::7f00:1]:443", false},           // IPv4-compatible
		{"https", "[::ffff:0:7f00:1]:443", false},    // IPv4-translated
		{"https", "[::ffff:169.254.169.254]:443", false},
		{"https", "[::ffff:93.184.216.34]:443", true},
		{"https", "[fec0::1]:443", false},
		{"https", "2130706433:443", false}, // only what was resolved is an address
		{"https", "0x7f.1:443", false},
		{"https", "0177.0.0.1:443", false},
		{"https", "[2002:7f00:1::]:443", false},
		{"https", "[2001:0:1::]:443", false},
		{"https", "[2001:db8::1]:443", false},
		{"https", "b.example:443", false},
		{"https", "", false},
		{"http", "10.1.2.3:9000", true},
		{"http", "[::ffff:10.1.2.3]:9000", true},
		{"http", "[fd00:1::1]:80", true},
		{"http", "10.2.0.1:80", false},
	} {
		err := lan.Check(c.scheme, c.address)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%s %s: %v, want ok %v", c.scheme, c.address, err, c.ok)
		}
	}
}

// The address counts that is connected to, however it is written or resolved.
func TestCallbackClientRefusesLoopback(t *testing.T) {
	reached := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	client := producer.CallbackDialer{}.Client()
	defer client.CloseIdleConnections()
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1"} {
		resp, err := client.Get("http://" + host + port)
		if err == nil {
			resp.Body.Close()
		}
		if err == nil || host != "127.1" && host != "[::1]" && !errors.Is(err, producer.ErrCallback) || reached {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestCallbackClientFollowsNoRedirect(t *testing.T) {
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	client := loopback().Client()
	defer client.CloseIdleConnections()
	resp, err := client.Post(server.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || reached {
		t.Errorf("%d, reached %v", resp.StatusCode, reached)
	}
}

// A name is looked at each time it is resolved, also one that at first led elsewhere, and one that is
// another spelling of an address.
func TestCallbackClientLooksAtEveryResolution(t *testing.T) {
	var reached atomic.Int64
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("SKIPPED: this system has no 127.0.0.2: ", err, "; run it on Linux")
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	defer server.Close()
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]

	var address atomic.Value
	client := producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Resolver: nameServer(t, &address)}.Client()
	ask := func(host string) error {
		resp, err := client.Get("http://" + host + port)
		if err == nil {
			resp.Body.Close()
		}
		client.CloseIdleConnections()
		return err
	}
	address.Store([4]byte{127, 0, 0, 2})
	if err := ask("b.example"); err != nil || reached.Load() != 1 {
		t.Fatalf("reached %d times: %v", reached.Load(), err)
	}
	for _, second := range [][4]byte{{127, 0, 0, 1}, {0, 0, 0, 0}, {169, 254, 169, 254}, {10, 0, 0, 1}} {
		address.Store(second)
		for _, host := range []string{"b.example", "2130706433", "0x7f000001", "127.1", "0177.0.0.1"} {
			// Go's own resolver has no names of digits alone, the system's may.
			if err := ask(host); err == nil || host == "b.example" && !errors.Is(err, producer.ErrCallback) {
				t.Errorf("%s at %v: %v", host, second, err)
			}
		}
	}
	if reached.Load() != 1 {
		t.Errorf("reached %d times", reached.Load())
	}
}

// Of a name with an address that is allowed and one that is not, only the former is ever connected to; it is not registered.
func TestCallbackNameOfTwoAddresses(t *testing.T) {
	refused := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached the address that is not allowed") }))
	defer refused.Close()
	port := refused.URL[strings.LastIndexByte(refused.URL, ':'):]
	listener, err := net.Listen("tcp", "127.0.0.2"+port)
	if err != nil {
		t.Skip("SKIPPED: this system has no 127.0.0.2, or its port is taken: ", err, "; run it on Linux, again")
	}
	var reached atomic.Int64
	allowed := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })}}
	allowed.Start()
	defer allowed.Close()
	bad, good := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	for _, addresses := range [][]netip.Addr{{bad, good}, {good, bad}, {bad}} {
		d := producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.PrefixFrom(good, 32)}, Resolver: namesServed(t, func() []netip.Addr { return addresses })}
		url := "http://b.example" + port + "/hook"
		if err := d.CheckURL(t.Context(), url); !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%v at registration: %v", addresses, err)
		}
		client, before := d.Client(), reached.Load()
		resp, err := client.Post(url, "application/json", nil)
		if err == nil {
			resp.Body.Close()
		}
		client.CloseIdleConnections()
		if there := len(addresses) == 2; (reached.Load() > before) != there || !there && !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%v: reached %d times, %v", addresses, reached.Load()-before, err)
		}
	}
}

// nameServer answers every question for an IPv4 address with this one, on loopback.
func nameServer(t *testing.T, address *atomic.Value) *net.Resolver {
	t.Helper()
	return namesServed(t, func() []netip.Addr { return []netip.Addr{netip.AddrFrom4(address.Load().([4]byte))} })
}

// namesServed answers every question for an address with these, on loopback. Without any it never answers.
func namesServed(t *testing.T, addresses func() []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for query := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			end := 12 // the question ends after a name, a type and a class
			for end < n && query[end] != 0 {
				end += int(query[end]) + 1
			}
			end += 5
			known := addresses()
			if end > n || len(known) == 0 {
				continue
			}
			reply := slices.Clone(query[:end])
			copy(reply[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // an answer, without records
			for _, ip := range known {
				kind := byte(1) // A
				if ip.Is6() {
					kind = 28 // AAAA
				}
				if query[end-3] != kind {
					continue
				}
				reply[7]++
				text := ip.AsSlice()
				reply = append(append(reply, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, byte(len(text))), text...)
			}
			if _, err := conn.WriteTo(reply, from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}
