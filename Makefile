# The two commands of the README: `make demo` and `make test`. Each does the whole set-up.
.DEFAULT_GOAL := help
PY := .venv/bin/python
DEMO := datasets/demo
DEMO_FACES := --dataset_root_path $(DEMO)/videos --output $(DEMO)/rgb --num_frames 8
DEMO_INDEX := --dataset_root_path $(DEMO)/rgb --output_file_path $(DEMO)/index
YAMLS := training/config/detector
OTHER_CORES := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores > 1 ? cores - 1 : 1)))
DEMO_RUN := logs/demo/$(shell date +%Y-%m-%d-%H-%M-%S)
WORKERS ?= auto
TABLE ?= all
SCALE ?= full

.PHONY: help setup demo demo-data reproduce test lint bench figures clean
help:            ## this list
	@grep -hE '^[a-z-]+: .*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

setup:           ## the environment in .venv
	@sh install.sh

demo: setup demo-data   ## the whole main job on synthetic faces: data, training, cross-dataset table, report
	@mkdir -p $(DEMO_RUN)
	@echo "clip_ln and clip_linear train beside it on one core; what they say is in $(DEMO_RUN)/beside.log"
	@( trap 'kill $$child; exit 143' TERM; for name in clip_ln clip_linear; do \
		OMP_NUM_THREADS=1 nice -n 19 $(PY) training/train.py --detector_path $(YAMLS)/demo_$$name.yaml \
			--log_dir $(DEMO_RUN)/$$name & child=$$!; wait $$child; \
	done ) > $(DEMO_RUN)/beside.log 2>&1 & beside=$$!; trap "kill $$beside" INT TERM; \
	OMP_NUM_THREADS=$(OTHER_CORES) $(PY) training/train.py --detector_path $(YAMLS)/demo.yaml \
		--log_dir $(DEMO_RUN)/clip_crossdomain; code=$$?; wait; exit $$code
	$(PY) analysis/leaderboard.py $(addprefix $(DEMO_RUN)/,clip_crossdomain clip_ln clip_linear) --out $(DEMO_RUN)/tables

demo-data: setup ## render the synthetic videos and bring them to aligned faces and indexes
	$(PY) preprocessing/demo_data.py --output $(DEMO)/videos
	$(PY) preprocessing/preprocess.py --dataset_name DemoForensics --layout FaceForensics++ $(DEMO_FACES)
	$(PY) preprocessing/preprocess.py --dataset_name DemoCeleb --layout custom $(DEMO_FACES)
	$(PY) preprocessing/preprocess.py --dataset_name DemoWild --layout custom $(DEMO_FACES)
	$(PY) preprocessing/rearrange.py --dataset_name DemoForensics --layout FaceForensics++ $(DEMO_INDEX)
	$(PY) preprocessing/rearrange.py --dataset_name DemoCeleb --layout custom $(DEMO_INDEX)
	$(PY) preprocessing/rearrange.py --dataset_name DemoWild --layout custom $(DEMO_INDEX)

reproduce: setup ## a table of the paper: TABLE=cross_domain|comparison|robustness|ablation|all SCALE=full|demo|tiny
	$(PY) analysis/reproduce.py $(TABLE) --scale $(SCALE) $(ARGS)

test: setup      ## the whole test suite, in parallel
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS)

lint: setup      ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy common preprocessing training prediction analysis benchmarks

bench: setup     ## measured comparisons
	$(PY) -m benchmarks all --quick

figures: setup   ## every picture of the README
	$(PY) -m figures.make

clean:           ## remove the environment and the demo's data
	rm -rf .venv $(DEMO)
