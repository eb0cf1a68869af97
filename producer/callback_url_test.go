package producer_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/producer"
)

// addresses are what no callback may lead to.
var addresses = map[string][]string{
	"private":              {"10.0.0.1", "172.16.5.4", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1"},
	"loopback":             {"127.0.0.1", "127.8.9.10", "::1"},
	"link-local":           {"169.254.1.1", "fe80::1", "febf::1"},
	"metadata of a cloud":  {"169.254.169.254", "fd00:ec2::254", "169.254.170.2", "100.100.100.200"},
	"multicast":            {"224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"},
	"unspecified":          {"0.0.0.0", "0.1.2.3", "::"},
	"broadcast, reserved":  {"255.255.255.255", "240.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "3fff::1", "fec0::1"},
	"IPv4-mapped":          {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0"},
	"IPv4-compatible":      {"::7f00:1", "::ffff:0:7f00:1"},
	"NAT64":                {"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::5db8:d822", "64:ff9b:1::a00:1", "64:ff9b:1:ffff::1"},
	"6to4":                 {"2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:5db8:d822::1"},
	"Teredo":               {"2001:0:1::", "2001::80ff:fffe"},
	"benchmarks, ORCHID":   {"2001:2::1", "2001:20::1"},
	"discard, dummy":       {"100::1"},
	"6to4 relay, protocol": {"192.88.99.1", "192.0.0.8"},
}

// What is not public is refused at registration, written as an address or behind a name, and again when connecting.
func TestCallbackURLAddresses(t *testing.T) {
	for kind, list := range addresses {
		t.Run(kind, func(t *testing.T) {
			for _, text := range list {
				ip := netip.MustParseAddr(text)
				literal := text
				if ip.Is6() {
					literal = "[" + text + "]"
				}
				named := producer.CallbackDialer{Resolver: namesServed(t, func() []netip.Addr { return []netip.Addr{ip} })}
				for _, url := range []string{"https://" + literal + "/hook", "https://" + literal + ":8443/hook", "https://b.example/hook"} {
					if err := named.CheckURL(t.Context(), url); !errors.Is(err, producer.ErrCallback) || strings.Contains(err.Error(), "/hook") {
						t.Errorf("%s for %s at registration: %v", url, text, err)
					}
					client := named.Client()
					if resp, err := client.Post(url, "application/json", nil); !errors.Is(err, producer.ErrCallback) {
						t.Errorf("%s for %s when connecting: %v %v", url, text, resp, err)
					}
					client.CloseIdleConnections()
				}
			}
		})
	}
}

// The forms of a URL, where the name leads to a public address.
func TestCallbackURLForms(t *testing.T) {
	lan := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}
	d := producer.CallbackDialer{AllowCallbacks: lan, Resolver: namesServed(t, func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("93.184.216.34")} })}
	for _, c := range []struct {
		name, url string
		ok        bool
	}{
		{"a name", "https://b.example/hook", true},
		{"a public address", "https://93.184.216.34/hook", true},
		{"a public address of IPv6", "https://[2606:4700::1111]/hook", true},
		{"a query", "https://b.example/hook?key=hidden", true},
		{"upper case", "HTTPS://B.EXAMPLE/hook", true},
		{"a dot at the end", "https://b.example./hook", true},
		{"an international name as it is sent", "https://xn--bcher-kva.example/hook", true},

		{"port 443", "https://b.example:443/hook", true},
		{"port 8443", "https://b.example:8443/hook", true},
		{"an empty port", "https://b.example:/hook", true},
		{"port 80", "https://b.example:80/hook", false},
		{"port 8080", "https://b.example:8080/hook", false},
		{"port 22", "https://93.184.216.34:22/hook", false},
		{"port 0", "https://b.example:0/hook", false},
		{"allowed: port 0", "http://10.1.2.3:0/hook", false},
		{"a space", "https://b.example/ hook", false},
		{"a space in the query", "https://b.example/hook?a= b", false},
		{"a port that is none", "https://b.example:65979/hook", false},
		{"plain http", "http://b.example/hook", false},
		{"plain http on 443", "http://b.example:443/hook", false},
		{"allowed: plain http", "http://10.1.2.3/hook", true},
		{"allowed: any port", "http://10.1.2.3:9000/hook", true},
		{"allowed: IPv6", "http://[fd00:1::1]:9000/hook", true},
		{"allowed: IPv4-mapped", "http://[::ffff:10.1.2.3]:9000/hook", true},
		{"next to what is allowed", "http://10.2.0.1:9000/hook", false},

		{"decimal", "https://2130706433/hook", false},
		{"decimal of a public address", "https://1572395042/hook", false},
		{"octal", "https://0177.0.0.1/hook", false},
		{"octal in one", "https://017700000001/hook", false},
		{"hexadecimal", "https://0x7f.0.0.1/hook", false},
		{"hexadecimal in one", "https://0x7f000001/hook", false},
		{"hexadecimal at the end", "https://127.0.0.0x1/hook", false},
		{"hexadecimal of nothing", "https://127.0x/hook", false},
		{"short", "https://127.1/hook", false},
		{"short, of three", "https://127.0.1/hook", false},
		{"zeros in front", "https://127.000.000.001/hook", false},
		{"zero", "https://0/hook", false},
		{"too large", "https://256.0.0.1/hook", false},
		{"a dot at the end of an address", "https://127.0.0.1./hook", false},
		{"a dot at the end of a number", "https://2130706433./hook", false},
		{"wide digits", "https://１２７.0.0.1/hook", false},
		{"letters in circles", "https://ⓛocalhost/hook", false},
		{"an ideographic full stop", "https://127。0。0。1/hook", false},
		{"an international name", "https://bücher.example/hook", false},
		{"percent-encoded digits", "https://%31%32%37.0.0.1/hook", false},
		{"percent-encoded letters", "https://%e2%93%9bocalhost/hook", false},

		{"a user", "https://user@b.example/hook", false},
		{"a user and a password", "https://user:hidden@b.example/hook", false},
		{"an empty user", "https://@b.example/hook", false},
		{"another host as a user", "https://b.example:443@127.0.0.1/hook", false},
		{"a zone", "https://[fe80::1%25eth0]/hook", false},
		{"a zone of what is public", "https://[2606:4700::1111%25eth0]/hook", false},
		{"a zone of what is allowed", "http://[fd00:1::1%25lo]:9000/hook", false},
		{"a fragment", "https://b.example/hook#hidden", false},
		{"an empty fragment", "https://b.example/hook#", false},
		{"another scheme", "ftp://b.example/hook", false},
		{"a file", "file:///etc/passwd", false},
		{"gopher", "gopher://127.0.0.1:6379/_hidden", false},
		{"without a scheme", "//b.example/hook", false},
		{"a path", "/hook", false},
		{"nothing", "", false},
		{"no host", "https:///hook", false},
		{"no slashes", "https:b.example/hook", false},
		{"a backslash", `https://b.example\@127.0.0.1/hook`, false},
		{"a space", "https://b.example /hook", false},
		{"a line break", "https://b.example/\r\nhidden: x", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := d.CheckURL(t.Context(), c.url)
			if (err == nil) != c.ok || err != nil && (!errors.Is(err, producer.ErrCallback) || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "/hook")) {
				t.Errorf("%s: %v", c.url, err)
			}
		})
	}
}

