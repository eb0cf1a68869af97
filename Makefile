# resosync. `make help` lists what there is.
SHELL   := /bin/bash
.DEFAULT_GOAL := help
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOLS   := $(CURDIR)/.ci/bin
# golangci-lint is a program of its own, so its version stands here and not among the module's dependencies.
LINT_VERSION := v2.15.0
FUZZTIME ?= 30s
SOAK     ?= 10m

.PHONY: help build modules tools test race lint vet demo bench fuzz soak image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./resosync
	go build -trimpath -ldflags '$(LDFLAGS)' -o resosync ./agent

modules:
	@go mod download

tools: ## install what the tests drive: programs through apt, clients of other makers from npm
	@.ci/tools

test: modules tools ## run every test; says loudly what it skips
	@set -o pipefail; go test -timeout 15m -v ./... 2>&1 | awk -f .ci/summary.awk

race: modules ## run the tests under the race detector, without those that only drive other processes
	go test -race -short -timeout 15m ./...

lint: $(TOOLS)/golangci-lint-$(LINT_VERSION) ## run golangci-lint
	$< run ./...

$(TOOLS)/golangci-lint-$(LINT_VERSION):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(TOOLS)/golangci-lint $@

vet:
	go vet ./...

demo: build ## run a producer and a consumer on loopback and prove that they end equal
	./resosync demo

bench: build ## measure speed, each figure beside a limit measured in the same run
	go run ./agent/internal/bench

fuzz: modules ## fuzz every parser of outside input, FUZZTIME each
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
	  dir=$$(dirname "$$file"); \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$$file" | sed 's/^func //'); do \
	    echo "== $$dir $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s "$$dir" || exit 1; \
	  done; done

soak: build ## run a pair for SOAK under constant faults; its memory, files and goroutines must stay flat
	go run ./agent/internal/soak -for $(SOAK) -binary ./resosync

image: ## build the container image and try it, where an engine answers
	@.ci/image $(VERSION)

clean: ## remove what was built
	rm -rf resosync .ci/bin
