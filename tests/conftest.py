"""Fixtures of all tests."""

import os

# Tests run in two processes at the same time (pytest -n 2), and some start further processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("DETECTRON2_DATASETS", None)

import pytest
import torch


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory):
    """A few images of the bundled dataset."""
    from retina_plugin.data.digits import generate_digits

    root = tmp_path_factory.mktemp("digits") / "digits"
    generate_digits(root, splits={"train": 8, "val": 4})
    return root


@pytest.fixture()
def small_digits(digits_root, monkeypatch):
    """Make the registered digits those few images."""
    monkeypatch.setenv("RETINA_ROOT_DIGITS", str(digits_root))
    return digits_root
