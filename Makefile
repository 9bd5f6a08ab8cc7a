# Every target makes .venv first. `make demo` shows the product at work, `make test` is the whole gate, `make bench` measures,
# `make simulate SEEDS=n` or `SEED=k` plays more of the simulation than the gate has time for.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install dev demo run test simulate bench pins
install: .venv/.runtime

.venv/.runtime: requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or newer is needed: PYTHON=python3.12 make ..."; exit 1; }
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || { echo "Python's venv is missing. On Debian: sudo apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	@touch $@

dev: .venv/.dev
.venv/.dev: .venv/.runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

demo: install
	@$(BIN)/python manage.py demo $(if $(ONCE),--once)

run: install
	@$(BIN)/python -m connector_site.envfile
	@$(BIN)/python manage.py run

test: dev
	@$(BIN)/python -m tests.gate

simulate: dev
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),20)) $(if $(FIRST),--first $(FIRST)) $(if $(CHANGES),--changes $(CHANGES))
bench: install
	@$(BIN)/python manage.py bench $(NAMES)

pins: dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header requirements-dev.in -o requirements-dev.txt
