# Needs Python 3.11+ and nothing else. `make run` for a working gateway, `make test` for the whole suite.
PYTHON ?= python3
JOBS ?= auto

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r
UV := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test soak bench scale clients litellm-check messy-upstream lint format lock clean

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 16

install: .venv/.installed ## make .venv with the run-time requirements

install-dev: .venv/.installed-dev

run: install ## bootstrap, then the web server and the worker; Ctrl-C stops both
	@exec $(BIN)/python manage.py run

test: install-dev ## the whole suite, on PostgreSQL (DATABASE_URL, else one brought along) and on SQLite
	@failed=; for db in postgres sqlite; do \
		echo; echo "==> pytest --db=$$db"; \
		$(BIN)/python -m pytest --db=$$db -n $(JOBS) || failed="$$failed $$db"; \
	done; \
	if [ -n "$$failed" ]; then echo "Failed on:$$failed"; exit 1; fi

lint: install-dev ## style, types, import rules, migrations, deployment checks, API schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	TOLLGATE_ENV=test TOLLGATE_DATA_DIR=.mypy_cache/data $(BIN)/mypy
	TOLLGATE_ENV=test $(BIN)/lint-imports
	TOLLGATE_ENV=test $(BIN)/python manage.py makemigrations --check --dry-run
	@echo "manage.py check --deploy --fail-level WARNING (production settings, fresh secrets)"
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	token() { $(BIN)/python -c "import secrets; print(secrets.token_urlsafe($$1))"; } && \
	TOLLGATE_ENV=production TOLLGATE_DATA_DIR="$$folder" DATABASE_URL= DEBUG= ALLOWED_HOSTS=gateway.invalid \
	SECRET_KEY=$$(token 64) ENCRYPTION_KEY=$$(token 32) KEY_PEPPER=1:$$(token 32) METRICS_TOKEN=$$(token 32) \
	$(BIN)/python manage.py check --deploy --fail-level WARNING
	TOLLGATE_ENV=test $(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

format: install-dev ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: install-dev ## the long storm of clients and kills, then every fault again and again: SEED=7 SECONDS=600 ROUNDS=5
	$(BIN)/python -m tests.soak.storm $(if $(SEED),--seed $(SEED)) --seconds $(or $(SECONDS),120)
	$(BIN)/python -m tests.soak.faults $(if $(SEED),--seed $(SEED)) --rounds $(or $(ROUNDS),2)

bench: install-dev ## what the gateway adds, against the goals: QUICK=1 JSON=1 TARGETS="name=port,key,path,model" UPSTREAM_PORT=
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(JSON),--json) \
		$(if $(UPSTREAM_PORT),--upstream-port $(UPSTREAM_PORT)) $(TARGETS)

scale: install-dev ## reports, lists and pages on ROWS=10000000 usage rows, against the goals: KEEP=1 EXPLAIN=1 ONLY="request log" USE=FILE
	@$(BIN)/python -m bench.scale --rows $(or $(ROWS),10000000) $(if $(KEEP),--keep) $(if $(EXPLAIN),--explain) \
		$(if $(ONLY),--only "$(ONLY)") $(if $(USE),--use $(USE))

clients: install-dev ## third-party SDKs against a running gateway, each installed by itself under var/: ONLY="litellm ai-sdk"
	@$(BIN)/python -m tests.clients.clients_check $(ONLY)

litellm-check: install-dev ## Tollgate in front of a real LiteLLM proxy, installed by itself under var/
	@$(BIN)/python -m tests.clients.litellm_check

messy-upstream: install-dev ## Tollgate in front of `transformers serve`, installed by itself under var/
	@$(BIN)/python -m tests.clients.messy_upstream

lock: install-dev ## renew requirements/*.txt from *.in
	$(UV) requirements/base.in -o requirements/base.txt
	$(UV) requirements/dev.in -o requirements/dev.txt
	$(UV) requirements/redis.in -o requirements/redis.txt
	$(UV) requirements/litellm.in -o requirements/litellm.txt
	for name in requirements/clients/*.in; do $(UV) $$name -o $${name%.in}.txt || exit 1; done

clean: ## remove the virtual environment and caches; var/ with your data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps make a second run a no-op. The .pth file puts the root and platform/ on the path of everything in .venv, so
# that celery, uvicorn and pytest work from the root.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tollgate needs Python 3.11 or newer; $$($(PYTHON) --version) is too old. Try: make PYTHON=python3.12"; exit 1; }
	@echo "Making .venv ..."
	@$(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "Python cannot make virtual environments here. On Debian: apt-get install python3-venv"; exit 1; }

.venv/.installed: requirements/base.txt | .venv/bin/python
	@echo "Installing requirements/base.txt ..."
	@$(PIP) requirements/base.txt
	@$(BIN)/python -c 'import pathlib, sys, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "tollgate.pth").write_text("\n".join(sys.argv[1:]) + "\n")' \
		"$(CURDIR)" "$(CURDIR)/platform"
	@touch $@

.venv/.installed-dev: requirements/dev.txt .venv/.installed
	@echo "Installing requirements/dev.txt ..."
	@$(PIP) requirements/dev.txt
	@touch $@
