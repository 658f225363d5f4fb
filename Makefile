# Every target is one line here and one sentence in `make help`; what it does is in deploy/controller/
# and deploy/demo/. Everything that is made stays in .venv, .slipway and .lab of the clone.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

CONTROLLER := deploy/controller
PYTHON := .venv/bin/python
CHECK := $(PYTHON) -m deploy.controller.phases
INVENTORY ?= inventories/lab
PORT ?= 8000

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The SSH connections of this clone, so that the end of the demo can close them and no others. The
# path of a socket is limited to about 100 characters, which a folder of the clone could exceed.
export ANSIBLE_SSH_CONTROL_PATH_DIR := /tmp/slipway-ssh-$(shell id -u)-$(shell pwd -P | cksum | cut -d ' ' -f 1)
GIT_SETTINGS := $(shell $(CONTROLLER)/gitconfig.sh)
ifneq ($(GIT_SETTINGS),)
export GIT_CONFIG_GLOBAL := $(GIT_SETTINGS)
endif

# A pipeline keeps what it was given in a folder, see docs/pipelines.md. The names of files are told,
# never what is in them; who may sign is not taken from the sources that are released.
ifneq ($(CREDENTIALS),)
KEPT := $(abspath $(CREDENTIALS))
SIGNERS ?= $(KEPT)/allowed_signers
export ANSIBLE_PRIVATE_KEY_FILE := $(KEPT)/ssh_key
export ANSIBLE_SSH_COMMON_ARGS := -o UserKnownHostsFile=$(KEPT)/known_hosts -o StrictHostKeyChecking=yes
ifneq ($(wildcard $(KEPT)/vault_password),)
export ANSIBLE_VAULT_PASSWORD_FILE := $(KEPT)/vault_password
endif
endif

##@ Try it
.PHONY: demo demo-down dev
demo: ## Boot a local host, provision it, release a tag onto it and tell how to use it (root)
	@started=$$(date +%s.%N) && \
	$(CONTROLLER)/require.sh demo root debian clean && \
	$(CONTROLLER)/packages.sh lab && $(CONTROLLER)/environment.sh all && \
	SLIPWAY_STARTED=$$started $(PYTHON) -m deploy.demo up

demo-down: ## Take the demo away: hosts, network, certificates and everything they wrote (root)
	@$(CONTROLLER)/require.sh demo-down root debian && $(CONTROLLER)/environment.sh all && \
	$(PYTHON) -m deploy.demo down

dev: environment-dev ## Run the service alone, reloading, on an SQLite file at http://127.0.0.1:PORT (8000)
	@$(CONTROLLER)/develop.sh $(PORT)

##@ Check it
.PHONY: test lint format test-roles test-app test-release test-hosts test-faults
test: ready-test ## Run everything that CI runs (root)
	@$(CHECK) lint test-roles test-app test-release test-hosts

lint: environment ## Judge the sources: ruff, mypy, import-linter, ansible-lint, yamllint, check-jsonschema, shellcheck, squawk
	@$(CHECK) lint

format: environment ## Bring the Python sources into shape
	@ruff check --fix --quiet . ; ruff format .

test-roles: environment ## Check templates, specs and inventories, without a host
	@$(CHECK) test-roles

test-app: environment ## Test the service on a real PostgreSQL and Redis, with its branch coverage
	@$(CHECK) test-app

test-release: environment ## Test the release tool, the artifact, the set-up and the demo
	@$(CHECK) test-release

test-hosts: ready-test-hosts ## Test booted Debian 12 and 13 hosts from bare to serving (root)
	@$(CHECK) test-hosts

test-faults: ready-test-hosts ## Hit releases on a booted host at every step, in every way of docs/reliability.md (root)
	@$(CHECK) test-faults

.PHONY: test-properties
test-properties: environment ## Send the service more than 10,000 requests made up from its OpenAPI document
	@SLIPWAY_EXAMPLES=$${SLIPWAY_EXAMPLES:-330} SLIPWAY_REQUESTS=$${SLIPWAY_REQUESTS:-10000} \
	    $(PYTHON) -m pytest -q tests/app/test_openapi_properties.py

.PHONY: bench-releases bench-accounts bench-catalogue bench-files bench-realtime
bench-releases: ready-test-hosts ## Measure ten releases and a rollback on a booted host under load (root)
	@$(PYTHON) -m tests.performance.releases

bench-accounts: ready-bench ## Measure logins and authenticated reads on this machine, against the bare driver
	@$(PYTHON) -m tests.performance.accounts

bench-realtime: ready-bench ## Measure live messages on this machine, against a bare handler
	@$(PYTHON) -m tests.performance.live_messages

bench-files: ready-bench ## Measure uploads and downloads of files on this machine, against a bare handler and Nginx alone
	@$(PYTHON) -m tests.performance.files

bench-catalogue: ready-bench ## Measure the catalogue and its cache on this machine, against bare handlers with the same I/O
	@$(PYTHON) -m tests.performance.catalogue

.PHONY: load
load: environment ## Send the demo a mixed load and tell and plot what came of it; USERS=40 SECONDS=60 RATE=10, or TARGET=https://… [CA=FILE]
	@$(if $(TARGET),,$(CONTROLLER)/require.sh load root &&) $(PYTHON) -m tests.performance.mixed \
	    $(if $(TARGET),"--target=$(TARGET)") $(if $(CA),"--ca=$(CA)") $(if $(USERS),"--users=$(USERS)") \
	    $(if $(SECONDS),"--seconds=$(SECONDS)") $(if $(RATE),"--rate=$(RATE)")