// One private address among public ones is enough to refuse a registration, whichever comes first; when connecting, no
// connection is made to it.
func TestCallbackURLSomeAddressesPrivate(t *testing.T) {
	public, private := netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("10.0.0.1")
	for _, answer := range [][]netip.Addr{{public, private}, {private, public}, {public, netip.MustParseAddr("::1")}} {
		d := producer.CallbackDialer{Resolver: namesServed(t, func() []netip.Addr { return answer })}
		if err := d.CheckURL(t.Context(), "https://b.example/hook"); !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%v: %v", answer, err)
		}
		if err := d.Check("https", net.JoinHostPort(answer[1].String(), "443")); answer[1] != public && !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%v: %v", answer, err)
		}
	}
}

// A name that is public when it is registered and private when it is connected to is refused then.
func TestCallbackURLRebinding(t *testing.T) {
	var address atomic.Value
	address.Store([4]byte{93, 184, 216, 34})
	d := producer.CallbackDialer{Resolver: nameServer(t, &address)}
	if err := d.CheckURL(t.Context(), "https://b.example/hook"); err != nil {
		t.Fatal(err)
	}
	client := d.Client()
	defer client.CloseIdleConnections()
	for _, then := range [][4]byte{{127, 0, 0, 1}, {169, 254, 169, 254}, {10, 0, 0, 1}} {
		address.Store(then)
		if _, err := client.Post("https://b.example/hook", "application/json", nil); !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%v: %v", then, err)
		}
		if err := d.CheckURL(t.Context(), "https://b.example/hook"); !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%v: %v", then, err)
		}
	}
}

// A name that cannot be resolved is refused, saying what to do, and a name server that says nothing costs 5 s.
func TestCallbackURLUnresolvable(t *testing.T) {
	for name, dial := range map[string]func(context.Context) (net.Conn, error){
		"refused": func(context.Context) (net.Conn, error) { return nil, errors.New("no such server: hidden.example") },
		"silent":  func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := producer.CallbackDialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
				began := time.Now()
				err := d.CheckURL(t.Context(), "https://hidden.example/hook")
				if !errors.Is(err, producer.ErrCallback) || !strings.Contains(err.Error(), "correct the name, or try again") || strings.Contains(err.Error(), "hidden") {
					t.Error(err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestCallbackClientUsesNoProxy(t *testing.T) {
	if producer.Proxied(loopback().Client()) {
		t.Error("a proxy of the environment would be used")
	}
	if !producer.Proxied(producer.WithProxy(loopback().Client(), http.ProxyFromEnvironment)) {
		t.Error("this test cannot fail")
	}
}
