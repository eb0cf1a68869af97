package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/box"
	sessions "github.com/resosync/resosync/producer/session"
	"github.com/resosync/resosync/producer/subscription"
	"github.com/resosync/resosync/producer/task"
)

// agentDocument describes what the agent answers beside the producer and the consumer, each of which describes
// itself, and how it answers elsewhere.
//
//go:embed openapi.json
var agentDocument []byte

// documents are what becomes one. What they share is the last one's.
func documents() [][]byte {
	return [][]byte{consumer.OpenAPI, producer.OpenAPI, subscription.OpenAPI, task.OpenAPI, box.OpenAPI, sessions.OpenAPI, agentDocument}
}

// openAPI is an OpenAPI document, as far as documents are put together.
type openAPI struct {
	OpenAPI    string                                `json:"openapi"`
	Info       map[string]any                        `json:"info"`
	Servers    json.RawMessage                       `json:"servers"`
	Tags       []json.RawMessage                     `json:"tags"`
	Paths      map[string]json.RawMessage            `json:"paths"`
	Webhooks   map[string]json.RawMessage            `json:"webhooks"`
	Components map[string]map[string]json.RawMessage `json:"components"`
}

// description is the document of the whole agent.
var description = sync.OnceValues(func() ([]byte, error) {
	whole := openAPI{Paths: map[string]json.RawMessage{}, Webhooks: map[string]json.RawMessage{}, Components: map[string]map[string]json.RawMessage{}}
	for _, text := range documents() {
		var part openAPI
		if err := json.Unmarshal(text, &part); err != nil {
			return nil, fmt.Errorf("openapi.json: %w", err)
		}
		whole.OpenAPI, whole.Info, whole.Servers = part.OpenAPI, part.Info, part.Servers
		whole.Tags = append(whole.Tags, part.Tags...)
		maps.Copy(whole.Paths, part.Paths)
		maps.Copy(whole.Webhooks, part.Webhooks)
		for kind, named := range part.Components {
			if whole.Components[kind] == nil {
				whole.Components[kind] = map[string]json.RawMessage{}
			}
			maps.Copy(whole.Components[kind], named)
		}
	}
	whole.Info["version"] = versionText()
	return json.Marshal(whole)
})

// describe answers with the OpenAPI document, whose servers are below the path of the public URL, too.
func (h *routes) describe(w http.ResponseWriter, _ *http.Request) {
	text, err := description()
	if err != nil { // a test reads it
		reply.Refuse(w, &reply.Error{Status: http.StatusInternalServerError, Detail: "the description cannot be read"})
		return
	}
	const server = `"url":"`
	text = bytes.ReplaceAll(text, []byte(server+"/"), []byte(server+reply.Href(h.root, "/")))
	reply.Write(w, http.StatusOK, reply.JSON, json.RawMessage(text))
}
