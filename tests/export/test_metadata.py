"""The description of a file survives, and others are refused."""

import json

import pytest
from exported import exact_predictor, small_checkpoint

from retina_plugin.export.metadata import Metadata
from retina_plugin.export.writers import describe

pytestmark = pytest.mark.slow


def test_a_description_is_read_back(tmp_path):
    predictor = exact_predictor(small_checkpoint(tmp_path))
    metadata = describe(predictor, precision="fp32", thresholds=[0.5] * 10)
    assert Metadata.from_json(metadata.to_json(), "x") == metadata
    assert metadata.class_names == [str(k) for k in range(10)] and metadata.image_size == [60, 80]


@pytest.mark.parametrize("text", ["", "{}", "3", json.dumps({"class_names": ["a"]})])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"x\.onnx was not written by `retina export`"):
        Metadata.from_json(text, "x.onnx")
