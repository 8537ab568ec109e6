# VouchMQ. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

# Only Go, git and make are needed to build: no C compiler, and no other version of Go than the one that is there.
export CGO_ENABLED := 0
export GOTOOLCHAIN := local

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BIN     := build/vouchmq
MODULE  := internal/module/broker.wasm

# The module is what clients verify by its digest, so its bytes may depend on its sources and on the version of Go,
# and on nothing else: no paths, no version control, no build id.
MODULE_FLAGS := -buildmode=c-shared -trimpath -buildvcs=false -ldflags='-s -w -buildid='

# What must also compile for WebAssembly, and so can have no sockets, threads or files.
CORE := ./internal/abi ./internal/mqtt ./internal/broker

FUZZEXECS ?= 500000

.PHONY: all
all: module binary ## build the module, then the binary that carries it

.PHONY: module
module: ## build the broker as a WebAssembly module, reproducibly
	@GOFLAGS= GOOS=wasip1 GOARCH=wasm go build $(MODULE_FLAGS) -o $(MODULE).new ./guest/broker
	@cmp -s $(MODULE).new $(MODULE) && rm $(MODULE).new || mv $(MODULE).new $(MODULE)
	@echo "module  $(MODULE)  sha384:$$(sha384sum $(MODULE) | cut -d' ' -f1)"

.PHONY: binary
binary: module
	@mkdir -p $(dir $(BIN))
	@go build -trimpath -buildvcs=false -ldflags='-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/vouchmq
	@echo "binary  $(BIN)  $(VERSION)"

.PHONY: demo
demo: all ## show an attested broker, two attested clients, and a refusal
	@$(BIN) demo

# Without swtpm there is nothing to show: CI=true makes what is missing a failure.
.PHONY: demo-tpm
demo-tpm: all ## the same with evidence of a TPM in software, which it installs if it may
	@CI=true tools/get-test-tools swtpm swtpm_setup
	@$(BIN) demo --tpm

.PHONY: test
test: module ## get what the tests need, run all of them
	@tools/run-tests

.PHONY: check
check: module ## formatting, vet, staticcheck, the core for WebAssembly, and the program for other systems
	@tools/check-format
	go vet ./...
	go -C tools vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	GOOS=wasip1 GOARCH=wasm go build $(CORE)
	GOOS=wasip1 GOARCH=wasm go vet ./guest/...
	GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/vouchmq
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/vouchmq
	GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/vouchmq

.PHONY: bench
bench: throughput bench-verify scale ## throughput, verifications of evidence, and scale, one after the other

.PHONY: throughput
throughput: all ## throughput of every variant, and of Mosquitto, in turn
	@tools/get-test-tools mosquitto
	@$(BIN) bench throughput $(ARGS)

.PHONY: bench-verify
bench-verify: all ## verifications of evidence a second, of each platform
	@$(BIN) bench verify $(ARGS)

.PHONY: scale
scale: all ## memory and cost of many subscriptions, connections, topics and receivers
	@$(BIN) bench scale $(ARGS)

.PHONY: evaluation
evaluation: all ## repeat the paper's evaluation, and more, as one page with plots
	@tools/get-test-tools mosquitto swtpm
	@$(BIN) bench evaluation $(ARGS)

.PHONY: soak
soak: all ## ten minutes of load with connections that come and go
	@$(BIN) bench soak $(ARGS)

.PHONY: fuzz
fuzz: module ## each fuzz target for FUZZEXECS (500000) inputs
	@FUZZEXECS=$(FUZZEXECS) tools/run-fuzz

.PHONY: clean
clean: ## remove what was built
	rm -rf build $(MODULE) $(MODULE).new

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
