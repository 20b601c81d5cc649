# The verbs. Each calls a script, cargo or Compose, nothing more.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help up ambassadors down status logs images test test-slow bench lint clean multihost multihost-down

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

up: ## set up what is missing, start everything, wait until it works
	@setup/up

ambassadors: ## instead: an ambassador for each client, in its own network
	@setup/ambassadors

down: ## remove everything that runs: containers, networks, volumes
	@setup/down

status: ## what runs, what is registered, what is served, how fast it mines
	@setup/status

logs: ## follow the logs of all three tiers and the application
	@setup/logs

images: ## build the images only
	@setup/packages docker && setup/images

test: ## every test, on real servers
	@setup/test $(ONLY)

test-slow: ## the same with a million random inputs, larger bursts, older and newer engines, longer faults
	@PROPTEST_CASES=$${PROPTEST_CASES:-5000} BURST=200 STORMS=1 STEADY=10 ENGINES="bookworm sid" MULTIHOST_SLOW=1 setup/test $(ONLY)
	@registrator/tests/million

multihost: ## five Docker hosts on this machine, a Consul cluster, DockerCoins across them (Linux, root)
	@setup/multihost up

multihost-down: ## remove the five hosts and everything on them
	@setup/multihost down

bench: ## the measurements, on a stack of their own
	@setup/packages docker build && setup/images && bench/run

lint: ## rustfmt, clippy, shellcheck
	@setup/lint

clean: ## down, and remove our images and everything built
	@setup/down --images
	@rm -rf target
