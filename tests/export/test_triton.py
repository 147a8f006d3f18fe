"""The config of a Triton model repository: shapes and types are those of the file. Triton itself is not run."""

import re

import pytest
from exported import exact_predictor, small_checkpoint

from retina_plugin.export.triton import configuration, write_repository
from retina_plugin.export.writers import describe, write_onnx

pytestmark = pytest.mark.slow

TYPES = {1: "TYPE_FP32", 7: "TYPE_INT64"}
"""Of ONNX: float, int64."""


@pytest.mark.parametrize("whole", [False, True])
def test_the_config_describes_the_file(tmp_path, whole):
    onnx = pytest.importorskip("onnx")
    predictor = exact_predictor(small_checkpoint(tmp_path))
    metadata = describe(predictor, precision="fp32", thresholds=None, nms_inside=whole)
    write_onnx(predictor, tmp_path / "x.onnx", metadata)
    text = write_repository(tmp_path / "x.onnx", metadata, tmp_path / "repository", "x").read_text()
    graph = onnx.load(str(tmp_path / "repository/x/1/model.onnx")).graph
    batched = "max_batch_size: 0" not in text
    assert batched is not whole and text.count("{") == text.count("}") and text.count("[ ") == text.count(" ]")
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        dims = [x.dim_value if x.dim_value else -1 for x in kind.shape.dim][int(batched) :]
        found = re.search(rf'name: "{value.name}" data_type: (\w+) dims: \[ ([-\d, ]+) \]', text)
        assert found and found[1] == TYPES[kind.elem_type], value.name
        assert len(found[2].split(", ")) == len(dims), value.name
        assert all(a == "-1" or int(a) == b for a, b in zip(found[2].split(", "), dims, strict=True) if b > 0)


def test_a_kind_without_a_backend_is_refused(tmp_path):
    predictor = exact_predictor(small_checkpoint(tmp_path))
    metadata = describe(predictor, precision="fp32", thresholds=None)
    with pytest.raises(ValueError, match="no backend for .pt2"):
        write_repository(tmp_path / "x.pt2", metadata, tmp_path, "x")
    assert configuration(metadata, "x", "openvino").startswith("# Written by `retina export`. Input: ")
