package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent/bearer"
)

func (p *program) initCommand() *cobra.Command {
	var producer bool
	var source string
	c := &cobra.Command{
		Use:   "init --producer | --consumer URL",
		Short: "Write a configuration and keys",
		Long: `init writes a commented configuration, and the keys that it needs into its data folder. It overwrites nothing.
With both flags the agent serves its own records and copies the producer's.`,
		Example: `  resosync init --producer
  resosync init --consumer https://sync.acme.example/odata`,
		Args: arguments(cobra.NoArgs),
		RunE: func(_ *cobra.Command, _ []string) error {
			if !producer && source == "" {
				return usagef("say what the agent is: --producer, --consumer URL, or both")
			}
			return p.init(initial{producer: producer, source: source})
		},
	}
	c.Flags().BoolVar(&producer, "producer", false, "serve and push records")
	c.Flags().StringVar(&source, "consumer", "", "copy from the producer whose service root is `URL`")
	return c
}

// initial is what a new agent shall be.
type initial struct {
	producer bool
	source   string // service root of the producer to copy from
}

func (p *program) init(want initial) error {
	text, feed, err := want.text()
	if err != nil {
		return err
	}
	c, err := config.Parse(p.configFile, text, func(string) (string, bool) { return "", false })
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p.configFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and init overwrites nothing: edit it, or name another with -c FILE", p.configFile)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := makeKeys(c); err != nil {
		return err
	}
	p.printf("Wrote %s, and the keys in %s.\n\nNext:\n", p.configFile, c.Data)
	for i, step := range want.steps(feed) {
		p.printf("  %d. %s\n", i+1, step)
	}
	return nil
}

// makeKeys makes the keys of a new agent, or keeps those that are there.
func makeKeys(c *config.Config) error {
	held, err := lockFolder(c.Data, "init")
	if err != nil {
		return err
	}
	_, keyErr := bearer.LoadKey(held.file(keyFile))
	_, tokenErr := held.adminToken()
	return errors.Join(keyErr, tokenErr, held.Close())
}

func (w initial) steps(feed string) []string {
	var steps []string
	if w.source != "" {
		steps = append(steps,
			"ask the producer for an API token, and put it into the feed's token",
			"give the producer a token for its pushes, and your address, as https://YOUR-HOST/webhooks/"+feed+":  resosync token issue --feed "+feed)
	}
	if w.producer {
		steps = append(steps,
			"name your clients in the file, and give each its token:  resosync token issue --client NAME, or for OAuth2:  resosync client secret NAME",
			"for each that wants pushes, take its webhook and token into subscriptions",
			"put records in:  resosync import FILE…, or the write API with a token of scope write")
	}
	return append(steps, "see that all is well:  resosync check", "start:  resosync run")
}

// text is the new configuration: the example, with what a new agent cannot have yet commented out.
func (w initial) text() (text []byte, feed string, err error) {
	header, producer, consumer, err := exampleSections()
	if err != nil {
		return nil, "", err
	}
	text = replaceValue(header, "name", folderName())
	if w.producer {
		text = append(text, commentOut(producer, "subscriptions")...)
	}
	if w.source != "" {
		feed = feedName(w.source)
		section := bytes.ReplaceAll(consumer, []byte("/webhooks/other"), []byte("/webhooks/"+feed))
		section = replaceValue(section, "- name", feed)
		section = replaceValue(section, "url", w.source)
		section = replaceValue(section, "token", `""`)
		for _, key := range []string{"push", "poll", "limits"} {
			section = commentOut(section, key)
		}
		text = append(text, section...)
	}
	return text, feed, nil
}

// exampleSections are the example's three parts, each with the comment above it.
func exampleSections() (header, producer, consumer []byte, err error) {
	parts := regexp.MustCompile(`(?m)^(?:# .*\n)*(?:producer|consumer):\n`).FindAllIndex(config.Example(), -1)
	if len(parts) != 2 {
		return nil, nil, nil, errors.New("the example configuration has not the two sections")
	}
	text := config.Example()
	return text[:parts[0][0]], text[parts[0][0]:parts[1][0]], text[parts[1][0]:], nil
}

// replaceValue replaces the value of the first line with the key.
func replaceValue(text []byte, key, value string) []byte {
	at := regexp.MustCompile(`(?m)^( *` + regexp.QuoteMeta(key) + `: +)\S+.*$`).FindSubmatchIndex(text)
	if at == nil {
		return text
	}
	line := withCode(string(text[at[0]:at[1]]), string(text[at[2]:at[3]])+value)
	return bytes.Join([][]byte{text[:at[0]], []byte(line), text[at[1]:]}, nil)
}

// commentOut comments out a key with all that is below it.
func commentOut(text []byte, key string) []byte {
	lines := strings.Split(string(text), "\n")
	inside, depth := false, 0
	for i, line := range lines {
		bare := strings.TrimLeft(line, " ")
		indent := len(line) - len(bare)
		if inside && indent <= depth {
			inside = false
		}
		if !inside && strings.HasPrefix(bare, key+":") {
			inside, depth = true, indent
		}
		if inside && bare != "" && !strings.HasPrefix(bare, "#") {
			code, _, _ := strings.Cut(line, " #")
			lines[i] = withCode(line, line[:depth]+"# "+strings.TrimRight(code[depth:], " "))
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// withCode replaces what stands before a line's comment, which keeps its column if it can.
func withCode(line, code string) string {
	before, comment, found := strings.Cut(line, " #")
	if !found {
		return code
	}
	return fmt.Sprintf("%-*s #%s", len(before), code, comment)
}

// folderName is the name of the folder in which the configuration is made, as far as it suits.
func folderName() string {
	dir, err := os.Getwd()
	name := filepath.Base(dir)
	if err != nil || !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`).MatchString(name) {
		return "resosync"
	}
	return name
}

// feedName makes a name for a feed from the host of its producer: acme for sync.acme.example.
func feedName(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return "mls"
	}
	labels := strings.Split(u.Hostname(), ".")
	_, notIP := netip.ParseAddr(u.Hostname())
	if len(labels) < 2 || notIP == nil || !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`).MatchString(labels[len(labels)-2]) {
		return "mls"
	}
	return labels[len(labels)-2]
}
