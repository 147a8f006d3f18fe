"""examples/sahi: sliced prediction through SAHI, with a checkpoint and with an exported file."""

import importlib.util

import cv2
import numpy as np
import pytest
from exported import photos, small_checkpoint
from support import ROOT

from retina_plugin.cli.main import main

sahi = pytest.importorskip("sahi.predict", reason="sahi is not installed")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_detections_of_slices_are_where_the_detector_sees_them(tmp_path, kind):
    spec = importlib.util.spec_from_file_location("retina_model", ROOT / "examples/sahi/retina_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    file = small_checkpoint(tmp_path)
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        assert main(["export", str(file), "--output", str(tmp_path / "x.onnx")]) == 0
        file = tmp_path / "x.onnx"
    model = module.RetinaDetectionModel(model_path=str(file), confidence_threshold=0.2, device="cpu")
    image = cv2.imread(photos(tmp_path / "photos", [(64, 64)])[0])
    twice = np.concatenate([image, image], axis=1)[:, :, ::-1]  # two slices of the same pixels, RGB
    options = {"slice_height": 64, "slice_width": 64, "overlap_width_ratio": 0, "overlap_height_ratio": 0}
    found = sahi.get_sliced_prediction(
        twice, model, **options, perform_standard_pred=False, postprocess_match_threshold=1.0, verbose=0
    )
    boxes = sorted(tuple(np.round(x.bbox.to_xyxy(), 1)) for x in found.object_prediction_list)
    left = [box for box in boxes if box[2] <= 64]
    right = [(box[0] - 64, box[1], box[2] - 64, box[3]) for box in boxes if box[0] >= 64]
    assert len(left) > 3
    np.testing.assert_allclose(sorted(left), sorted(right), atol=0.11)
