# The verbs. Each calls a script, cargo or Compose, nothing more.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help up down status logs images test test-slow bench lint clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

up: ## set up what is missing, start everything, wait until it works
	@setup/up

down: ## remove everything that runs: containers, networks, volumes
	@setup/down

status: ## what runs, what is registered, what is served, how fast it mines
	@setup/status

logs: ## follow the logs of all three tiers and the application
	@docker compose logs --follow --tail 20

images: ## build the images only
	@setup/packages docker && setup/images

test: ## every test, on real servers
	@setup/test

test-slow: ## the same with many more random cases
	@PROPTEST_CASES=$${PROPTEST_CASES:-5000} setup/test

bench: ## the measurements, on a stack of their own
	@setup/packages docker build && setup/images && bench/run

lint: ## rustfmt, clippy, shellcheck
	@setup/lint

clean: ## down, and remove our images and everything built
	@setup/down --images
	@rm -rf target
