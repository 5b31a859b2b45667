# What a person types: `make demo` and `make test`. What CI types: `.ci/run`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The demo's sandbox: another name has its hosts at other addresses and leaves this one alone.
SANDBOX ?= default
# What the demo builds: `release`, or `dev` where compiling shall be quick.
PROFILE ?= release

.PHONY: help install demo tour demo-down test lint unit doc-tests prove bench fmt schemas

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: ## Install the Debian packages the sandbox and the build need (as root)
	scripts/install

demo: ## Three real hosts, one directory, one LXD cluster (as root); again: changes nothing
	SANDBOX=$(SANDBOX) PROFILE=$(PROFILE) scripts/demo

tour: ## Run the commands of the README's tour on the demo's cluster
	SANDBOX=$(SANDBOX) PROFILE=$(PROFILE) scripts/tour

demo-down: ## Take the demo down; nothing is left but the base for the next one
	SANDBOX=$(SANDBOX) PROFILE=$(PROFILE) scripts/demo down

test: lint unit doc-tests ## All that CI checks: format, lints, tests

lint: ## Format, lints, shell
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	for script in scripts/* .ci/run; do bash -n $$script; done

unit:
	scripts/unit

doc-tests:
	cargo test --locked --quiet --doc

prove: ## The long tests on real hosts, with their tables (as root; an hour)
	scripts/prove

bench: ## Benchmarks (as root)
	cargo bench --locked

fmt: ## Format the sources
	cargo fmt

schemas: ## Write manifests/schemas and docs/kinds anew from the kinds
	cargo run --locked --quiet -- schema --write manifests/schemas
	cargo run --locked --quiet -- explain --write docs/kinds