##@ Run the lab
.PHONY: lab-up lab-down lab-ssh lab-status
lab-up: ready-lab-up ## Boot bare lab hosts; ARGS="--host web1:debian-13:admin" says others than the default (root)
	@$(PYTHON) -m deploy.lab up $(ARGS)

lab-down: environment ## Take the lab down, but keep its image (root)
	@$(PYTHON) -m deploy.lab down

lab-ssh: environment ## Enter a lab host; HOST=web1 says which
	@$(PYTHON) -m deploy.lab ssh $(HOST)

lab-status: environment ## Tell the hosts of the lab and whether they run
	@$(PYTHON) -m deploy.lab status

##@ Release
.PHONY: tag verify artifact release rollback contract push-host
tag: environment ## Sign a tag of HEAD with the lab's key: make tag VERSION=v0.2.0
	@$(CONTROLLER)/require.sh tag clean version && $(PYTHON) -m deploy.demo tag $(VERSION)

verify: environment ## Check that a tag may be released: make verify VERSION=v1.4.2 [SIGNERS=FILE]
	@$(CONTROLLER)/require.sh verify version && \
	$(PYTHON) -m deploy.artifact check "--tag=$$VERSION" "--repository=$(or $(REPOSITORY),.)" \
	    "--allowed-signers=$(or $(SIGNERS),$(INVENTORY)/allowed_signers)"

artifact: environment ## Build what hosts take: make artifact VERSION=v1.4.2 [INVENTORY=… | TARGETS="3.13-x86_64 …"]
	@$(CONTROLLER)/require.sh artifact version && \
	INVENTORY="$(INVENTORY)" SIGNERS="$(SIGNERS)" $(CONTROLLER)/artifact.sh

release: environment ## Release a signed tag: make release VERSION=v1.4.2 [INVENTORY=… ARTIFACT=FILE SHA256=…]
	@$(CONTROLLER)/require.sh release version && \
	ansible-playbook -i $(INVENTORY) deploy/release.yml -e "release=$$VERSION" \
	    $(if $(SIGNERS),-e "release_allowed_signers=$(abspath $(SIGNERS))") \
	    $(if $(ARTIFACT)$(SHA256),-e "release_artifact=$(abspath $(ARTIFACT))" \
	        -e "release_artifact_sha256=$(SHA256)") $(ARGS)

rollback: environment ## Return to the last good release, or to VERSION=v1.4.1 [INVENTORY=…]
	@if [ -n "$$VERSION" ]; then $(CONTROLLER)/require.sh rollback version; fi && \
	ansible-playbook -i $(INVENTORY) deploy/rollback.yml $${VERSION:+-e "release=$$VERSION"} $(ARGS)

contract: environment ## Drop from the schema what only older releases need [INVENTORY=… ARGS=--check]
	@ansible-playbook -i $(INVENTORY) deploy/contract.yml $(ARGS)

push-host: environment ## Let this machine release what is pushed: make push-host KEYS=keys.pub INVENTORY=… (root)
	@$(CONTROLLER)/require.sh push-host root keys && \
	$(PYTHON) -m deploy.push set-up --inventory=$(INVENTORY) --keys=$(KEYS) \
	    $(if $(NAME),--name=$(NAME)) $(if $(SIGNERS),--allowed-signers=$(SIGNERS)) \
	    $(if $(DOWNGRADES),--downgrades=$(DOWNGRADES)) \
	    $(filter --check,$(ARGS)) '--arguments=$(filter-out --check,$(ARGS))'

.PHONY: credentials credentials-end
credentials: ## Keep a pipeline's key, known hosts, signers and vault password in the folder CREDENTIALS=/…
	@$(CONTROLLER)/credentials.sh keep "$(CREDENTIALS)"

credentials-end: ## Take them away again
	@$(CONTROLLER)/credentials.sh remove "$(CREDENTIALS)"

##@ Keep house
.PHONY: lock clean help
lock: environment ## Bring uv.lock in line with pyproject.toml; ARGS=--upgrade takes newer versions
	@.slipway/uv/bin/uv lock $(ARGS) && $(CONTROLLER)/environment.sh all

clean: ## Delete what set-up, builds and tests made; a running lab and its image stay
	@rm -rf .venv .slipway .ansible .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .import_linter_cache .coverage .coverage.*
	@find app deploy migrations roles tests -name __pycache__ -prune -exec rm -rf {} +

help: ## Tell every target in a sentence
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  make %-16s%s\n", $$1, $$2 }' Makefile

.PHONY: environment environment-dev ready-test ready-test-hosts ready-lab-up ready-bench
environment:
	@$(CONTROLLER)/environment.sh all

environment-dev:
	@$(CONTROLLER)/environment.sh dev

ready-test:
	@$(CONTROLLER)/require.sh test root debian && \
	$(CONTROLLER)/packages.sh lab tests && $(CONTROLLER)/environment.sh all

ready-test-hosts ready-lab-up:
	@$(CONTROLLER)/require.sh $(@:ready-%=%) root debian && \
	$(CONTROLLER)/packages.sh lab && $(CONTROLLER)/environment.sh all

ready-bench:
	@$(CONTROLLER)/packages.sh tests bench && $(CONTROLLER)/environment.sh all
