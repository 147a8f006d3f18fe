"""The config of Detectron2's RetinaNet for a checkpoint: sizes, ratios and levels, and what it does not have."""

import pytest
import torch
from exported import exact_predictor, photos, small_checkpoint
from support import BASE

from retina_plugin.export.to_detectron2 import (
    _sizes_and_ratios,
    detectron2_config,
    prove_detectron2,
    write_detectron2,
)

pytestmark = pytest.mark.slow


def test_sizes_and_ratios_of_anchors():
    # Areas 16^2 and 32^2, each with height / width of 0.5 and 2.
    half, double = 0.5**0.5, 2**0.5
    sides = [(16 / half, 16 * half), (16 / double, 16 * double), (32 / half, 32 * half), (32 / double, 32 * double)]
    cell = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides])
    sizes, ratios = _sizes_and_ratios([cell])
    assert sizes == [pytest.approx([16, 32], rel=1e-6)] and ratios == [pytest.approx([0.5, 2], rel=1e-6)]


@pytest.mark.parametrize(
    "keys",
    [
        {"MODEL.FPN.NORM": "GN", "MODEL.FPN.OUT_CHANNELS": 64},  # without a norm all scores of a random network are 1
        {"MODEL.RETINANET.LEVELS": [3, 4, 5], "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0]]},
        {
            "MODEL.RETINANET.NUM_CONVS": 2,
            "MODEL.RETINANET.NORM": "GN",
            "MODEL.FPN.NORM": "GN",
            "MODEL.FPN.OUT_CHANNELS": 64,
        },
    ],
)
def test_the_same_detections_or_a_refusal_by_name(tmp_path, keys):
    predictor = exact_predictor(small_checkpoint(tmp_path, BASE, **keys))
    file = tmp_path / "theirs.pth"
    if keys.get("MODEL.RETINANET.LEVELS") == [3, 4, 5]:  # Detectron2's builder always adds P6 and P7
        with pytest.raises(ValueError, match="has other weights"):
            write_detectron2(predictor, file)
        return
    write_detectron2(predictor, file)
    lines, wrong = prove_detectron2(file, predictor, photos(tmp_path / "photos"))
    assert wrong == [] and "0 in one only" in lines[0] and not lines[0].startswith("0 detections")


def test_a_network_that_is_no_resnet_is_refused(tmp_path):
    predictor = exact_predictor(small_checkpoint(tmp_path))
    with pytest.raises(ValueError, match="has a ResNet; the checkpoint has build_retina_timm"):
        detectron2_config(predictor)


def test_a_head_that_detectron2_lacks_is_refused(tmp_path):
    predictor = exact_predictor(small_checkpoint(tmp_path, BASE, **{"MODEL.RETINANET.HEAD_NAME": "distribution"}))
    with pytest.raises(ValueError, match="no head distribution"):
        detectron2_config(predictor)
