# make demo    the main job, offline: design → run → review → costs
# make test    every test
# make lab     JupyterLab on the quickstart
# make check   format, lint, types
# make bench   the benches; each exits non-zero when a figure misses
SHELL := /bin/bash
# the first Python that runs and is new enough; a shim may be there without its Python
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$name; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
LITELLM := litellm[proxy]>=1.100,<2
MCP_SERVERS := mcp-server-time mcp-server-git
MCP_NODE_SERVERS := @modelcontextprotocol/server-everything
# tests mostly wait, so four processes suit two cores; a file's tests stay together
PYTEST ?= $(BIN)/python -m pytest -n 4 --dist loadfile

.PHONY: demo test lab check bench clean chromium dovecot postgresql litellm mcp

demo: $(VENV)/.lab
	@$(BIN)/python notebooks/demo.py

lab: $(VENV)/.lab
	@$(BIN)/jupyter lab notebooks/01-quickstart.ipynb

test: $(VENV)/.test chromium dovecot postgresql litellm mcp
	@$(PYTEST)

check: $(VENV)/.test
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(VENV)/.test
	@failed=0; for bench in bench/[a-z]*.py; do echo "== $$bench"; $(BIN)/python $$bench || failed=1; done; exit $$failed

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name it with make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian, venv is a package of its own: apt-get install python3-venv"; exit 1; }

$(VENV)/.lab: pyproject.toml | $(BIN)/python
	@echo "Installing personas_nb and JupyterLab (a minute) …"
	@$(PIP) --editable '.[lab]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "Installing personas_nb and what its tests need (a minute or two) …"
	@$(PIP) --editable '.[lab,test,check,claude]'
	@touch $@ $(VENV)/.lab

# The browser tests look at a real JupyterLab.
chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing chromium …"; apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "The browser tests need chromium: apt-get install chromium (they are skipped without it)"; \
	  fi; }

# The mail tools are tested against a real IMAP server.
dovecot:
	@command -v dovecot /usr/sbin/dovecot >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing dovecot-imapd …"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dovecot-imapd >/dev/null; \
	  else \
	    echo "The mail tests need Dovecot, and root: apt-get install dovecot-imapd (they are skipped without it)"; \
	  fi; }

# Database credentials and postgres_query are tested against a real PostgreSQL.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing postgresql …"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null; \
	  else \
	    echo "The database tests need PostgreSQL: apt-get install postgresql (they are skipped without it)"; \
	  fi; }

# LiteLLM's proxy pins what it stands on, so it lives in an environment of its own, beside the tests'.
litellm: | $(BIN)/python
	@test -e $(VENV)/litellm/.installed || { \
	  echo "Installing LiteLLM in an environment of its own (a minute) …"; \
	  $(BIN)/python -m venv --clear $(VENV)/litellm && \
	  $(VENV)/litellm/bin/python -m pip install --quiet --quiet --disable-pip-version-check '$(LITELLM)' && \
	  touch $(VENV)/litellm/.installed; \
	} || { \
	  echo "The tests with a real LiteLLM proxy need it, and it could not be installed (they are skipped without it)"; \
	  rm -rf $(VENV)/litellm; test "$(CI)" != true; \
	}

# Real MCP servers, beside the tests' environment as well: they are programs, not libraries of ours.
mcp: | $(BIN)/python
	@test -e $(VENV)/mcp/.installed || { \
	  echo "Installing MCP servers in an environment of their own …"; \
	  $(BIN)/python -m venv --clear $(VENV)/mcp && \
	  $(VENV)/mcp/bin/python -m pip install --quiet --quiet --disable-pip-version-check $(MCP_SERVERS) && \
	  if command -v npm >/dev/null; then \
	    npm install --silent --no-fund --no-audit --prefix $(VENV)/mcp $(MCP_NODE_SERVERS); \
	  else \
	    echo "The tests with an MCP server of Node's need npm (they are skipped without it)"; test "$(CI)" != true; \
	  fi && \
	  touch $(VENV)/mcp/.installed; \
	} || { \
	  echo "The tests with real MCP servers need them, and they could not be installed (they are skipped without)"; \
	  rm -rf $(VENV)/mcp; test "$(CI)" != true; \
	}

clean:
	rm -rf $(VENV) .demo build dist .mypy_cache .pytest_cache .ruff_cache
