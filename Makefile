# Everything runs in .venv. PYTHON is any Python from 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := smollm2-135m-instruct
DEMO := runs/quickstart
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1

.PHONY: setup demo test slow browser lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[local,train,ui,dev]"
	$(BIN)/prefdata models fetch $(MODEL)
	touch $(STAMP)

# From prompts to a trained model, offline once installed.
demo: export OMP_WAIT_POLICY := passive  # two spinning threads on shared cores are five times slower than waiting ones
demo: setup
	HF_HUB_OFFLINE=1 $(BIN)/prefdata run quickstart --dataset $(DEMO)
	HF_HUB_OFFLINE=1 $(BIN)/prefdata train --data $(DEMO)/exports/pairs.parquet --model $(MODEL) --loss dpo \
		--out $(DEMO)/model --lora 8 --steps 20 --set batch_size=2 --set max_length=512
	$(BIN)/prefdata show $(DEMO) --pairs 3
	@echo
	@echo "Parquet  $(DEMO)/exports/pairs.parquet  $(DEMO)/exports/lists.parquet"
	@echo "report   $(DEMO)/report.html"
	@echo "model    $(DEMO)/model/"
	@echo "These labels exercise the pipeline; they are no measure of quality: see what the report says of the judge."

test: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not browser and not slow and not model"

# Kills, crowds, histories, processes, recipes run from end to end, and what asks the real small model: many seconds each.
slow: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "(slow or model) and not browser"

# The labelling application in Debian's chromium: apt-get install chromium.
browser: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m browser

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy prefdata annotators ui

bench: setup
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/view.py

clean:
	rm -rf $(VENV) build *.egg-info
