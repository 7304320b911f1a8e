# make submission    train the example (if its checkpoint is missing), pack it, verify it by running it
# make test          the test suite; it needs no network
# make in-the-run    train, pack and evaluate the example in one run by two processes, then run the file that it wrote
# make environments  other Pythons with numpy, for the tests, as far as such Pythons are installed; done once, before make test
# make lint          ruff and mypy
# make bench-build   time and memory of calibrate, fit, build, verify and load against BASELINE; hours

PYTHON ?= python3
MINUTES ?= 1.5
SIZE ?= 4M
BUDGET ?= 16000000
BASELINE ?= $(shell git describe --tags --abbrev=0 2>/dev/null || echo a3bf59b)

EXAMPLE := records_examples/stdlib_gpt
CHECKPOINT := runs/stdlib_gpt/checkpoint.safetensors
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: submission in-the-run test environments lint bench-build clean

submission: $(INSTALLED) $(CHECKPOINT)
	$(BIN)/golfpack build $(EXAMPLE)/train_gpt.py --weights $(CHECKPOINT) --recipe $(EXAMPLE)/recipe.toml \
		--budget $(BUDGET) -o dist/train_gpt.py
	$(BIN)/golfpack verify dist/train_gpt.py --budget $(BUDGET) --against $(CHECKPOINT) --run

in-the-run: $(INSTALLED)
	OUTPUT=dist/in_the_run/train_gpt.py BYTES_CAP=$${BYTES_CAP:-400000} MAX_WALLCLOCK_SECONDS=$${MAX_WALLCLOCK_SECONDS:-30} \
		NUM_LAYERS=$${NUM_LAYERS:-4} MODEL_DIM=$${MODEL_DIM:-128} \
		$(BIN)/torchrun --standalone --nproc_per_node=2 records_examples/in_the_run/train_gpt.py --train
	$(BIN)/python dist/in_the_run/train_gpt.py

test: $(INSTALLED) environments
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=90

environments: $(INSTALLED)
	$(BIN)/python tests/interpreters.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-build: $(INSTALLED)
	$(BIN)/python benchmarks/build.py --baseline $(BASELINE)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[codecs,example,test]"
	touch $@

# Order-only: a newer installation is no reason to train again.
$(CHECKPOINT): | $(INSTALLED)
	$(BIN)/python $(EXAMPLE)/train_gpt.py --train --minutes $(MINUTES) --size $(SIZE) --checkpoint $@

clean:
	rm -rf .venv dist runs
