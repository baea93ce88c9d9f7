# Each target works on a fresh clone and is quick when nothing has changed.
#   make lab     set up, make the data, open JupyterLab      make run      execute the notebooks in place
#   make setup   set up alone, for the command rcnn-tutorial  make whole    tests that start whole programs
#   make test    set up, lint, unit tests, notebooks         make claims   docs/claims.md of a whole test run
#   make check   set up, unit tests alone                    make lint     set up, style and types alone
#   make bench   times beside torchvision's, in 15 minutes  make clean    remove the virtual environment
#   make slides  slides that need no network, in build/slides; MINUTES=50 for a shorter lecture
#   make handouts  a page or two without answers              make book   a site of files, in build/book
#   make docs    all three, and a look at every slide and link; it needs Chromium
#   make lab LAB=--no-browser hands options to JupyterLab, make bench BENCH="--minutes 5" to the benchmarks, and
#   make PYTHON=python3.12 ... names the interpreter.

PYTHON ?= python3
LAB ?=
BENCH ?=
MINUTES ?=
REPOSITORY ?=
BIN := .venv/bin
READY := .venv/ready
DOCS_READY := .venv/docs-ready

.PHONY: setup lab test check whole lint notebooks run claims bench slides handouts book docs clean

setup: $(READY)

lab: $(READY)
	$(BIN)/jupyter lab $(LAB) notebooks/

test: lint check whole notebooks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

# Each file's tests stay together, so that they share what the first of them made.
check: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -p no:nbval -m "not own and not whole" tests

# What starts whole programs: the command, several processes, killed trainings.
whole: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -p no:nbval -m whole tests

notebooks: $(READY)
	$(BIN)/python -m pytest -q --nbval notebooks/
	$(BIN)/python -m pytest -q -m own tests/test_own_folder.py

run: $(READY)
	$(BIN)/python tools/notebooks.py run

claims: export RCNN_CLAIMS_LOG := $(CURDIR)/claims.log
claims:
	rm -f claims.log
	$(MAKE) test
	$(BIN)/python -m rcnn_tutorial.course.claims claims.log

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH)

slides: $(DOCS_READY)
	$(BIN)/python -m tools.lecture slides $(MINUTES:%=--minutes %)

handouts: $(DOCS_READY)
	$(BIN)/python -m tools.lecture handouts

book: export REPOSITORY := $(REPOSITORY)
book: $(DOCS_READY)
	$(BIN)/python -m tools.lecture book

docs: slides handouts book
	$(BIN)/python -m tools.lecture check

clean:
	rm -rf .venv

# Install, then warm what would else print or wait in the first notebook: matplotlib's font cache and the data.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -c 'import matplotlib.pyplot'
	$(BIN)/python data_scripts/make_shapes.py
	touch $@

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@
