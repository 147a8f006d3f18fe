"""Public names that are imported when they are used."""

import subprocess
import sys

import pytest

import retina_plugin.data
import retina_plugin.engine
import retina_plugin.inference
from retina_plugin.lazy import lazy_names


@pytest.mark.parametrize("package", [retina_plugin.data, retina_plugin.engine, retina_plugin.inference])
def test_every_public_name_exists(package):
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        lazy_names("a.b", {})("nothing")


@pytest.mark.slow
def test_what_an_exported_model_needs_is_imported_without_torch():
    program = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "detectron2", "fvcore", "timm"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import retina_plugin
from retina_plugin.inference import PredictionFiles, find_sources, predict_stream
from retina_plugin.export.runtime import ExportedModel
try:
    retina_plugin.load_predictor
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "retina doctor" in result.stdout
