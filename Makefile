# Each target sets up what it needs on a fresh machine (python3 >= 3.11 with venv), then does its job.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test prove prove-full bench lint leaderboard docs clean

demo: .venv/ready
	$(BIN)/rmbench run -m demo -m length -m random -t rewardmath_mini -t best_of_n --out .demo/results
	$(BIN)/rmbench leaderboard build --folder .demo
	@echo
	@echo 'That was the demo: two tasks of ten and four answers to a prompt, chance beside each headline. To go on:'
	@echo '  source $(BIN)/activate                            # rmbench is in there'
	@echo '  rmbench view .demo/results                        # the same as a page, with plots and failures'
	@echo '  rmbench run -m ./my-checkpoint -m length -t preference --data preference=pairs.jsonl'
	@echo '  rmbench list tasks                                # what else there is; tables are in .demo/*.md'

# a file of tests a process, each with one thread: the models of most tests are so small that threads wait for one another
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

prove: .venv/ready
	$(BIN)/pytest -m prove -s
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/tiers.py
	$(BIN)/python benchmarks/compare.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/bootstrap.py
	$(BIN)/python benchmarks/tails.py
	$(BIN)/python benchmarks/overoptimise.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/fuzz.py

# hours: the same checks with the repetitions whose figures benchmarks/RESULTS.md holds; never part of CI
prove-full: .venv/ready
	$(BIN)/python benchmarks/coverage.py --full
	$(BIN)/python benchmarks/fuzz.py --full
	$(BIN)/python benchmarks/tiers.py --full
	$(BIN)/python benchmarks/compare.py --full
	$(BIN)/python benchmarks/overoptimise.py --full
	$(BIN)/python benchmarks/fingerprints.py
	$(BIN)/pip install -q -c constraints.txt trl bitsandbytes torchao gguf
	$(BIN)/python benchmarks/trainers.py
	$(BIN)/python benchmarks/one_sentence.py .demo/one_sentence --full
	$(BIN)/pip install -q -c constraints.txt 'trl<1.14'  # the last with PRMTrainer
	[ -z "$$RMBENCH_DATA" ] || $(BIN)/python benchmarks/real_families.py .demo/real
	[ -z "$$RMBENCH_DATA" ] || $(BIN)/python benchmarks/gemma.py .demo/gemma-3-270m
	$(BIN)/pytest tests/test_checkpoints.py -k 'nf4 or torchao'

bench: .venv/bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/likelihood.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/large.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

leaderboard: .venv/ready
	$(BIN)/rmbench leaderboard build

# what README, the docs and the cards show of the program itself, and of data
docs: .venv/ready
	$(BIN)/python docs/metrics.py
	$(BIN)/python docs/picture.py
	$(BIN)/python docs/cards.py

# torch is named first and alone: any wider request makes pip fetch gigabytes of CUDA
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("rmbench needs python >= 3.11, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

.venv/bench: .venv/ready
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	touch $@

clean:
	rm -rf .venv .demo .prove build dist *.egg-info
