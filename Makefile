# make quickstart and make test need nothing but Python 3.10+ with pip and venv.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

.PHONY: quickstart test setup doctor clean

quickstart: setup
	$(PY) -m retina_plugin quickstart

test: setup
	$(PY) -m pytest -n 2

setup: $(READY)

# Runs again only when what has to be installed changes.
$(READY): requirements.txt requirements-detectron2.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -r requirements.txt
	$(PY) -c "import detectron2" 2>/dev/null || $(PY) -m pip install --no-deps --require-hashes --only-binary=:all: --python-version 3.10 \
	    --target "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" -r requirements-detectron2.txt
	$(PY) -m pip install --no-deps --no-build-isolation -e .
	$(PY) -m retina_plugin doctor
	touch $(READY)

doctor: setup
	$(PY) -m retina_plugin doctor

clean:
	rm -rf $(VENV) output build *.egg-info
