# `make pretrain` and `make test` each set up all they need. A SIGTERM to make is passed on to the command that it runs, but not by a shell in
# between: so a line of a recipe is one command, which replaces its shell. VENV= chooses the environment, ARGS= passes overrides:
#   make pretrain ARGS="stages.stage2_steps=200 output_dir=runs/short"
VENV ?= .venv
PYTHON ?= python3
ARGS ?=
RUN := exec $(VENV)/bin/python
# One stamp per checkout, so that an environment shared by several checkouts imports the one that it is called from.
STAMP := $(VENV)/.hcmoco-$(shell pwd | cksum | cut -d' ' -f1)

# Whole trainings (recipe.py) take too long for all of them together.
BENCHES := $(filter-out benchmarks/_% benchmarks/gpu.py benchmarks/recipe.py,$(wildcard benchmarks/*.py))

.NOTPARALLEL:
.PHONY: help install pretrain tables fractions ablation versatility report people test test-slow test-long test-nodes test-cluster test-cluster-long lint format bench bench-gpu $(BENCHES) clean
help:
	@echo "make pretrain   synthetic people, both stages on two CPU cores, probes, export (3 minutes and a quarter on 2 cores with AVX512-BF16)"
	@echo "make tables     the paper's tables on synthetic people (about two hours on 2 cores; goes on where it stopped)"
	@echo "make test       the tests (make test-slow: several workers, kills, job submit; make test-long: more kills;"
	@echo "                make test-cluster, test-cluster-long: several nodes on this machine, as root)"
	@echo "make people     a contact sheet of synthetic people: people.png"
	@echo "make bench      the side-by-side benchmarks   make lint / make format   ruff and mypy"
	@echo "make bench-gpu  a training step on a GPU, in every precision, beside ResNet-50"
	@echo "VENV=$(VENV)   ARGS=key=value ... overrides of the recipe"

install: $(STAMP)
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; choose another with PYTHON=python3.12"; exit 2; }
	@echo "installing into $(VENV): PyTorch and Ray, about 5.5 GB"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
# On all cores, where pip compiles on one. Some packages carry templates that do not compile.
	@$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true
	@rm -f $(VENV)/.hcmoco-*; touch $@

pretrain: install
	@$(RUN) pipelines/pretrain.py --recipe people-cpu $(ARGS)

# Every table of the paper that can be made on synthetic people: what is done already is not done again, and what fails does not stop the
# rest. RECIPE=people-gpu ARGS="--gpus 1 --cpus 4 --threads 4" for the large ones on GPUs; SEEDS=5 trains every cell with the seeds 0 to 4.
RECIPE ?= people-cpu
tables: install
	@$(MAKE) --no-print-directory --keep-going fractions ablation versatility report
fractions: install
	@$(RUN) tuning/label_fractions.py --grid $(RECIPE) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)
ablation: install
	@$(RUN) tuning/ablation.py --grid ablation-$(RECIPE) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)
versatility: install
	@$(RUN) tuning/versatility.py --recipe $(RECIPE) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)
report: install
	@$(RUN) pipelines/report.py results/$(RECIPE)

people: install
	@$(RUN) pipelines/prepare.py people --out data/people-look --count 8 --domain indoor
	@$(RUN) pipelines/prepare.py sheet data/people-look people.png

# The tests of a file stay in one of two processes; which file comes first is said in tests/conftest.py.
PARALLEL := -n 2 --dist loadgroup --no-loadscope-reorder
# Random order each time (the seed is printed; repeat one with ARGS="-p randomly -p 'randomly_seed=...'").
test: install
	@$(RUN) -m pytest -q -m "not slow and not long and not cluster" $(PARALLEL) $(ARGS)

test-slow: install
	@$(RUN) -m pytest -q -m "slow and not long and not cluster" $(PARALLEL) $(ARGS)

# More kills, signals and trainings, which take minutes each; .ci/run leaves them out.
test-long: install
	@$(RUN) -m pytest -q -m "long and not cluster" $(PARALLEL) $(ARGS)

# One training over two nodes, one of which is killed.
test-nodes: install
	@$(RUN) -m pytest -q -m cluster tests/cluster/test_training.py -k "lost_node and 1" $(ARGS)

# One process: the nodes of all tests are the same four, with Rays of their own.
test-cluster: install
	@$(RUN) -m pytest -q -m "cluster and not long" $(ARGS)

# A grid and a sweep that lose a node and their program, and a job that Slurm puts back into its queue.
test-cluster-long: install
	@$(RUN) -m pytest -q -m "cluster and long" $(ARGS)

lint: install
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: install
	-@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: install $(BENCHES)
$(BENCHES): install
	@$(RUN) $@ $(ARGS)

# Needs a GPU and nothing else: no Ray is started, nothing is read.
bench-gpu: install
	@$(RUN) benchmarks/gpu.py $(ARGS)
	@$(RUN) benchmarks/decode.py --device cuda

clean:
	rm -rf runs data people.png .pytest_cache .ruff_cache .mypy_cache
