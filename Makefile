# Certlab's make targets. `make help` lists them.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN     := build/bin
CHARMS  := build/charms
ARCH    := $(shell go env GOARCH)
LDFLAGS := -s -w -X certlab/internal/version.Version=$(VERSION)
# Packages whose tests wait more than they compute: begun first, they overlap with the others.
SLOW    := ./tests/integration ./internal/agent ./internal/control/provision ./internal/juju/cli ./tests/soak ./internal/locallab ./cmd/certlabd ./internal/sqlite
# SQLite is C, translated: with the race detector in each of its instructions the tests would take several times as long, and find nothing of ours.
# Its driver, and all that uses it, keep the detector. What the go command is given last holds.
RACE    := -race -gcflags='modernc.org/...=-d=checkptr=0' -gcflags='modernc.org/sqlite/lib=-race=false' -gcflags='modernc.org/libc=-race=false'
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint build pack bench quote soak fuzz vuln clean FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing: Debian packages when root, and the pinned Checkbox in .venv
	@scripts/setup

demo: setup pack ## Three machines run a real Checkbox plan in the local lab; prints a table and a URL
	@scripts/demo

test: setup pack ## Every test, with the race detector, real Pebble, real Checkbox and the bundle in the local lab
	CERTLAB_CHECKBOX=$(CURDIR)/.venv/bin/checkbox-cli CERTLAB_PEBBLE=$(CURDIR)/$(BIN)/pebble \
	CERTLAB_BIN=$(CURDIR)/$(BIN) CERTLAB_CHARMS=$(CURDIR)/$(CHARMS) GORACE=atexit_sleep_ms=0 \
		go test $(RACE) -timeout 14m -p 3 $(TESTFLAGS) $(SLOW) ./...

lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go tool staticcheck ./...

build: $(BIN)/pebble ## The programs, into build/bin
	@mkdir -p $(BIN)
	$(GOBUILD) -o $(BIN)/ ./cmd/...

$(BIN)/pebble: go.mod
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ github.com/canonical/pebble/cmd/pebble

pack: build ## The charms of this machine's architecture, into build/charms (PLATFORMS="amd64 arm64" for both)
	@scripts/pack $(or $(PLATFORMS),$(ARCH))

bench: setup ## The benchmarks: a table with its machine and date, also in build/bench.md; fails if a goal is not met
	@$(MAKE) --no-print-directory pack PLATFORMS="amd64 arm64"
	@mkdir -p build/bench && rm -f build/bench/rows.jsonl build/bench/rows.jsonl.made
	@CERTLAB_CHECKBOX=$(CURDIR)/.venv/bin/checkbox-cli CERTLAB_PEBBLE=$(CURDIR)/$(BIN)/pebble CERTLAB_BENCH_ROWS=$(CURDIR)/build/bench/rows.jsonl \
	CERTLAB_BIN=$(CURDIR)/$(BIN) CERTLAB_CHARMS=$(CURDIR)/$(CHARMS) \
		go test -run '^$$' -bench '$(or $(BENCH),.)' -benchtime 1x -timeout 60m ./tests/bench; failed=$$?; \
	go run ./tests/bench/table && exit $$failed

quote: ## Put the figures of the last make bench into the documents that quote them
	go run ./tests/bench/table -write README.md docs/reference/measurements.md

soak: setup pack ## Random kills in a lab, and a check that nothing is lost: make soak SEED=1 MINUTES=30
	CERTLAB_CHECKBOX=$(CURDIR)/.venv/bin/checkbox-cli CERTLAB_PEBBLE=$(CURDIR)/$(BIN)/pebble \
	CERTLAB_BIN=$(CURDIR)/$(BIN) CERTLAB_CHARMS=$(CURDIR)/$(CHARMS) \
		scripts/soak $(or $(SEED),1) $(or $(MINUTES),10)

fuzz: ## Every fuzz target for some minutes, the inputs that led to new code into testdata/fuzz: make fuzz MINUTES=10 TARGET=results
	GROW=1 scripts/fuzz $(or $(MINUTES),10) $(or $(TARGET),.)

vuln: ## Known faults of what is built, from the database at GOVULNDB (an URL, or file:///DIR)
	@scripts/vuln

clean: ## Remove what was built; the local lab and .venv stay
	rm -rf build
