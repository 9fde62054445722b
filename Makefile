# `make help` lists the targets. Everything runs from .venv, which is made once from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
ON_JAX := $(addprefix tests/test_,backend.py threefry.py executions.py contrast.py blocks.py checks.py units.py rbm.py rbm_learning.py rbm_contract.py labeled.py sampling.py negatives.py \
	keras_fit.py keras_fit_changes.py changes_in_callbacks.py arrays_as_keras.py examples.py examples_batches.py recovery.py training.py linear_decay.py training_centered.py training_sample_weights.py callbacks.py stack.py greedy.py wake_sleep.py exact.py annealing.py likelihood.py numerics.py p_values.py \
	bad_inputs.py bad_numbers.py byte_order.py any_input.py compiling.py rectified.py variances.py draws.py live_likelihood.py tempering.py trajectory.py crossing.py missing.py smooth_filters.py)
# What one test lets JAX compile, another one need not: a quarter of the time of a first run.
KEEP_COMPILED := JAX_COMPILATION_CACHE_DIR=_build/.jax_cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
IN_PAIRS := -n 2 --dist loadfile # two processes, a file in one
NO_NOTEBOOKS := -p no:nbval # whose import takes two seconds, in each process
ONE_THREAD := TF_NUM_INTRAOP_THREADS=1 # each, where more would only get in each other's way
IN_BROWSER := $(wildcard tests/test_browser*.py)
CHAPTERS := $(shell ls -r chapters/*.ipynb) # the last ones first, which take longer
EXECUTE := $(BIN)/python tools/execute.py
export CHROMIUM ?= $(shell command -v chromium || command -v google-chrome)
EPUBCHECK := /usr/share/java/epubcheck.jar
BUILD := rm -rf _build/html && $(BIN)/jupyter-book build . --all -W -n --keep-going -q
export TF_CPP_MIN_LOG_LEVEL ?= 3
# TensorFlow's C++ code logs these lines whatever that level.
WITHOUT_LOGS := 2> >(grep --line-buffered -v -e absl::InitializeLog -e cudart_stub -e oneDNN >&2)
SHELL := bash

.DEFAULT_GOAL := help
.PHONY: help install book test lint unit chapters pages browser pdf epub notebooks bench format serve clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z ]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit( \
		"Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12. Received: " + sys.version)'
	@echo "Installing packages into .venv, about three minutes:"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

install: .venv/installed  ## create .venv and install everything into it

book: install  ## execute every chapter and build the pages into _build/html
	@rm -rf _build/.jupyter_cache
	@$(EXECUTE) $(CHAPTERS) index.md
	@echo "Building the pages, about a minute:"
	@$(BUILD) $(WITHOUT_LOGS)
	@echo "Open _build/html/index.html"

test: lint unit chapters browser  ## run every check; those in a browser where there is one

lint: install  ## check the style of code and notebooks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

unit: install  ## run the tests of the package, with branch coverage, and those of the models on JAX, too, but for slow ones
	@echo "Testing the package; a dot is a test:"
	$(ONE_THREAD) $(BIN)/pytest $(IN_PAIRS) $(NO_NOTEBOOKS) --cov --cov-report= --cov-fail-under=0 $(addprefix --ignore ,$(IN_BROWSER))
	$(KEEP_COMPILED) KERAS_BACKEND=jax $(BIN)/pytest $(IN_PAIRS) $(NO_NOTEBOOKS) -m "not slow" --cov --cov-append --cov-report= --cov-fail-under=0 $(ON_JAX)
	$(BIN)/coverage report

chapters: install  ## execute every chapter and compare what its claims print
	@echo "Executing the chapters and comparing what their claims print; a dot is a cell:"
	$(BIN)/pytest $(IN_PAIRS) --nbval-lax --nbval-current-env --nbval-cell-timeout=600 -p no:cacheprovider -p no:cov chapters

pages: install  ## build the pages from the outputs that are committed; warnings are errors
	@mkdir -p _build
	@sed -e 's|^execute:.*|&\n  exclude_patterns: [chapters/*]|' -e 's|: tools|: ../tools|g' _config.yml > _build/committed_outputs.yml
	@$(EXECUTE) index.md
	@echo "Building the pages, about a minute:"
	@$(BUILD) --config _build/committed_outputs.yml $(WITHOUT_LOGS)
	@echo "Open _build/html/index.html"

browser: pages  ## read every page in Chromium, where there is one
ifneq ($(CHROMIUM),)
	@echo "Reading the pages in a browser; a dot is a test:"
	$(BIN)/pytest $(IN_PAIRS) $(NO_NOTEBOOKS) -rs -p no:cacheprovider -p no:cov $(IN_BROWSER)
else
	@echo "Skipped: $(IN_BROWSER), which read the pages in a browser. They need \`chromium\`."
endif

pdf epub: pages  ## write the book into one file, in _build/book
	$(BIN)/python tools/one_file.py $@
	@if [ $@ = epub ] && [ -e $(EPUBCHECK) ]; then java -jar $(EPUBCHECK) _build/book/*.epub; fi

notebooks: install  ## execute the chapters in place, so that their outputs can be committed
	@$(EXECUTE) --in-place $(CHAPTERS)

bench: install  ## time training against scikit-learn and PyTorch, which are installed first
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/measure.py --name bench
	$(BIN)/python benchmarks/report.py benchmarks/results/bench.json

format: install  ## format code and notebooks
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: book  ## show the book at http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind localhost --directory _build/html

clean:  ## remove .venv and everything that was built
	rm -rf .venv _build .pytest_cache .ruff_cache .hypothesis .coverage
