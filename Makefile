# Everything runs in .venv, which is made from requirements.lock on first use.
# Another Python than the first suitable one on the PATH: make PYTHON=/path/to/python3.12 demo

SHELL := /bin/sh
READY := .venv/.ready
RUN := .venv/bin/python

.PHONY: help demo report page test check proofs soak bench lock environment clean
.DEFAULT_GOAL := help

help:  ## print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: $(READY)  ## the main job on a made cohort: figures, tables and the MLflow command, in minutes
	@$(RUN) study/label_fraction.py --preset demo

report: $(READY)  ## the paper of the study that was collected last, or: make report STUDY=NAME
	@$(RUN) reports/make_report.py $(if $(STUDY),--study $(STUDY))

page: $(READY)  ## the study that was collected last as one HTML page, or: make page STUDY=NAME
	@$(RUN) reports/make_page.py $(if $(STUDY),--study $(STUDY))

test: $(READY)  ## every test
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist worksteal

check: $(READY)  ## style and types: ruff and mypy --strict
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

proofs: $(READY)  ## long simulations behind docs/statistics.md and docs/protocol.md: about two hours
	@$(RUN) -m proofs.false_positives
	@$(RUN) -m proofs.ranking
	@$(RUN) -m proofs.unseen_differences
	@$(RUN) -m proofs.coverage
	@$(RUN) -m proofs.bootstrap_speed
	@$(RUN) -m proofs.search_gain
	@$(RUN) -m proofs.near_duplicates --data $(or $(MELSSL_DATA),../shared/data)

soak: $(READY)  ## kill studies at random and compare every bit: make soak MINUTES=10
	@OMP_NUM_THREADS=1 $(RUN) -m proofs.soak --minutes $(or $(MINUTES),10)

bench: $(READY)  ## speed, each figure beside the obvious way's
	@$(RUN) benchmarks/run.py

environment: $(READY)  ## make or update .venv only
	@:

lock:  ## write requirements.lock and conda.yaml from pyproject.toml; UPGRADE=1 for newer versions
	@$(SUITABLE) "$$python" tools/lock.py $(if $(UPGRADE),--upgrade)

clean:  ## remove the environment and all caches; outputs/ stays
	-@if [ -x $(RUN) ]; then $(RUN) tools/mlflow_environment.py --remove; fi
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A clone that was moved or copied has an environment that points to the old place.
ifneq ($(shell head -n 1 $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

$(READY): pyproject.toml requirements.lock tools/environment.py tools/mlflow_environment.py
	@$(SUITABLE) "$$python" tools/environment.py

# Sets $python to the first that runs and has the right version. A name on the PATH may be a shim
# that leads nowhere, so each is tried; the last word is uv's, which knows Pythons off the PATH.
define SUITABLE
python=; \
for each in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 \
    "$$(uv python find --no-python-downloads '>=3.11,<3.14' 2>/dev/null)"); do \
  if "$$each" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
  then python="$$each"; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "make: no Python >= 3.11 and < 3.14 among: $(or $(PYTHON),python3.11 python3.12 python3.13 python3)." \
    "Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
fi;
endef
